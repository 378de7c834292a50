"""What a benchmark is recognised by: hashes of its pictures and of the words of its questions, never the data itself.

A list is JSON lines: first what it covers, then a line for each item. `seethink fingerprint` makes one of a published file or
folder; those of BENCHMARKS (config.py) come with the package. A picture's hash is the 64-bit pHash (DCT of 32 x 32 grey values, the 8 x 8
lowest against their median) of what is left of it without its white margins, which copies of a diagram differ by most.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from seethink.core.errors import UserError
from seethink.core.images import open_image
from seethink.core.nouns import Sample
from seethink.core.progress import progress
from seethink.core.store import read_jsonl, typed
from seethink.data.config import BENCHMARKS

METHOD = "phash64-trimmed words13/8"
"""How lists are made; one that was made otherwise is refused."""
LONG, SHORT = 13, 8
"""Words in a row that are hashed: of questions that have as many, and of shorter ones; of even shorter ones the whole."""
SKETCH = 8  # hashes kept of an item: the smallest, a fair sample of its runs of words
SHARED = 10  # what more items have in common than this is a template, and tells nothing of one of them
MANY = 2000  # pictures from which on hashing them is worth a progress line
WHITE = 224  # grey values from here on are margin
_WORD = re.compile(r"[\u3040-\u9fff]|[^\W_\u3040-\u9fff]+")  # a Chinese or Japanese sign is a word


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """An item of a benchmark."""

    id: str
    whole: str
    """Hash of all words of its question."""
    run: int
    """How many words in a row `runs` are of: 13, 8, or 0 where the question has fewer."""
    runs: tuple[str, ...] = ()
    """Hashes of runs of its words, a sample of those that are not a template's."""
    pictures: tuple[int, ...] = ()
    """pHash of each picture."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """A list, and what it covers."""

    name: str
    """Short: mathvista."""
    title: str
    """As it is written in reports: MathVista testmini."""
    made: str
    """Date, as 2026-11-26."""
    complete: bool
    """Whether these are all items that the benchmark has."""
    items: tuple[Fingerprint, ...]

    def __str__(self) -> str:
        """What can be found by it."""
        shown, alone = sum(bool(i.pictures) for i in self.items), sum(bool(i.runs) for i in self.items)
        part = "" if self.complete else " (an excerpt)"
        pictures = f"{shown:,} with pictures" if shown else "without pictures"
        return (
            f"{self.title}{part}: {len(self.items):,} items of {self.made}, {alone:,} with a text to go by, {pictures}"
        )


def fingerprints(samples: Sequence[Sample], pictures: dict[str, int]) -> tuple[Fingerprint, ...]:
    """Of every sample; `pictures` holds the pHash of each file that there is."""
    split = [words(sample.question) for sample in samples]
    found = [runs(its, LONG if len(its) >= LONG else SHORT) for its in split]
    common = Counter(run for its in found for run in its)
    return tuple(
        Fingerprint(
            sample.id,
            hash_words(its),
            LONG if len(its) >= LONG else SHORT if len(its) >= SHORT else 0,
            tuple(sorted(run for run in hashes if common[run] <= SHARED)[:SKETCH]),
            tuple(pictures[path] for path in sample.images if path in pictures),
        )
        for sample, its, hashes in zip(samples, split, found, strict=True)
    )


def words(question: str) -> list[str]:
    """Words of a question, without regard to case, signs, full-width forms and marks of pictures."""
    return _WORD.findall(unicodedata.normalize("NFKC", re.sub(r"<image\d*>", " ", question)).casefold())


def runs(its: Sequence[str], length: int) -> set[str]:
    """Hashes of every `length` words in a row."""
    return {hash_words(its[at : at + length]) for at in range(len(its) - length + 1)}


def hash_words(its: Iterable[str]) -> str:
    return hashlib.blake2b(" ".join(its).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def picture_hash(image: Image.Image) -> tuple[int, bool]:
    """(pHash, whether it is plain: most of it one tone, as in diagrams, which resemble one another)."""
    grey = image.convert("L")
    ink = grey.point([255] * WHITE + [0] * (256 - WHITE))
    grey = grey.crop(ink.getbbox())  # None of a white page: all of it
    small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS))
    low = np.asarray(dctn(small.astype(float), type=2))[:8, :8]
    bits = np.packbits(low > np.median(low)).tobytes()
    tones = np.bincount(small.ravel() >> 4, minlength=16)
    return int.from_bytes(bits, "big"), bool(tones.max() > small.size / 2)


def hash_all(paths: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """path -> pHash and whether the picture is plain. Raises UserError for a picture that cannot be read."""
    paths = list(dict.fromkeys(paths))
    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("hashes", len(paths), show=len(paths) >= MANY) as bar:
        for path, its in zip(paths, pool.map(_hash_file, paths), strict=True):  # decoders release the interpreter lock
            found[path] = its
            bar.advance()
    return found


def _hash_file(path: str) -> tuple[int, bool]:
    return picture_hash(open_image(path))


def list_file(name: str) -> Path:
    """The file of a list: one of ours by its name, or a file. Raises UserError for anything else."""
    path = Path(str(files("seethink.data"))) / "benchmarks" / f"{name}.jsonl" if name in BENCHMARKS else Path(name)
    if not path.is_file():
        remedy = f"Use all, {', '.join(BENCHMARKS)}, or a file that `seethink fingerprint` made"
        raise UserError(f"no list of fingerprints {name!r}", remedy=remedy)
    return path


def list_files(names: Iterable[str]) -> list[Path]:
    """The files of lists, of which `all` are those that come with the package."""
    return [list_file(name) for given in names for name in (BENCHMARKS if given == "all" else (given,))]


def to_rows(found: Fingerprints) -> list[dict[str, object]]:
    """The rows of a list's file."""
    head = {"benchmark": found.name, "title": found.title, "made": found.made, "complete": found.complete}
    items = [
        {
            "id": i.id,
            "whole": i.whole,
            "run": i.run,
            "runs": list(i.runs),
            "pictures": [f"{p:016x}" for p in i.pictures],
        }
        for i in found.items
    ]
    return [{**head, "items": len(items), "method": METHOD}, *items]


def read_fingerprints(path: Path) -> Fingerprints:
    """A list. Raises UserError for a file that is none, is cut, or was made by another method."""
    rows = read_jsonl(path)
    _, head = next(rows, (0, {}))
    again = "Make it with `seethink fingerprint`"
    if head.get("method") != METHOD:
        what = f"made by the method {head['method']!r}" if "method" in head else "no list of fingerprints"
        raise UserError(what, where=path, remedy=again)
    items = tuple(_item(row, f"{path}:{number}") for number, row in rows)
    if len(items) != head.get("items"):
        raise UserError(f"holds {len(items)} of {head.get('items')} items", where=path, remedy=again)
    name, title, made = (typed(head, key, str, path) or "" for key in ("benchmark", "title", "made"))
    return Fingerprints(name, title, made, bool(typed(head, "complete", bool, path)), items)


def _item(row: dict[str, object], where: str) -> Fingerprint:
    try:
        pictures = tuple(int(str(p), 16) for p in _list(row["pictures"]))
        return Fingerprint(
            str(row["id"]), str(row["whole"]), int(str(row["run"])), tuple(map(str, _list(row["runs"]))), pictures
        )
    except (KeyError, TypeError, ValueError):
        what = "this row is no fingerprint of an item"
        raise UserError(what, where=where, remedy="Make the list with `seethink fingerprint`") from None


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value
