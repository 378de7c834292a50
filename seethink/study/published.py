"""Published numbers for a study's report: tables of published.toml, each with what is known not to match ours.

A plan names one as `published = "published.toml#sizes"`: the file beside this one, or the path of one's own in the same form.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import Field, model_validator

from seethink.core.config import Config, build, load_file
from seethink.core.errors import UserError
from seethink.evals.published import published

OURS = "published.toml"


class TableRow(Config):
    """One row: a model as the publication trained it."""

    model: str = Field(description="which model, trained how, in our words")
    arm: str = Field(default="", description="the arm of the study that it stands beside; empty: none")
    scores: tuple[float, ...] = Field(description="one number a column, in the table's unit")


class TableOfFile(Config):
    """A table as a TOML file states it."""

    title: str = Field(description="what the table shows")
    unit: str = Field(default="%", description="of every number")
    columns: dict[str, str] = Field(default={}, description="key -> heading; the key of a benchmark is its task")
    rows: tuple[TableRow, ...] = Field(default=(), description="in the order of the publication")
    not_matched: tuple[str, ...] = Field(min_length=1, description="what is known not to match a run of ours")
    of_evals: bool = Field(default=False, description="the numbers are those of evals/published.toml")
    arms: dict[str, str] = Field(default={}, description="with of_evals: model there -> arm")

    @model_validator(mode="after")
    def _filled(self) -> TableOfFile:
        if self.of_evals == bool(self.rows or self.columns):
            raise ValueError("give either columns and rows, or of_evals")
        if any(len(row.scores) != len(self.columns) for row in self.rows):
            raise ValueError("a row has another number of scores than there are columns")
        return self


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table that a report can print."""

    name: str
    title: str
    unit: str
    columns: dict[str, str]
    """key -> heading; the key of a benchmark is its task, `average` their plain mean"""
    rows: tuple[TableRow, ...]
    not_matched: tuple[str, ...]


def published_table(reference: str, folder: Path | None = None) -> PublishedTable:
    """The table that `file.toml#name` names; a path is relative to `folder`. Raises UserError where there is none."""
    file, _, name = reference.partition("#")
    tables = _tables(file, folder)
    if name not in tables:
        raise UserError(f"no published table {name!r}", where=file, remedy=f"There are {', '.join(tables)}")
    table = build(TableOfFile, tables[name], where=f"{file}#{name}")
    columns, rows = table.columns, table.rows
    if table.of_evals:
        known = {row.model: row for row in published().rows}
        if unknown := set(table.arms) - set(known):
            raise UserError(f"no published model {min(unknown)!r}", where=f"{file}#{name}", remedy="See arms")
        columns = {**published().columns, "average": "Mean"}
        rows = tuple(
            TableRow(model=m, arm=table.arms.get(m, ""), scores=(*row.scores.values(), row.average))
            for m, row in known.items()
        )
    return PublishedTable(name, table.title, table.unit, columns, rows, table.not_matched)


def _tables(file: str, folder: Path | None) -> dict[str, dict]:
    if file == OURS:
        return tomllib.loads((files("seethink.study") / OURS).read_text(encoding="utf-8"))
    return load_file((folder or Path()) / file)
