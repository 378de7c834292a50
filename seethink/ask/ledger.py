"""Everything that was asked, answered and paid: one SQLite file, readable by its owner only.

Two tables. `call` holds one answer per question, by content key: what stands there is never asked again. `attempt` is
append-only: one row per request sent, failed ones too, so that spending is never guessed. A row is written before a
request leaves and completed after; what a kill leaves open is lost: possibly paid, its result unknown, and for the budget
paid at its highest price.

One thread writes. What has gathered while it was busy goes into one transaction, and an answer counts once that is
committed. Long texts are kept as zstd; who reads `call.text` and `call.reasoning` by SQL gives them to `unpack`:

    db.create_function("unpack", 1, unpack)
    db.execute("SELECT unpack(text) FROM call WHERE step = 'distill'")
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.ask.faults import scrub
from seethink.core.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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
  CASE WHEN sum(a.status = 'lost') = sum(a.status = 'lost' AND a.usd IS NOT NULL)
    THEN coalesce(sum(a.usd) FILTER (WHERE a.status = 'lost'), 0.0) END AS lost_usd,
  (SELECT sum(prompt_tokens) FROM call c WHERE c.step = a.step AND c.model = a.model) AS prompt_tokens,
  (SELECT sum(completion_tokens) FROM call c WHERE c.step = a.step AND c.model = a.model) AS completion_tokens,
  (SELECT sum(seconds) FROM call c WHERE c.step = a.step AND c.model = a.model) AS seconds,
  CASE WHEN count(*) = count(a.usd) THEN sum(a.usd) END AS usd,
  (SELECT json_group_array(DISTINCT served) FROM call c WHERE c.step = a.step AND c.model = a.model) AS served
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
LONG = 2048  # bytes from which a text is kept compressed
PACKING: dict[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}
MOST_ROWS = 64  # of one statement; fewer statements, because each hands the interpreter to the other threads and back


class Sent:
    """A request on record. The number of its row is known once that is written."""

    __slots__ = "key", "model", "row", "sent_at", "step", "worst"

    def __init__(self, key: str, step: str, model: str, worst: float | None):
        self.key, self.step, self.model, self.worst = key, step, model, worst
        self.sent_at = time.time()
        self.row: int | None = None

    def values(self, status: str, http: int | None, usd: float | None, error: str | None) -> tuple[Any, ...]:
        """Its row, but for the number."""
        return self.key, self.step, self.model, self.sent_at, status, http, usd, error


class _Group:
    """What goes into the file in one transaction."""

    def __init__(self) -> None:
        self.attempts: dict[Sent, tuple[Any, ...]] = {}
        """Rows as they stand last, but for their numbers."""
        self.answers: dict[str, tuple[str, str, Reply, float]] = {}
        """By key: step, model, reply, when it came."""
        self.discarded: list[str] = []
        self.done: Future[None] = Future()


class Ledger:
    """An open ledger; `":memory:"` keeps nothing. Whoever writes through it reads what was written.

    Raises UserError, now or at any call, for a file that is no ledger of ours, is damaged or cannot be written.
    """

    def __init__(self, path: Path | str):
        self.path = str(path)
        try:
            if self.path != ":memory:":
                _make_private(self.path)
            self._db = self._connect()
            # a reader of its own never waits for a transaction; in memory there is only the one connection
            self._reader = self._db if self.path == ":memory:" else self._connect()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from None
        self._prepare()
        self._thread, self._lock = ThreadPoolExecutor(1, "ledger"), threading.Lock()
        self._next, self._writing, self._queued = _Group(), _Group(), False
        self._awaited: tuple[Future[None], list[asyncio.Future[None]]] | None = None
        """The last transaction that somebody waited for, and who."""
        self._failure: UserError | None = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        """Tables as they should be, and what a kill left open as lost."""
        self._run(self._db, "PRAGMA journal_mode=WAL")
        self._run(self._db, "PRAGMA synchronous=NORMAL")  # survives a kill; a power cut may cost the last answers
        for statement in SCHEMA.split(";"):
            self._run(self._db, statement)
        for table, columns in COLUMNS.items():
            found = " ".join(row["name"] for row in self._run(self._db, f"PRAGMA table_info({table})"))
            if found != columns:
                raise self._unusable(f"its table {table} has other columns: {found[:200]}")
        self._run(self._db, "UPDATE attempt SET status = 'lost' WHERE status = 'sent'")

    def close(self) -> None:
        """Raises UserError where the last rows could not be written."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()
            self._db.close()
            self._reader.close()

    def flush(self) -> None:
        """Waits until all that was written is in the file."""
        with self._lock:
            done = self._gather().done
        done.result()

    def find(self, key: str) -> Reply | None:
        if group := next((group for group in (self._next, self._writing) if key in group.answers), None):
            group.done.result()
        if not (rows := self._run(self._reader, ANSWER, (key,))):
            return None
        row = dict(rows[0])
        try:
            row |= {name: unpack(row[name]) for name in ("text", "reasoning")}
        except zstd.ZstdError as error:
            raise self._unusable(
                f"answer {key} is damaged: its text is bytes that are no whole text ({error})"
            ) from None
        if damaged := next((name for name, kind in KINDS.items() if not isinstance(row[name], kind)), None):
            raise self._unusable(f"answer {key} is damaged: its {damaged} is {type(row[damaged]).__name__}")
        if row["stop"] not in ("stop", "length"):  # it broke off: no answer, and asked for again
            return None
        return Reply(**row, cached=True)

    def sent(self, key: str, step: str, model: str, usd: float | None) -> Sent:
        """Note a request before it leaves, at its highest price."""
        attempt = Sent(key, step, model, usd)
        with self._lock:
            self._gather().attempts[attempt] = attempt.values("sent", None, usd, None)
        return attempt

    def failed(self, attempt: Sent, status: str, http: int | None, usd: float | None, error: str) -> None:
        """Note how a request ended that brought no answer."""
        with self._lock:
            self._gather().attempts[attempt] = attempt.values(status, http, usd, error)

    def answered(self, attempt: Sent, key: str, step: str, model: str, reply: Reply) -> Future[None]:
        """Both rows in one transaction; once the future is done, the answer survives a kill."""
        with self._lock:
            group = self._gather()
            group.attempts[attempt] = attempt.values("ok", 200, reply.usd, None)
            group.answers[key] = step, model, reply, time.time()
        return group.done

    async def committed(self, done: Future[None]) -> None:
        """Waits for the future of an answer while others work. All answers of one transaction wake the loop once."""
        if done.done():
            return done.result()
        if self._awaited is None or self._awaited[0] is not done:
            waiting: list[asyncio.Future[None]] = []
            self._awaited = done, waiting
            asyncio.wrap_future(done).add_done_callback(lambda ended: _wake(waiting, ended.exception()))
        place = asyncio.get_running_loop().create_future()  # of its own, which may be cancelled without the others
        self._awaited[1].append(place)
        await place

    def discard(self, key: str) -> None:
        """An answer that says nothing of use: it stays on record, paid as it is, and the question is asked again."""
        with self._lock:
            group = self._gather()
            group.discarded.append(key)
        group.done.result()

    def spent(self, *steps: str) -> float:
        """USD of all attempts (of some steps, where named) with a known price, lost ones at their highest; no request ever
        gave money back."""
        where = f" WHERE step IN ({','.join('?' * len(steps))})" if steps else ""
        return self._count(f"SELECT coalesce(sum(max(usd, 0.0)), 0.0) FROM attempt{where}", steps)[0][0]

    def refusals(self, model: str) -> list[str]:
        """What the endpoint said where it refused a question to this model, each saying once."""
        query = "SELECT DISTINCT error FROM attempt WHERE model = ? AND status = 'refused' AND error IS NOT NULL"
        return [str(row["error"]) for row in self._count(query, (model,))]

    def spending(self) -> list[dict[str, Any]]:
        """One row per step and model; `usd` is None where any price was unknown, `seconds` those of the answers, `served` the
        names that the server gave the model.

        `lost` requests are those that a kill or an interrupt left open; `lost_usd` is their highest price.
        """
        return [{**row, "served": json.loads(row["served"])} for row in map(dict, self._count(SPENDING))]

    def typical(self, step: str) -> tuple[float, float] | None:
        """Mean (prompt, completion) tokens of a step's answers so far, or None."""
        query = "SELECT avg(prompt_tokens), avg(completion_tokens) FROM call WHERE step = ?"
        row = self._count(query, (step,))[0]
        return None if row[0] is None else (row[0], row[1])

    def _gather(self) -> _Group:
        """The next transaction; the thread is told of it. To be called under the lock."""
        if self._failure:
            raise self._failure
        if not self._queued:
            self._queued = True
            self._thread.submit(self._write)
        return self._next

    def _write(self) -> None:
        """One transaction of all that has gathered. Runs in the thread that writes."""
        with self._lock:
            group = self._writing = self._next
            self._next, self._queued = _Group(), False
        try:
            if group.attempts or group.discarded:
                self._db.execute("BEGIN IMMEDIATE")
                self._insert_attempts(group.attempts)
                self._insert("call", [_row(key, *answer) for key, answer in group.answers.items()])
                for key in group.discarded:
                    self._db.execute("UPDATE call SET stop = 'discarded' WHERE key = ?", (key,))
                self._db.execute("COMMIT")
        finally:
            if error := sys.exception():  # whatever it is: who waits for the group has to hear of it
                self._failure = self._unusable(str(error))
                group.done.set_exception(self._failure)
            else:
                group.done.set_result(None)

    def _insert_attempts(self, attempts: dict[Sent, tuple[Any, ...]]) -> None:
        """Rows of requests that just left, numbered as they come, and rows of others in the place of their first ones."""
        new = [attempt for attempt in attempts if attempt.row is None]
        self._insert("attempt", [(attempt.row, *row) for attempt, row in attempts.items() if attempt.row is not None])
        last = self._insert("attempt", [(None, *attempts[attempt]) for attempt in new])
        for number, attempt in enumerate(reversed(new)):
            attempt.row = last - number

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> int:
        """Insert rows, or replace those of the same key. Returns the number of the last one."""
        last, start = 0, 0
        while start < len(rows):
            many = (
                1 << min(len(rows) - start, MOST_ROWS).bit_length() - 1
            )  # a power of two: few statements to keep prepared
            marks = ",".join([f"({','.join('?' * len(rows[0]))})"] * many)
            values = [value for row in rows[start : start + many] for value in row]
            last = self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES {marks}", values).lastrowid or 0
            start += many
        return last

    def _count(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Read over many rows, once all that was written is in the file."""
        self.flush()
        return self._run(self._reader, statement, values)

    def _run(self, connection: sqlite3.Connection, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        try:
            return connection.execute(statement, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:  # a damaged page shows only when it is read
            raise self._unusable(str(error)) from None

    def _unusable(self, why: str) -> UserError:
        remedy = "Move it away (its answers are then asked for again) or choose another --out"
        return UserError(f"cannot use the ledger ({scrub(why)})", where=self.path, remedy=remedy)


def _wake(waiting: list[asyncio.Future[None]], fault: BaseException | None) -> None:
    """Tell all who wait for a transaction how it went, but those who have gone."""
    for place in waiting:
        if not place.done():
            place.set_exception(fault) if fault else place.set_result(None)


def tell_lost(ledger: Ledger) -> None:
    """Say which requests may have been paid without a result: those that a kill or an interrupt left open, over all runs."""
    rows = [row for row in ledger.spending() if row["lost"]]
    if rows:
        costs = [row["lost_usd"] for row in rows]
        usd = "at a price unknown" if None in costs else f"at most {sum(costs):.4f} USD"
        steps = ", ".join(f"{row['step']} {row['model']} {row['lost']}" for row in rows)
        total = sum(row["lost"] for row in rows)
        print(
            f"seethink: {ledger.path}: {total} requests possibly paid, result unknown, {usd} ({steps})", file=sys.stderr
        )


def pack(text: str) -> str | bytes:
    """A text as the ledger keeps it: as it is, or from LONG bytes on compressed."""
    if len(text) < LONG // 4 or len(data := text.encode()) < LONG:
        return text
    return zstd.compress(data, options=PACKING)


def unpack(kept: Any) -> Any:
    """The text that `pack` was given; anything but bytes as it is. Raises ZstdError for bytes that are damaged."""
    if not isinstance(kept, bytes):
        return kept
    try:
        return zstd.decompress(kept).decode()
    except UnicodeDecodeError as error:
        raise zstd.ZstdError(str(error)) from None


def _row(key: str, step: str, model: str, reply: Reply, at: float) -> tuple[Any, ...]:
    said = (
        reply.model,
        pack(reply.text),
        pack(reply.reasoning),
        reply.stop,
        reply.prompt_tokens,
        reply.completion_tokens,
    )
    return key, step, model, *said, reply.usd, reply.seconds, at


def _make_private(path: str) -> None:
    """Make the file, or take from an older one, and from what SQLite keeps beside it, what others may do with it."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for file in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(file) and os.stat(file).st_mode & 0o077 and os.stat(file).st_uid == os.geteuid():
            os.chmod(file, 0o600)
