"""Which batches are out, and with which calls: two tables beside those of the ledger, in the same file.

A batch is on record before its file leaves, with the number of the file before the batch is made, and with its own before
anybody waits. What its calls may cost counts as spent until they are settled.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from seethink.ask.faults import scrub
from seethink.core.errors import UserError

TABLES = """
CREATE TABLE IF NOT EXISTS batch (
  number INTEGER PRIMARY KEY, place TEXT, model TEXT, step TEXT, file TEXT, name TEXT, state TEXT, calls INTEGER, at REAL);
CREATE TABLE IF NOT EXISTS batch_call (batch INTEGER, key TEXT, prompt_tokens INTEGER, usd REAL);
CREATE INDEX IF NOT EXISTS batch_call_batch ON batch_call (batch)
"""
OPEN = "('written', 'uploaded', 'waiting')"


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that is not settled.

    place  address of the endpoint, without what is secret in it
    step   of all its calls
    file   the endpoint's name of the file of calls; empty: it may not have arrived
    name   the endpoint's name of the batch; empty: it may not have been made
    state  written, uploaded or waiting
    calls  how many
    """

    number: int
    place: str
    model: str
    step: str
    file: str
    name: str
    state: str
    calls: int


@dataclass(frozen=True, slots=True)
class BatchCall:
    """A call in a batch; `usd` is its highest price, None where that is unknown."""

    key: str
    prompt_tokens: int
    usd: float | None


class BatchBook:
    """The two tables; a context manager. Raises UserError for a file that cannot be used."""

    def __init__(self, path: object):
        self._path = str(path)
        try:
            self._db = sqlite3.connect(self._path, timeout=10, isolation_level=None)
            for statement in TABLES.split(";"):
                self._db.execute(statement)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, place: str, model: str, step: str, calls: Iterable[BatchCall]) -> OpenBatch:
        """A new batch, of which nothing has left."""
        rows = [(call.key, call.prompt_tokens, call.usd) for call in calls]
        self._run("BEGIN IMMEDIATE")
        new = "INSERT INTO batch VALUES (NULL, ?, ?, ?, '', '', 'written', ?, ?) RETURNING number"
        (number,) = self._run(new, (place, model, step, len(rows), time.time()))[0]
        try:
            self._db.executemany(f"INSERT INTO batch_call VALUES ({number}, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._run("COMMIT")
        return OpenBatch(number, place, model, step, "", "", "written", len(rows))

    def note(self, batch: OpenBatch, state: str, file: str = "", name: str = "") -> OpenBatch:
        """The batch as it stands now; with another state than the three it is settled."""
        now = replace(batch, state=state, file=file or batch.file, name=name or batch.name)
        row = (now.state, now.file, now.name, now.number)
        self._run("UPDATE batch SET state = ?, file = ?, name = ? WHERE number = ?", row)
        return now

    def open(self) -> list[OpenBatch]:
        rows = self._run(
            f"SELECT number, place, model, step, file, name, state, calls FROM batch WHERE state IN {OPEN}"
        )
        return [OpenBatch(*row) for row in rows]

    def calls(self, batch: OpenBatch) -> dict[str, BatchCall]:
        """Its calls, by key."""
        rows = self._run("SELECT key, prompt_tokens, usd FROM batch_call WHERE batch = ?", (batch.number,))
        return {row[0]: BatchCall(*row) for row in rows}

    def reserved(self) -> float:
        """USD that the open batches may cost."""
        query = "SELECT coalesce(sum(usd), 0.0) FROM batch_call JOIN batch ON batch = number"
        return self._run(f"{query} WHERE state IN {OPEN}")[0][0]

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: sqlite3.Error) -> UserError:
        remedy = "Check that it can be written, or move it away and run again"
        return UserError(f"cannot use the ledger's batches ({scrub(str(error))})", where=self._path, remedy=remedy)
