"""Parquet tables, written whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.store import atomic


def write_table(path: Path, rows: list[Any], columns: Iterable[str] = ()) -> None:
    """Parquet from dicts or dataclasses (all of one shape). `columns` names them when there are no rows."""
    dicts = [r if isinstance(r, dict) else dataclasses.asdict(r) for r in rows]
    table = pa.Table.from_pylist(dicts) if dicts else pa.table({c: pa.array([], pa.string()) for c in columns})
    if any(d.keys() != dicts[0].keys() for d in dicts):  # pyarrow would keep the first row's columns alone
        raise ValueError(f"{path.name}: rows of different columns")
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a parquet file as dicts. Raises UserError for a missing or broken file."""
    try:
        return pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise UserError("file not found", where=path, remedy="Check the path") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"not a readable parquet file ({error})", where=path) from None
