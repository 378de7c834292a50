"""Everything that was asked, answered and paid: one SQLite file, readable by its owner only.

Two tables. `call` holds one answer per question, by content key: what stands there is never asked again. `attempt` is
append-only: one row per request sent, failed ones too, so that spending is never guessed. A row is written before a
request leaves and completed after; what a kill leaves open is counted as lost and, for the budget, as paid.
"""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS call (
  key TEXT PRIMARY KEY, step TEXT, model TEXT, served TEXT, text TEXT, reasoning TEXT, stop TEXT,
  prompt_tokens INTEGER, completion_tokens INTEGER, usd REAL, seconds REAL, at REAL);
CREATE TABLE IF NOT EXISTS attempt (
  id INTEGER PRIMARY KEY, key TEXT, step TEXT, model TEXT, at REAL, status TEXT, http INTEGER, usd REAL, error TEXT);
CREATE INDEX IF NOT EXISTS attempt_status ON attempt (status);
"""
ANSWER = """
SELECT text, stop, prompt_tokens, completion_tokens, served AS model, seconds, usd, reasoning FROM call WHERE key = ?
"""
SPENDING = """
SELECT a.step, a.model, sum(a.status = 'ok') AS calls, count(*) AS attempts, sum(a.status = 'lost') AS lost,
  (SELECT sum(prompt_tokens) FROM call c WHERE c.step = a.step AND c.model = a.model) AS prompt_tokens,
  (SELECT sum(completion_tokens) FROM call c WHERE c.step = a.step AND c.model = a.model) AS completion_tokens,
  CASE WHEN count(*) = count(a.usd) THEN sum(a.usd) END AS usd
FROM attempt a GROUP BY a.step, a.model ORDER BY min(a.id)
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    text       what the model answered, without the reasoning that the server told apart
    stop       stop, or length where the answer was cut
    model      model string as the server named it
    cached     True where it came from the ledger
    seconds    of the request that succeeded
    usd        price paid; None where the price is not known
    reasoning  reasoning_content, where the server returns it apart; else empty
    """

    text: str
    stop: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    cached: bool
    seconds: float
    usd: float | None = None
    reasoning: str = ""


class Ledger:
    """An open ledger; `":memory:"` keeps nothing. Raises UserError for a file that is not one or cannot be written."""

    def __init__(self, path: Path | str):
        self.path = str(path)
        try:
            if self.path != ":memory:":
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # survives a kill; a power cut may cost the last answers
            self._db.executescript(SCHEMA)
            self._db.execute("UPDATE attempt SET status = 'lost' WHERE status = 'sent'")
        except (sqlite3.Error, OSError) as error:
            remedy = "Move it away or choose another --out"
            raise UserError(f"cannot open the ledger ({error})", where=self.path, remedy=remedy) from None

    def close(self) -> None:
        self._db.close()

    def find(self, key: str) -> Reply | None:
        row = self._db.execute(ANSWER, (key,)).fetchone()
        return None if row is None else Reply(**dict(row), cached=True)

    def sent(self, key: str, step: str, model: str, usd: float | None) -> int:
        """Note a request before it leaves, at its highest price. Returns its number."""
        row = (key, step, model, time.time(), usd)
        return self._db.execute("INSERT INTO attempt VALUES (NULL,?,?,?,?,'sent',NULL,?,NULL)", row).lastrowid or 0

    def failed(self, attempt: int, status: str, http: int | None, usd: float | None, error: str) -> None:
        row = (status, http, usd, error, attempt)
        self._db.execute("UPDATE attempt SET status = ?, http = ?, usd = ?, error = ? WHERE id = ?", row)

    def answered(self, attempt: int, key: str, step: str, model: str, reply: Reply) -> None:
        """Both rows in one transaction; after it the answer survives a kill."""
        said = (reply.model, reply.text, reply.reasoning, reply.stop, reply.prompt_tokens, reply.completion_tokens)
        row = (key, step, model, *said, reply.usd, reply.seconds, time.time())
        self._db.execute("BEGIN")
        self._db.execute(f"INSERT OR REPLACE INTO call VALUES ({','.join('?' * len(row))})", row)
        self._db.execute("UPDATE attempt SET status = 'ok', http = 200, usd = ? WHERE id = ?", (reply.usd, attempt))
        self._db.execute("COMMIT")

    def spent(self) -> float:
        """USD of all attempts with a known price, lost ones at their highest."""
        return self._db.execute("SELECT coalesce(sum(usd), 0) FROM attempt").fetchone()[0]

    def spending(self) -> list[dict[str, Any]]:
        """One row per step and model; `usd` is None where any price was unknown."""
        return [dict(row) for row in self._db.execute(SPENDING)]

    def typical(self, step: str) -> tuple[float, float] | None:
        """Mean (prompt, completion) tokens of a step's answers so far, or None."""
        query = "SELECT avg(prompt_tokens), avg(completion_tokens) FROM call WHERE step = ?"
        row = self._db.execute(query, (step,)).fetchone()
        return None if row[0] is None else (row[0], row[1])
