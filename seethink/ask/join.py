"""Several ledgers become one: the answers of all, each once, and every attempt, so that spending adds up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from seethink.ask.client import CallFailed
from seethink.ask.ledger import COLUMNS, Ledger
from seethink.core.errors import UserError

WHOLE = "stop IN ('stop', 'length')"  # answers that are used; others broke off, or were discarded


def join_ledgers(into: Path, parts: Iterable[Path]) -> None:
    """Bring what stands in `parts` into the ledger `into`, which may be new. Doing it again adds nothing.

    Raises UserError for a file that is no ledger of ours or cannot be read.
    """
    Ledger(into).close()  # made, or found sound
    with closing(sqlite3.connect(into, isolation_level=None, uri=True)) as db:
        for part in parts:
            try:
                db.execute("ATTACH ? AS part", (f"{part.resolve().as_uri()}?mode=ro",))
                _take(db)
                db.execute("DETACH part")
            except sqlite3.Error as error:
                raise UserError(
                    f"cannot read the ledger ({error})", where=part, remedy="Make this part again"
                ) from None


def failed_questions(path: Path) -> dict[str, CallFailed]:
    """Key -> how the last attempt ended, of the questions in a ledger that have no answer."""
    query = (
        "SELECT key, status, error FROM attempt WHERE status NOT IN ('ok', 'sent', 'lost') "
        f"AND key NOT IN (SELECT key FROM call WHERE {WHOLE}) ORDER BY id"
    )
    with closing(sqlite3.connect(path)) as db:
        return {key: CallFailed(status, error or "") for key, status, error in db.execute(query)}


def _take(db: sqlite3.Connection) -> None:
    """All of `part` that is not there yet, in one transaction."""
    for table, columns in COLUMNS.items():
        found = " ".join(row[1] for row in db.execute(f"PRAGMA part.table_info({table})"))
        if found != columns:
            raise sqlite3.DatabaseError(f"its table {table} has other columns: {found[:200] or 'none'}")
    attempt = ", ".join(COLUMNS["attempt"].split()[1:])
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"DELETE FROM call WHERE NOT {WHOLE} AND key IN (SELECT key FROM part.call WHERE {WHOLE})")
    db.execute("INSERT OR IGNORE INTO call SELECT * FROM part.call")
    # an attempt has no name of its own: key and time tell it from all others, and its number is given anew
    new = f"SELECT {attempt} FROM part.attempt EXCEPT SELECT {attempt} FROM main.attempt"
    db.execute(f"INSERT INTO attempt SELECT NULL, {attempt} FROM ({new}) ORDER BY at")
    db.execute("COMMIT")
