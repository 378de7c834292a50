"""Published benchmark files as records, whatever their container: JSON, JSONL, VLMEvalKit's TSV, Hugging Face parquet.

Boards say what the columns mean; this file knows how they are stored. Pictures inside a file (base64 in a TSV, bytes in
parquet) are written once, under the hash of their content.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.filetype import unreadable
from seethink.core.store import atomic, read_json, read_jsonl

SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
OTHER_ROW = 64
"""A TSV's `image` of at most so many characters is the index of the row that holds the picture."""
LINES = 2_000  # rows of a table held at once


class Record(NamedTuple):
    """One row of a published file."""

    where: str
    """file:row, or file:key of an object of objects"""
    key: str
    """Its name in an object of objects, else ''."""
    row: dict[str, Any]
    pictures: tuple[str, ...]
    """Files: of a row that names them, beside the file it stands in; of one that holds them, below `pictures`."""


def read_records(path: Path, pictures: Path | None = None, names: tuple[str, ...] = ("image",)) -> Iterator[Record]:
    """Rows of a file, or of a folder of parquet shards. `names` are the columns that may name or hold pictures.

    Without a folder for `pictures`, those that stand in the file are left out. Raises UserError naming file and row.
    """
    path = Path(path)
    if path.is_dir():
        shards = sorted(path.rglob("*.parquet"))
        if not shards:
            raise UserError("no parquet files in this folder", where=path, remedy="Name the file of the benchmark")
        for shard in shards:
            yield from read_records(shard, pictures, names)
        return
    held: dict[str, str] = {}  # index -> picture of a TSV, for rows that point to another
    for where, key, row in _rows(path):
        found = []
        for name in names:
            values = row.pop(name, None)
            for value in values if isinstance(values, list) else [values]:
                file = _picture(value, path.parent, pictures, held, where)
                if file:
                    found.append(file)
                    held[str(row.get("index", ""))] = file
            if found:
                break  # `decoded_image` shows what `image` names
        yield Record(where, key, row, tuple(found))


def _rows(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    match path.suffix.lower():
        case ".jsonl":
            for number, row in read_jsonl(path):
                yield f"{path}:{number}", "", row
        case ".json":
            yield from _objects(path)
        case ".tsv" | ".csv":
            yield from _table(path)
        case ".parquet":
            try:
                file, number = pq.ParquetFile(path), 0
                for batch in file.iter_batches(LINES // 20):  # pictures are large
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{path}:{number}", "", row
            except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
                raise UserError(f"not a readable parquet file ({str(error)[:200]})", where=path) from None
        case _:
            remedy = "Give the published JSON, JSONL, TSV or parquet"
            raise UserError("no file of a benchmark", where=path, remedy=remedy)


def _objects(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    value = read_json(path)
    pairs = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else None
    if pairs is None:
        raise UserError("neither a list nor an object of rows", where=path, remedy="Give the published file")
    for key, row in pairs:
        if not isinstance(row, dict):
            raise UserError("row is not a JSON object", where=f"{path}:{key}", remedy="Give the published file")
        yield f"{path}:{key}", str(key) if isinstance(value, dict) else "", row


def _table(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            for number, row in enumerate(reader, 1):
                yield f"{path}:{number}", "", {name: value for name, value in row.items() if name and value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    except csv.Error as error:
        raise UserError(f"not a readable table ({error})", where=path, remedy="Download it again") from None


def _picture(value: Any, base: Path, folder: Path | None, held: dict[str, str], where: str) -> str:
    """A file for what a column says of a picture; '' where it says nothing."""
    if isinstance(value, dict):  # the layout of the datasets library's Image
        data, name = value.get("bytes"), value.get("path")
        return _written(data, folder) if isinstance(data, bytes) else str(base / name) if name else ""
    if not isinstance(value, str) or not value:
        return ""
    if value in held and len(value) <= OTHER_ROW:
        return held[value]
    if len(value) <= 4 * OTHER_ROW:
        return str(base / value)
    try:
        return _written(base64.b64decode(value, validate=True), folder)
    except binascii.Error:
        raise UserError("its picture is not base64", where=where, remedy="Download the file again") from None


def _written(data: bytes, folder: Path | None) -> str:
    if folder is None:
        return ""
    suffix = next((suffix for magic, suffix in SUFFIXES.items() if data.startswith(magic)), ".img")
    file = folder / (hashlib.blake2b(data, digest_size=12).hexdigest() + suffix)
    if not file.exists():
        with atomic(file) as temporary:  # a kill must not leave half of it under this name
            temporary.write_bytes(data)
    return str(file)
