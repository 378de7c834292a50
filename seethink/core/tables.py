"""Parquet tables, written whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.store import atomic, well_formed

TYPES = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def write_table(path: Path, rows: list[Any], columns: Iterable[str] = (), of: tuple[type, ...] = ()) -> None:
    """Parquet from dicts or dataclasses (all of one shape). `columns` names them when there are no rows.

    A column without a value has the type that its dataclass (one of `of` for dicts) gives it, or else that of a number: tables
    of several runs are read as one, and a null type fits no other. Parquet holds UTF-8 alone: a lone surrogate in a text becomes U+FFFD.
    """
    dicts = [r if isinstance(r, dict) else dataclasses.asdict(r) for r in rows]
    if any(d.keys() != dicts[0].keys() for d in dicts):  # pyarrow would keep the first row's columns alone
        raise ValueError(f"{path.name}: rows of different columns")
    try:
        table = pa.Table.from_pylist(dicts) if dicts else pa.table({c: pa.array([], pa.string()) for c in columns})
    except UnicodeEncodeError:  # a model may write half a character
        table = pa.Table.from_pylist(well_formed(dicts))
    table = _typed(table, {type(row) for row in rows[:1] if dataclasses.is_dataclass(row)} | {*of})
    with atomic(path) as temporary, open(temporary, "wb") as f:  # pyarrow takes names in UTF-8 alone
        pq.write_table(table, f, compression="zstd")


def _typed(table: pa.Table, classes: set[type]) -> pa.Table:
    hints = {name: hint for one in classes for name, hint in _hints(one).items()}
    for at, field in enumerate(table.schema):
        if pa.types.is_null(field.type):
            hint = hints.get(field.name, float)
            kind = next((TYPES[one] for one in (hint, *get_args(hint)) if one in TYPES), field.type)
            table = table.set_column(at, field.name, pa.nulls(len(table), kind))
    return table


def _hints(one: type) -> dict[str, Any]:
    """Of the fields of a dataclass, and of what it derives from them."""
    derived = {name: got.fget for name, got in vars(one).items() if isinstance(got, property)}
    return {**{name: get_type_hints(got).get("return") for name, got in derived.items()}, **get_type_hints(one)}


def read_table(path: Path, need: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Rows of a parquet file as dicts. Raises UserError for a missing or broken file, or one without these columns."""
    try:
        with open(path, "rb") as f:
            table = pq.read_table(f)
        if missing := sorted(set(need) - set(table.column_names)):
            remedy = "Give a table that this program wrote"
            raise UserError(f"no column {missing[0]!r} in this table", where=path, remedy=remedy)
        return table.to_pylist()
    except FileNotFoundError:
        raise UserError("file not found", where=path, remedy="Check the path") from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        what = f"not a readable parquet file ({str(error)[:200]})"
        raise UserError(what, where=path, remedy="Write it again, or give another file") from None
