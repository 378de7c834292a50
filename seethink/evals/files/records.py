"""Published benchmark files as records, whatever their container: JSON, JSONL, VLMEvalKit's TSV, Hugging Face parquet.

Boards say what the columns mean, `seethink import` reads the containers. Pictures inside a file (base64 in a TSV, bytes in
parquet) are written once, under the hash of their content. Tables are read row by row, so their size does not matter.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.fields import as_text
from seethink.core.nouns import Example, Sample
from seethink.core.store import DataRow, read_json
from seethink.data.imports.files import kind, rows
from seethink.evals.files.pictures import RecordPictures

AGAIN = "Download the file again"
MAX_LISTED = 10_000
"""Characters of a list that a table holds as text."""


class Record(NamedTuple):
    """One row of a published file."""

    where: str
    """file:row, or file:key of an object of objects"""
    key: str
    """Its name in an object of objects, else ''."""
    row: dict[str, Any]
    pictures: tuple[str, ...]
    """Files: of a row that names them, beside the file it stands in; of one that holds them, below `pictures`."""


def read_records(
    path: Path, pictures: Path | None = None, names: tuple[str, ...] = ("image",), base: Path | None = None
) -> Iterator[Record]:
    """Rows of a file, or of a folder of parquet shards. `names` are the columns that may name or hold pictures, best first.

    Names of pictures are relative to `base`, else to the file. Without a folder for `pictures`, those that stand in the file
    are left out. Raises UserError naming file and row.
    """
    path = Path(path)
    for file in shards(path) if path.is_dir() else [path]:
        found = RecordPictures(
            base or file.parent, pictures, lambda file=file: ((at, row) for at, _, row in _rows(file)), names
        )
        for where, key, row in _rows(file, names if pictures is None else ()):
            held = [row.pop(name, None) for name in names]
            yield Record(where, key, row, found.of(held, str(row.get("index", "")), where))


def shards(folder: Path) -> list[Path]:
    """The parquet files of a folder. Raises UserError where there are none."""
    if files := sorted(folder.rglob("*.parquet")):
        return files
    raise UserError("no parquet files in this folder", where=folder, remedy="Name the file of the benchmark")


def column(row: dict[str, Any], where: str, *names: str, default: str | None = None) -> str:
    """Text of the first of these columns that the row fills. Raises UserError where none is and there is no default."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return as_text(value, repr(name), where)
    if default is None:
        raise UserError(f"row has no {names[0]!r}", where=where, remedy="Give the published file of this benchmark")
    return default


def texts(value: Any, where: str) -> list[str]:
    """A list of texts, which a table holds as a Python list in a text. Raises UserError for anything else."""
    if isinstance(value, str) and len(value) <= MAX_LISTED:
        try:
            value = ast.literal_eval(value or "[]")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise UserError("its options are no list of texts", where=where, remedy=AGAIN)
    return list(value)


def data_row(record: Record, name: str, make: Callable[[], Sample]) -> DataRow:
    """The item that `make` makes of a record, or what is wrong with it in its place, under `name`."""
    try:
        sample = make()
        return DataRow(record.where, sample.id, Example(sample, ""))
    except UserError as fault:
        return DataRow(record.where, name, fault)


def unique(rows: Iterable[DataRow]) -> Iterator[DataRow]:
    """The rows; one whose id was there before becomes a fault in its place."""
    seen: dict[str, str] = {}
    for row in rows:
        name = row.read.sample.id if isinstance(row.read, Example) else ""
        if name and (first := seen.setdefault(name, row.where)) != row.where:
            what = f"id {name[:80]!r} was already used in {first}"
            row = row._replace(read=UserError(what, where=row.where, remedy="Ids must be unique"))
        yield row


def in_groups(rows: Iterable[DataRow]) -> Iterator[DataRow]:
    """Rows with ids `<group>/<member>`, groups in the order of their first row: so the first rows of a board are whole groups.
    Ids are unique."""
    groups: dict[str, list[DataRow]] = {}
    for row in unique(rows):
        groups.setdefault(row.id.rpartition("/")[0], []).append(row)
    for members in groups.values():
        yield from members


def _rows(path: Path, unread: tuple[str, ...] = ()) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where, key, row); of parquet without columns that are `unread`, unless those are plain names."""
    kind(path)  # a pointer of Git LFS is refused before it is read as JSON
    if path.suffix.lower() == ".json":
        yield from _objects(path)
        return
    for found in rows(path, unread):
        if isinstance(found.row, UserError):
            raise UserError(found.row.what, where=found.where, remedy=AGAIN)
        yield found.where, "", found.row


def _objects(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    value = read_json(path)
    pairs = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else None
    if pairs is None:
        raise UserError("neither a list nor an object of rows", where=path, remedy="Give the published file")
    for key, row in pairs:
        if not isinstance(row, dict):
            raise UserError("row is not a JSON object", where=f"{path}:{key}", remedy="Give the published file")
        yield f"{path}:{key}", str(key) if isinstance(value, dict) else "", row
