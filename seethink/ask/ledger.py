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

from seethink.ask.faults import scrub
from seethink.core.errors import UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS call (
  key TEXT PRIMARY KEY, step TEXT, model TEXT, served TEXT, text TEXT, reasoning TEXT, stop TEXT,
  prompt_tokens INTEGER, completion_tokens INTEGER, usd REAL, seconds REAL, at REAL);
CREATE TABLE IF NOT EXISTS attempt (
  id INTEGER PRIMARY KEY, key TEXT, step TEXT, model TEXT, at REAL, status TEXT, http INTEGER, usd REAL, error TEXT);
CREATE INDEX IF NOT EXISTS attempt_status ON attempt (status);
"""
COLUMNS = {
    "call": "key step model served text reasoning stop prompt_tokens completion_tokens usd seconds at",
    "attempt": "id key step model at status http usd error",
}
ANSWER = """
SELECT text, stop, prompt_tokens, completion_tokens, served AS model, seconds, usd, reasoning FROM call WHERE key = ?
"""
SPENDING = """
SELECT a.step, a.model, sum(a.status = 'ok') AS calls, count(*) AS attempts, sum(a.status = 'lost') AS lost,
  (SELECT sum(prompt_tokens) FROM call c WHERE c.step = a.step AND c.model = a.model) AS prompt_tokens,
  (SELECT sum(completion_tokens) FROM call c WHERE c.step = a.step AND c.model = a.model) AS completion_tokens,
  (SELECT sum(seconds) FROM call c WHERE c.step = a.step AND c.model = a.model) AS seconds,
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


KINDS = {
    **dict.fromkeys(("text", "stop", "model", "reasoning"), str), **dict.fromkeys(("prompt_tokens", "completion_tokens"), int),
    "seconds": float, "usd": float | None,
}  # fmt: skip
"""What stands in the columns of an answer."""


class Ledger:
    """An open ledger; `":memory:"` keeps nothing.

    Raises UserError, now or at any call, for a file that is no ledger of ours, is damaged or cannot be written.
    """

    def __init__(self, path: Path | str):
        self.path = str(path)
        try:
            if self.path != ":memory:":
                _make_private(self.path)
            self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from None
        self._db.row_factory = sqlite3.Row
        self._run("PRAGMA journal_mode=WAL")
        self._run("PRAGMA synchronous=NORMAL")  # survives a kill; a power cut may cost the last answers
        for statement in SCHEMA.split(";"):
            self._run(statement)
        for table, columns in COLUMNS.items():
            found = " ".join(row["name"] for row in self._run(f"PRAGMA table_info({table})"))
            if found != columns:
                raise self._unusable(f"its table {table} has other columns: {found[:200]}")
        self._run("UPDATE attempt SET status = 'lost' WHERE status = 'sent'")

    def close(self) -> None:
        self._db.close()

    def find(self, key: str) -> Reply | None:
        if not (rows := self._run(ANSWER, (key,))):
            return None
        row = dict(rows[0])
        if damaged := next((name for name, kind in KINDS.items() if not isinstance(row[name], kind)), None):
            raise self._unusable(f"answer {key} is damaged: its {damaged} is {type(row[damaged]).__name__}")
        if row["stop"] not in ("stop", "length"):  # it broke off: no answer, and asked for again
            return None
        return Reply(**row, cached=True)

    def sent(self, key: str, step: str, model: str, usd: float | None) -> int:
        """Note a request before it leaves, at its highest price. Returns its number."""
        row = (key, step, model, time.time(), usd)
        return self._run("INSERT INTO attempt VALUES (NULL,?,?,?,?,'sent',NULL,?,NULL) RETURNING id", row)[0][0]

    def failed(self, attempt: int, status: str, http: int | None, usd: float | None, error: str) -> None:
        row = (status, http, usd, error, attempt)
        self._run("UPDATE attempt SET status = ?, http = ?, usd = ?, error = ? WHERE id = ?", row)

    def answered(self, attempt: int, key: str, step: str, model: str, reply: Reply) -> None:
        """Both rows in one transaction; after it the answer survives a kill."""
        said = (reply.model, reply.text, reply.reasoning, reply.stop, reply.prompt_tokens, reply.completion_tokens)
        row = (key, step, model, *said, reply.usd, reply.seconds, time.time())
        self._run("BEGIN")
        self._run(f"INSERT OR REPLACE INTO call VALUES ({','.join('?' * len(row))})", row)
        self._run("UPDATE attempt SET status = 'ok', http = 200, usd = ? WHERE id = ?", (reply.usd, attempt))
        self._run("COMMIT")

    def discard(self, key: str) -> None:
        """An answer that says nothing of use: it stays on record, paid as it is, and the question is asked again."""
        self._run("UPDATE call SET stop = 'discarded' WHERE key = ?", (key,))

    def spent(self, *steps: str) -> float:
        """USD of all attempts (of some steps, where named) with a known price, lost ones at their highest; no request ever
        gave money back."""
        where = f" WHERE step IN ({','.join('?' * len(steps))})" if steps else ""
        return self._run(f"SELECT coalesce(sum(max(usd, 0.0)), 0.0) FROM attempt{where}", steps)[0][0]

    def refusals(self, model: str) -> list[str]:
        """What the endpoint said where it refused a question to this model, each saying once."""
        query = "SELECT DISTINCT error FROM attempt WHERE model = ? AND status = 'refused' AND error IS NOT NULL"
        return [str(row["error"]) for row in self._run(query, (model,))]

    def spending(self) -> list[dict[str, Any]]:
        """One row per step and model; `usd` is None where any price was unknown, `seconds` those of the answers."""
        return [dict(row) for row in self._run(SPENDING)]

    def served(self) -> dict[tuple[str, str], list[str]]:
        """(step, model as it was asked for) -> its names as the endpoint gave them."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self._run("SELECT DISTINCT step, model, served FROM call WHERE served != '' ORDER BY served"):
            found.setdefault((row["step"], row["model"]), []).append(row["served"])
        return found

    def typical(self, step: str) -> tuple[float, float] | None:
        """Mean (prompt, completion) tokens of a step's answers so far, or None."""
        query = "SELECT avg(prompt_tokens), avg(completion_tokens) FROM call WHERE step = ?"
        row = self._run(query, (step,))[0]
        return None if row[0] is None else (row[0], row[1])

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        try:
            return self._db.execute(statement, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:  # a damaged page shows only when it is read
            raise self._unusable(str(error)) from None

    def _unusable(self, why: str) -> UserError:
        remedy = "Move it away (its answers are then asked for again) or choose another --out"
        return UserError(f"cannot use the ledger ({scrub(why)})", where=self.path, remedy=remedy)


def _make_private(path: str) -> None:
    """Make the file, or take from an older one, and from what SQLite keeps beside it, what others may do with it."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for file in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(file) and os.stat(file).st_mode & 0o077 and os.stat(file).st_uid == os.geteuid():
            os.chmod(file, 0o600)
