"""Rows of a file or folder, whatever its container: parquet, arrow, JSON, JSONL, CSV, TSV; a few rows in memory at a time.

Folders are those of `datasets` (save_to_disk) and those of parquet shards. The library itself is not needed: its Image is a
struct of bytes and path, and the names of its classes stand in the schema.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.filetype import unreadable
from seethink.core.store import read_json, read_lines
from seethink.data.sources.source import Fields

ROWS = 16  # of a table held at once, since each may hold pictures of megabytes
CHUNK = 1 << 20
LONGEST = 1 << 28
"""Characters of a row, or of a field: a bracket or quote that never ends would hold the rest of the file."""
SUFFIXES = (".parquet", ".arrow", ".json", ".jsonl", ".csv", ".tsv")
AGAIN = "Repair it, or write it again"
_SPLIT = re.compile(r"(.+?)-\d{5}-of-\d{5}$")


class TheirRow(NamedTuple):
    """A row as it stands in a file, or what is wrong with it."""

    where: str
    """file:row, from 1"""
    name: str
    """An id for a row that has none."""
    row: Fields | UserError
    units: int
    """How much of the file's `size` it is."""


def files_of(source: Path) -> list[Path]:
    """The file itself, those of a folder, or those that a pattern names (`data/train-*.parquet`), in order.

    Raises UserError where there are none, or where a folder holds several splits, which are not to be mixed.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        found = sorted(source.parent.glob(source.name)) if "*" in source.name else []
        return found or _none(source, "file not found", "Check the path")
    if (listed := source / "dataset_dict.json").is_file():
        splits = read_json(listed).get("splits", [])
        return files_of(source / splits[0]) if len(splits) == 1 else _several(source, [f"{source}/{s}" for s in splits])
    if (state := source / "state.json").is_file() and (parts := read_json(state).get("_data_files")):
        return [source / part["filename"] for part in parts]
    found = sorted(path for path in source.rglob("*") if path.suffix in (".parquet", ".arrow", ".tsv", ".jsonl"))
    splits = {str(path.parent / ((match := _SPLIT.match(path.stem)) and match[1] or path.stem)) for path in found}
    if len(splits) > 1:
        return _several(source, sorted(f"{split}*" for split in splits))
    return found or _none(source, "no parquet, arrow, JSONL or TSV in this folder", "Name the file")


def _several(source: Path, names: list[str]) -> list[Path]:
    what = f"this folder holds {len(names)} files or splits: {', '.join(names[:6])}"
    raise UserError(what, where=source, remedy="Name one of them as --source")


def _none(source: Path, what: str, remedy: str) -> list[Path]:
    raise UserError(what, where=source, remedy=remedy)


def size(path: Path) -> int:
    """What `rows` counts off: rows of a table, lines or bytes of a text."""
    try:
        match kind(path):
            case "parquet":
                return pq.read_metadata(path).num_rows
            case "arrow":
                with pa.memory_map(str(path)) as file:
                    return sum(batch.num_rows for batch in _batches(file))
            case "json":
                return os.path.getsize(path)
        with open(path, "rb") as f:
            return sum(block.count(b"\n") for block in iter(lambda: f.read(CHUNK), b""))
    except (OSError, pa.ArrowException) as error:
        raise _broken(path, 0, error) from None


def kind(path: Path) -> str:
    """parquet, arrow, json, jsonl, csv or tsv. A .json of one object a line is jsonl. Raises UserError for another file."""
    try:
        with open(path, "rb") as f:
            start = f.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError as error:
        raise unreadable(path, error) from None
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError("no container that is known", where=path, remedy=f"Give a file in {', '.join(SUFFIXES)}")
    if start.startswith(b"version https://git-lfs"):
        raise UserError("a pointer of Git LFS", where=path, remedy="Run `git lfs pull` in its folder")
    if suffix in (".json", ".jsonl"):
        return "json" if start.startswith(b"[") else "jsonl"
    return suffix[1:]


def rows(path: Path, unread: tuple[str, ...] = ()) -> Iterator[TheirRow]:
    """Every row of a file. Raises UserError for a file that cannot be read on; a row that is none is a fault in its place.

    Of parquet, columns that are `unread` are left out, unless they are plain text: pictures are large.
    """
    match kind(path):
        case "parquet":
            yield from _table(path, _parquet(path, unread))
        case "arrow":
            yield from _table(path, _arrow(path))
        case "json":
            yield from _array(path)
        case "jsonl":
            for number, row in read_lines(path):
                yield TheirRow(f"{path}:{number}", f"{path.stem}-{number}", row, 1)
        case _:
            yield from text_table(path)


def _table(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[TheirRow]:
    number = 0
    try:
        for batch in batches:
            named = _classes(batch.schema)
            for row in as_written(batch).to_pylist():
                number += 1
                for name, classes in named.items():  # -1: none
                    row[name] = classes[n] if isinstance(n := row.get(name), int) and 0 <= n < len(classes) else None
                yield TheirRow(f"{path}:{number}", f"{path.stem}-{number}", row, 1)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _broken(path, number, error) from None


def as_written(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With numbers as somebody wrote them: 0.1 of 32 bits is 0.1 and not 0.10000000149011612; decimals and dates are texts."""
    for at, field in enumerate(batch.schema):
        if (texts := _written(field.type, pa.string())) != field.type:
            column = batch.column(at).cast(texts).cast(_written(field.type, pa.float64()))
            batch = batch.set_column(at, field.name, column)
    return batch


def _written(kind: pa.DataType, single: pa.DataType) -> pa.DataType:
    """The type with this one for numbers of 32 bits, wherever in it they are, and text for what JSON has no word for."""
    if pa.types.is_float32(kind):
        return single
    if pa.types.is_decimal(kind) or pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _written(field.type, single)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_written(kind.value_type, single), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _written(kind.value_type, single)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind


def _parquet(path: Path, unread: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=CHUNK) as file:
        texts = (pa.string(), pa.large_string())
        yield from file.iter_batches(
            ROWS, columns=[f.name for f in file.schema_arrow if f.name not in unread or f.type in texts]
        )


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file:
        for batch in _batches(file):
            for start in range(0, batch.num_rows, ROWS):
                yield batch.slice(start, ROWS)


def _batches(file: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    """Of an arrow stream, as `datasets` writes it, or of an arrow file."""
    if file.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(file)
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        file.seek(0)
        yield from pa.ipc.open_stream(file)


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> the names of its classes: a ClassLabel of `datasets` holds numbers, which are no answers."""
    info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
    features = info.get("features", {}).items()
    return {name: f["names"] for name, f in features if isinstance(f, dict) and f.get("_type") == "ClassLabel"}


def _array(path: Path) -> Iterator[TheirRow]:
    """Objects of a JSON array, decoded one by one as they are read."""
    decoder, number, buffer, at = json.JSONDecoder(), 0, "", 0
    more, ended = CHUNK, False
    try:
        with open(path, encoding="utf-8-sig") as f:
            while True:
                at = _skip(buffer, at, "[," if not number else ",")
                if buffer[at : at + 1] == "]":
                    return
                try:
                    if not buffer[at:]:
                        raise json.JSONDecodeError("cut", buffer, at)
                    row, end = decoder.raw_decode(buffer, at)
                except json.JSONDecodeError as error:
                    if ended or len(buffer) - at > LONGEST:
                        what = (
                            f"not valid JSON ({error.msg})" if buffer[at:] else "the array has no end: the file is cut"
                        )
                        raise UserError(what, where=f"{path}:{number + 1}", remedy=AGAIN) from None
                    read = f.read(more)
                    buffer, at, ended, more = buffer[at:] + read, 0, not read, 2 * more
                    continue
                number, more = number + 1, CHUNK
                where = f"{path}:{number}"
                if not isinstance(row, dict):
                    row = UserError("row is not a JSON object", where=where, remedy="Repair or remove the row")
                yield TheirRow(where, f"{path.stem}-{number}", row, end - at)
                at = end
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise UserError(f"not valid JSON ({error})", where=f"{path}:{number + 1}", remedy=AGAIN) from None


def _skip(text: str, at: int, marks: str) -> int:
    """Behind white space, and these marks."""
    while at < len(text) and (text[at].isspace() or text[at] in marks):
        at += 1
    return at


def text_table(path: Path) -> Iterator[TheirRow]:
    """Rows of a CSV or TSV; a row that lacks fields, or has too many, is what is wrong with it. Raises UserError for no table."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    number = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.reader(f, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            names = next(reader, [])
            if len(names) < 2:
                remedy = f"Put a {'tab' if path.suffix.lower() == '.tsv' else 'comma'} between columns, or rename it"
                raise UserError("no table: its first line names no columns", where=path, remedy=remedy)
            for number, fields in enumerate(filter(None, reader), 1):
                where = f"{path}:{number}"
                row: Fields | UserError = dict(zip(names, fields, strict=False))
                if len(fields) != len(names):
                    what = f"row has {len(fields)} fields, and there are {len(names)} columns"
                    row = UserError(what, where=where, remedy="Repair or remove the row")
                yield TheirRow(where, f"{path.stem}-{number}", row, 1)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    except csv.Error as error:
        raise UserError(f"not a readable table ({error})", where=f"{path}:{number + 1}", remedy=AGAIN) from None


def _broken(path: Path, number: int, error: Exception) -> UserError:
    what = f"not a readable {path.suffix[1:]} file ({str(error)[:200]})"
    return UserError(what, where=f"{path}:{number + 1}" if number else path, remedy=AGAIN)
