"""The rows of a data run, read and checked: what is wrong with them is known before a single call is paid for.

They are kept beside the outcomes, in rows.sqlite: where neither the file they come from nor a picture nor our code has changed,
a resumed run takes them from there, which is many times faster than reading them again; a picture that did not change is not
decoded again in any case. In memory stand ids, sources and hashes; samples, whose texts may be long, are read when needed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.images import hash_pictures, image_hash, know_pictures, picture_state
from seethink.core.nouns import Drop, Sample
from seethink.core.store import hash_file, hash_json
from seethink.data.cache import CacheFile, Damaged, code_hash, remove_cache
from seethink.data.config import DataConfig
from seethink.data.load import find_broken, find_duplicates, load_source, unseen_pictures
from seethink.data.outcomes import row_hash
from seethink.data.sources import SOURCES
from seethink.data.sources.published import find_rows

FILE = "rows.sqlite"
TABLES = {
    "row": ("place INTEGER PRIMARY KEY", "sample_id TEXT", "source TEXT", "hash TEXT", "reason TEXT", "detail TEXT"),
    "sample": ("place INTEGER PRIMARY KEY", "body TEXT"),
    "picture": ("path TEXT PRIMARY KEY", "state TEXT", "hash TEXT", "sound INTEGER"),
    "made": ("name TEXT PRIMARY KEY", "value TEXT"),
}
FIELDS = tuple(field.name for field in fields(Sample))
READS = ("core", "rewards", "data/sources", "data/load.py", "data/checked.py", "data/outcomes.py")
"""Our code on which it hangs what is read and what is dropped."""


class CheckedRow(NamedTuple):
    """A row without its texts."""

    id: str
    source: str
    hash: str
    """See `row_hash`."""
    drop: Drop | None
    """Why it goes no further."""


class CheckedRows:
    """All rows of a run in order; their samples are in memory, or in the file where they are kept.

    rows      without their texts
    pictures  content hash of all pictures
    aside     the second file that was read, where there was one
    """

    def __init__(self, rows: list[CheckedRow], pictures: str, aside: Path | None, samples: list[Sample] | CacheFile):
        self.rows, self.pictures, self.aside, self._samples = rows, pictures, aside, samples
        self._key, self._looked = "", list[tuple[str, str, str, bool]]()

    def keep_as(self, key: str, looked: list[tuple[str, str, str, bool]]) -> CheckedRows:
        """Under which key `keep` writes them, and (path, state, hash, sound) of their pictures."""
        self._key, self._looked = key, looked
        return self

    def sample(self, place: int) -> Sample:
        """The sample of a row."""
        if isinstance(self._samples, list):
            return self._samples[place]
        ((body,),) = self._samples.run("SELECT body FROM sample WHERE place = ?", (place,))
        return _from_body(body)

    def keep(self, path: Path) -> None:
        """Write the rows to this file and forget their texts, unless they came from there, or would not read back equal."""
        samples = self._samples
        if not self._key or not isinstance(samples, list):
            return
        remove_cache(path)
        file = CacheFile(path, TABLES)
        light = (
            (n, row.id, row.source, row.hash, row.drop and row.drop.reason, row.drop and row.drop.detail)
            for n, row in enumerate(self.rows)
        )
        file.many("INSERT INTO row VALUES (?,?,?,?,?,?)", light)
        file.many("INSERT INTO sample VALUES (?,?)", enumerate(map(_body, samples)))
        file.many("INSERT INTO picture VALUES (?,?,?,?)", self._looked)
        if all(_from_body(body) == samples[n] for n, body in file.each("SELECT place, body FROM sample")):
            made = {"key": self._key, "pictures": self.pictures, "aside": str(self.aside or "")}
            file.many("INSERT INTO made VALUES (?,?)", made.items())
            file.commit()
            self._samples, self._looked = file, []
        else:  # a source may hold what JSON does not
            file.close()
            remove_cache(path)

    def close(self) -> None:
        """Close the file, where there is one."""
        if isinstance(self._samples, CacheFile):
            self._samples.close()


def check_rows(config: DataConfig) -> CheckedRows:
    """The rows of a run: those that an earlier process kept in its folder, or read and checked anew.

    Raises UserError for bad input.
    """
    path, known = config.out / FILE, {}
    if path.exists():
        try:
            file = CacheFile(path, TABLES)
            made = dict(file.run("SELECT name, value FROM made"))
            looked = file.run("SELECT path, state, hash, sound FROM picture")
            known = {name: (state, content) for name, state, content, sound in looked if sound}
            know_pictures(known)
            aside = Path(made["aside"]) if made.get("aside") else None
            if made.get("key") == _key(config, aside) and all(_state(name) == state for name, state, _, _ in looked):
                return CheckedRows(_light(file), made["pictures"], aside, file)
            file.close()
        except Damaged as fault:
            print(f"data: {fault.what}: the rows are read again", file=sys.stderr)
    return _read(config, known)


def _read(config: DataConfig, known: dict[str, tuple[str, str]]) -> CheckedRows:
    """From the source. `known` are pictures that were sound in that state: path -> (state, hash)."""
    samples, out, aside = load_source(config.source, config.format, config.images, config.limit)
    source = SOURCES.get(config.format)
    # what was missing may be there the next time, which no hash of what was read would tell
    partial = any(drop.reason == "image" for drop in out.values()) or bool(source and source.context and not aside)
    key = "" if partial else _key(config, aside)
    states = unseen_pictures(samples, known)
    out |= find_broken([sample for sample in samples if sample.id not in out], config.source, states)
    out |= find_duplicates([sample for sample in samples if sample.id not in out])
    rows = [CheckedRow(s.id, sys.intern(s.source), row_hash(s), out.get(s.id)) for s in samples]
    broken = {
        image
        for s, row in zip(samples, rows, strict=True)
        if row.drop and row.drop.reason == "image"
        for image in s.images
    }
    looked = []
    for image in dict.fromkeys(image for sample in samples for image in sample.images):
        state = states.get(image) or known[image][0]
        if _state(image) == state:  # else it was written while it was looked at, and is looked at again
            looked.append((image, state, image_hash(image), image not in broken))
        else:
            key = ""
    return CheckedRows(rows, hash_pictures(samples), aside, samples).keep_as(key, looked)


def _light(file: CacheFile) -> list[CheckedRow]:
    rows = []
    for name, source, content, reason, detail in file.each(
        "SELECT sample_id, source, hash, reason, detail FROM row ORDER BY place"
    ):
        drop = Drop(name, source, "metadata", reason, detail) if reason else None
        rows.append(CheckedRow(name, sys.intern(source), content, drop))
    return rows


def _key(config: DataConfig, aside: Path | None) -> str:
    """Everything that decides which rows are read from where; empty where it cannot be told."""
    file = find_rows(SOURCES[config.format], config.source) if config.format in SOURCES else config.source
    if not file.is_file() or aside and not aside.is_file():
        return ""
    places = [str(path.absolute()) if path else "" for path in (config.source, file, config.images, aside)]
    contents = [hash_file(path) for path in (file, aside) if path]
    return hash_json([places, contents, config.format, config.limit, code_hash(READS, ("pillow",))])


def _state(path: str) -> str:
    try:
        return picture_state(path)
    except OSError:  # which looking at it will say
        return ""


def _body(sample: Sample) -> str:
    return json.dumps([getattr(sample, name) for name in FIELDS])


def _from_body(body: str) -> Sample:
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in json.loads(body)]
    return Sample(*values)
