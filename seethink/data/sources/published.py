"""A source as it was published, read from its folder: rows of ours, and of every other record why it went.

A record without a key of the format, a file that cannot be read or a folder without pictures is an error: something is wrong
with all of it. A value that fits no rule, or a picture that is missing, drops its row with a reason.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from seethink.core.errors import UserError
from seethink.core.fields import MAX_SHOWN, as_text, refuse_tokens
from seethink.core.nouns import Drop, Sample, sample_from_row
from seethink.core.store import read_json, read_jsonl
from seethink.core.tables import read_table
from seethink.data.sources.source import Fields, Picture, Source, Unusable, find_image
from seethink.rewards.check import check_gold


class Loaded(NamedTuple):
    """Samples of a source in order, the dropped ones included, and the drops among them by sample id."""

    samples: list[Sample]
    drops: dict[str, Drop]
    aside: Path | None = None
    """The second file that was read, where there was one."""


def find_rows(source: Source, path: Path) -> Path:
    """The file of rows: the path itself, or the one that the format names below it. Raises UserError for none."""
    if not path.is_dir():
        return path
    for pattern in source.files:
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            remedy = f"Name one, e.g. --source {found[0]}"
            raise UserError(f"{len(found)} files match {pattern}", where=path, remedy=remedy)
        if found:
            return found[0]
    remedy = f"Get it from {source.published} and unpack it here, or name the file"
    raise UserError(f"no {source.files[0]} in this folder", where=path, remedy=remedy)


def read(source: Source, path: Path, images: Path | None, limit: int = 0) -> Loaded:
    """All records of a published source, or the first that make `limit` samples.

    Says how many there are beside the paper's number, and what was dropped.

    Raises UserError for a file of another format, an id used twice, and where no row is left.
    """
    file = find_rows(source, path)
    folder = path if path.is_dir() else _folder(source, file)
    roots = [base / part for base in ((images,) if images else (folder, file.parent)) for part in source.pictures]
    roots = [root for root in dict.fromkeys(roots) if root.is_dir()]
    aside = next((found for pattern in source.context_files for found in sorted(folder.glob(pattern))), None)
    contexts = _contexts(source, aside)
    samples: list[Sample] = []
    drops: dict[str, Drop] = {}
    seen: dict[str, str] = {}  # ids, and picture files with the name that led to them
    records = 0
    for number, (where, record) in enumerate(_records(file, source.key), 1):
        if limit and len(samples) >= limit:
            break
        try:
            made = list(_samples(source, number, record, contexts, roots))
        except KeyError as missing:  # of a published key, in the source's own file
            remedy = f"Give {source.title} as published at {source.published}, or another --format"
            raise UserError(f"record has no {missing.args[0]!r}", where=where, remedy=remedy) from None
        records += bool(made)
        for sample, name, fault in made:
            if seen.setdefault(f"id {sample.id}", where) != where:
                what = f"id {sample.id!r} was already used in {seen[f'id {sample.id}']}"
                raise UserError(what, where=where, remedy="Ids must be unique: repair or remove one")
            for image in sample.images:
                if (other := seen.setdefault(image, name)) != name:
                    what = f"images {other!r} and {name!r} lead to the same file {image}"
                    raise UserError(what, where=where, remedy="Give --images the folder that holds their folders")
            samples.append(sample)
            if fault:
                detail = f"{where}: {fault.detail}"
                drops[sample.id] = Drop(sample.id, source.name, "metadata", fault.reason, detail)
    _say(source, file, samples, drops)
    if not limit:
        _say_count(source, records)
    return Loaded(samples, drops, aside)


def _samples(
    source: Source, number: int, record: Fields, contexts: dict[str, str], roots: list[Path]
) -> Iterator[tuple[Sample, str, Unusable | None]]:
    """Sample, published name of its picture and fault of every question of a record."""
    given = as_text(record[source.id_key], source.id_key, "") if source.id_key else str(number)
    id, name = given if given.startswith(source.name) else f"{source.name}-{given}", ""
    try:
        questions = source.questions(record)
    except Unusable as fault:
        yield Sample(id, source.name, (), "", "", source.kind), "", fault
        return
    for turn, question in enumerate(questions, 1):
        bare = Sample(f"{id}-{turn}" if len(questions) > 1 else id, source.name, (), "", "", source.kind)
        try:
            name = source.image(question)
            path = find_image(name, roots, "")
            if path is None:
                raise Unusable("image", f"{name[:MAX_SHOWN]!r} is not below {' or '.join(map(str, roots))}")
            row = source.row(question, Picture(path, contexts.get(name, "")))
            yield _sample(source, bare, row, path), name, None
        except Unusable as fault:
            yield bare, name, fault
        except UserError as fault:
            yield bare, name, Unusable("malformed", fault.what)


def _sample(source: Source, bare: Sample, row: Fields, path: Path) -> Sample:
    """The row as a sample whose gold a reward can read. Raises Unusable and UserError for any other."""
    row, given = dict(row), row["given"]
    del row["given"]
    if row["gold"] != given and str(row["gold"]) != str(given):
        row["meta"] = row.get("meta", {}) | {"gt": given}
    fixed = {"id": bare.id, "source": source.name, "images": [str(path)], "licence": source.licence}
    sample = sample_from_row({"kind": source.kind, **row, **fixed})
    if not sample.question.strip():
        raise Unusable("malformed", "the question is empty")
    refuse_tokens((sample.question, sample.context, *sample.choices), "")
    problem = check_gold(sample) if sample.kind != "open" else "" if all(sample.golds) else "it is empty"
    if problem:  # what a scorer makes of an open one is the split's question, for RL alone
        raise Unusable("gold", f"{sample.gold[:MAX_SHOWN]!r}: {problem}")
    return replace(sample, question=sample.question.strip()) if not sample.places else sample


def _records(file: Path, key: str) -> Iterator[tuple[str, Fields]]:
    """(file and row, record) of a JSON array, of the list under a key, of JSON lines, or of a parquet table."""
    if file.suffix == ".jsonl":
        yield from ((f"{file}:{number}", row) for number, row in read_jsonl(file))
        return
    rows = read_table(file) if file.suffix == ".parquet" else read_json(file)
    if isinstance(rows, dict) and key:
        rows = rows.get(key)
    if not isinstance(rows, list):
        what = f"not a JSON array{f', nor an object with one under {key!r}' if key else ''}"
        raise UserError(what, where=file, remedy="Give the published file, or another --format")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            what = "record is not a JSON object"
            raise UserError(what, where=f"{file}[{number}]", remedy="Repair or remove it")
        yield f"{file}[{number}]", row


def _contexts(source: Source, aside: Path | None) -> dict[str, str]:
    """What the second file says, by picture. Raises UserError for a record that is not as published."""
    if not source.context:
        return {}
    if not aside:
        print(f"{source.name}: no {source.context_files[0]}: the captioner sees the pictures alone", file=sys.stderr)
        return {}
    texts = {}
    for where, record in _records(aside, source.context_key):
        try:
            name, texts[name] = source.context(record)
        except (KeyError, TypeError, Unusable) as fault:
            remedy = f"Give the published file, or move {aside.name} away"
            raise UserError(f"not as published ({fault})", where=where, remedy=remedy) from None
    return texts


def _folder(source: Source, file: Path) -> Path:
    """The folder that the published file lies in, or below, when it is the file that was named."""
    file = file.absolute()
    within = (file.parents[p.count("/")] for p in source.files if "**" not in p and file.match(p))
    return next(within, file.parent)


def _say(source: Source, file: Path, samples: list[Sample], drops: dict[str, Drop]) -> None:
    """What was dropped, on standard error. Raises UserError where nothing is left."""
    if not drops:
        return
    first = next(iter(drops.values()))
    if len(drops) == len(samples):
        remedy = "Give --images the folder of pictures" if first.reason == "image" else "Is it of another --format?"
        what = f"none of {len(samples):,} rows can be used, the first for {first.reason}: {first.detail}"
        raise UserError(what, where=file, remedy=remedy)
    reasons = sorted(Counter(drop.reason for drop in drops.values()).items())
    listed = ", ".join(f"{reason} {n:,}" for reason, n in reasons)
    what = f"{len(drops):,} of {len(samples):,} rows dropped: {listed}; the first: {first.detail}"
    print(f"{source.name}: {what}", file=sys.stderr)


def _say_count(source: Source, records: int) -> None:
    """A number of records that is not the paper's, with both."""
    began, kept, *_ = source.counts
    if began is None:
        print(f"{source.name}: {records:,} records; the paper does not say with how many it began", file=sys.stderr)
    elif records != began:
        print(f"{source.name}: {records:,} records; the paper began with {began:,} and kept {kept:,}", file=sys.stderr)
