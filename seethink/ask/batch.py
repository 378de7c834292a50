"""The batch interface in OpenAI's form: many calls in a file, answered within a day at half the price.

    POST files -> POST batches -> GET batches/ID until it has ended -> GET files/ID/content

One of a client's calls is a line of the file, known by its key; its answer goes into the ledger as any other. A batch is on
record (`batch_book`) before each step, so whoever is killed finds it again and waits for it. Providers differ in what they
leave out; what cannot be matched to a call is said and left.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from seethink.ask.batch_book import BatchBook, BatchCall, OpenBatch
from seethink.ask.body import parse, read_completion
from seethink.ask.client import ANNOUNCED_CAP, BACKOFF_CAP, REMEDIES, TRIES, Client, PendingCall
from seethink.ask.faults import Fault, Words, error_words, status_fault
from seethink.ask.ledger import Reply
from seethink.ask.limits import CONTINUES
from seethink.ask.messages import to_wire
from seethink.ask.prices import usd_of
from seethink.core.errors import UserError
from seethink.core.url import public

MOST_LINES, MOST_SIZE = 50_000, 200_000_000  # of one file
POLL_FIRST, POLL_GROWTH, POLL_MOST = 5.0, 1.5, 300.0  # seconds between two looks at a batch
BATCH_TRIES = 4  # batches that one call may go through
MOST_PAGES = 20  # of a list of batches
ENDED = ("completed", "expired", "cancelled", "failed")
OTHER_NAMES = {"canceled": "cancelled", "complete": "completed", "succeeded": "completed", "error": "failed"}
MOST_LINE = 100_000_000  # bytes of an answered line


class BatchEnd(NamedTuple):
    """What came of a batch.

    answers  how many of its calls have one
    problem  what ends the run, if anything
    passing  it need not, where other batches were answered: there may have been too many at once
    """

    answers: int
    problem: UserError | None
    passing: bool


class Batches:
    """The batches of one step. A call that gets no answer is asked again in another batch, some times, and then fails."""

    def __init__(self, client: Client, step: str, book: BatchBook, folder: Path | None = None):
        """`folder` holds files on their way up and down; none: where the system keeps such files."""
        self._client, self._step, self._book, self._folder = client, step, book, folder
        self._place = public(client.endpoint.base_url)
        self._faults: Counter[str] = Counter()
        self.share = client.price.batch_share
        """Of what a call costs by itself."""

    async def take_up(self) -> list[OpenBatch]:
        """Batches that an earlier run has left, as they wait now. One whose file never arrived is forgotten: it costs nothing."""
        found = []
        for batch in self._book.open():
            if (batch.place, batch.model, batch.step) != (self._place, self._client.endpoint.model, self._step):
                continue
            if batch.state == "written":
                self._forget(batch, "lost")
                continue
            if batch.state == "uploaded":
                batch = await self._make(batch, perhaps_made=True)
            self._say(f"batch {batch.name} goes on with {batch.calls} calls")
            found.append(batch)
        return found

    async def submit(self, calls: Sequence[PendingCall]) -> list[OpenBatch]:
        """As many of the calls as the budget holds, in one batch or several. Raises UserError (code 3) where that fails."""
        made = []
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="batch-") as folder:
            for file, part in self._fill(calls, Path(folder)):
                batch = self._book.add(self._place, self._client.endpoint.model, self._step, part)
                try:
                    answer = await self._ask(
                        lambda file=file: self._client.open().fetch("POST", "files", {"purpose": "batch"}, file)
                    )
                except UserError:
                    self._forget(batch, "refused")
                    raise
                file.unlink()
                batch = self._book.note(batch, "uploaded", file=self._id(answer))
                made.append(await self._make(batch))
                self._say(f"batch {made[-1].name}: {batch.calls} calls")
        return made

    async def collect(self, batch: OpenBatch) -> BatchEnd:
        """Wait until it has ended and settle its calls."""
        state, info = await self._wait(batch)
        calls = self._book.calls(batch)
        reader, gone = _Results(self._client, self._step, calls), state == "gone"
        if state not in ("failed", "gone"):
            files = [info.get(f"{kind}_file_id") or info.get(f"{kind}_file") for kind in ("output", "error")]
            gone = not all([await self._read(file, reader) for file in files if isinstance(file, str)])
        words = f"batch {batch.name} has {state} without a word of it"
        words = f"batch {batch.name} has failed ({_failure(info)})" if state == "failed" else words
        paid = reader.truncated or gone
        name = "cut" if paid else "unanswered" if state == "completed" else state
        for key in calls.keys() - reader.settled:
            reader.settle(key, Fault(name, words, billed=paid))
        self._client.ledger.flush()
        self._book.note(batch, state)
        self._say(f"batch {batch.name} has {state}: {reader.answers} of {batch.calls} calls answered{reader.remarks()}")
        problem = self._count(reader.faults)
        if gone:
            problem = self._stop(f"batch {batch.name} or its answers are gone; what was not read counts as paid")
        elif state in ("cancelled", "failed"):
            problem = problem or self._stop(words)
        return BatchEnd(reader.answers, problem, passing=state == "failed")

    def _count(self, faults: dict[str, Fault]) -> UserError | None:
        """Calls without an answer go into the next batch, unless that is pointless."""
        problem = None
        for key, fault in faults.items():
            self._faults[key] += 1
            again = fault.name in TRIES or fault.name in ("unanswered", *ENDED)
            if not again or self._faults[key] >= BATCH_TRIES:
                try:
                    self._client.fail(key, fault)
                except UserError as error:
                    problem = error
        return problem

    def _fill(self, calls: Sequence[PendingCall], folder: Path) -> Iterator[tuple[Path, list[BatchCall]]]:
        """Files of lines within the bounds of the interface, each with its calls."""
        lines = self._lines(calls)
        ahead = next(lines, None)
        for number in itertools.count():
            if ahead is None:
                return
            file, part, size = folder / f"seethink-{number}.jsonl", [], 0
            with file.open("xb") as out:
                while ahead and (not part or len(part) < MOST_LINES and size + len(ahead[1]) <= MOST_SIZE):
                    call, line = ahead
                    out.write(line)
                    part.append(call)
                    size += len(line)
                    ahead = next(lines, None)
            yield file, part

    def _lines(self, calls: Sequence[PendingCall]) -> Iterator[tuple[BatchCall, bytes]]:
        """Calls as lines, their highest prices held back, until one does not fit the budget."""
        for call in calls:
            usd = None if call.worst is None else self.share * call.worst
            if not self._client.budget.fits(usd or 0.0):
                return
            self._client.budget.pay(usd or 0.0)
            body = {"model": self._client.endpoint.model, "messages": to_wire(call.messages), **call.params}
            line = {"custom_id": call.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            yield (
                BatchCall(call.key, call.prompt_tokens, usd),
                json.dumps(line, default=str).encode() + b"\n",
            )

    async def _make(self, batch: OpenBatch, perhaps_made: bool = False) -> OpenBatch:
        """Make the batch of a file that has arrived, once: a request without a reply may have made it."""
        order = {"input_file_id": batch.file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        times = 0
        while True:
            times += 1
            if perhaps_made and (name := await self._find(batch.file)):
                return self._book.note(batch, "waiting", name=name)
            try:
                answer = await self._client.open().fetch("POST", "batches", order)
                return self._book.note(batch, "waiting", name=self._id(answer))
            except Fault as fault:
                perhaps_made = fault.http is None or fault.http >= 500
                if not perhaps_made and times >= TRIES.get(fault.name, 1):
                    self._forget(batch, "refused")
                await self._pause(fault, times)

    async def _find(self, file: str) -> str:
        """The batch that was made of a file, or nothing."""
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            try:
                page = await self._client.open().fetch("GET", "batches", query={"limit": "100", **after})
            except Fault as fault:
                if fault.name in TRIES:
                    await self._pause(fault, 1)
                    continue
                self._say(f"cannot list batches ({fault.detail}): one of file {file} may be paid twice")
                return ""
            data = page.get("data")
            rows = [row for row in (data if isinstance(data, list) else ()) if isinstance(row, dict) and row.get("id")]
            for row in rows:
                if row.get("input_file_id") == file and _state(row) not in ("failed", "cancelled"):
                    return str(row["id"])
            if not page.get("has_more") or not rows:
                return ""
            after = {"after": str(rows[-1]["id"])}
        return ""

    async def _wait(self, batch: OpenBatch) -> tuple[str, dict[str, Any]]:
        """(how it ended, what the endpoint says of it); gone, where the endpoint does not know it any more."""
        pause = POLL_FIRST
        while True:
            info = await self._ask(lambda: self._client.open().fetch("GET", f"batches/{batch.name}"), or_missing=True)
            if info is None:
                return "gone", {}
            if (state := _state(info := _inner(info))) in ENDED:
                return state, info
            await asyncio.sleep(pause)
            pause = min(POLL_MOST, pause * POLL_GROWTH)

    async def _read(self, name: str, reader: _Results) -> bool:
        """Settle the calls of a file of results; False where there is none. One that comes half is fetched again; then its
        whole lines count."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for _ in range(2):
                if await self._ask(lambda: self._download(name, file), or_missing=True) is None:
                    return False
                if _is_whole(file):
                    break
            reader.read(file)
        return True

    async def _download(self, name: str, file: BinaryIO) -> dict[str, Any]:
        file.seek(0)
        file.truncate()
        await self._client.open().download(f"files/{name}/content", file)
        return {}

    async def _ask(self, send: Callable[[], Awaitable[dict[str, Any]]], or_missing: bool = False) -> Any:
        """Ask until there is an answer; None where nothing is there. Raises UserError (code 3) where there is none."""
        times = 0
        while True:
            times += 1
            try:
                return await send()
            except Fault as fault:
                if or_missing and fault.name == "missing":
                    return None
                await self._pause(fault, times)

    async def _pause(self, fault: Fault, times: int) -> None:
        """Wait before another try. Raises UserError (code 3) where that is pointless."""
        if fault.name in REMEDIES and fault.name != "missing":
            raise self._client.dead(fault) from None
        if times >= TRIES.get(fault.name, 1):
            raise self._stop(fault.detail) from None
        wait = min(BACKOFF_CAP, self._client.backoff * 2**times) if fault.wait is None else fault.wait
        await asyncio.sleep(min(wait, ANNOUNCED_CAP))

    def _forget(self, batch: OpenBatch, state: str) -> None:
        """Nothing of it was asked, and nothing is paid."""
        self._client.budget.pay(-sum(call.usd or 0.0 for call in self._book.calls(batch).values()))
        self._book.note(batch, state)

    def _stop(self, what: str) -> UserError:
        remedy = f"Leave batch out where the endpoint has no batches; {CONTINUES}"
        return UserError(what, where=self._place, remedy=remedy, code=3)

    def _id(self, answer: dict[str, Any]) -> str:
        """The name that the endpoint gave to a file or a batch."""
        if not (name := _inner(answer).get("id")):
            raise self._stop("the endpoint gave no id")
        return str(name)

    def _say(self, what: str) -> None:
        print(f"seethink: {self._place}: {what}", file=sys.stderr, flush=True)


class _Results:
    """Settles the calls of a batch by the lines of its files."""

    def __init__(self, client: Client, step: str, calls: dict[str, BatchCall]):
        self.settled: set[str] = set()
        self.faults: dict[str, Fault] = {}
        self.answers, self.truncated = 0, False
        self._client, self._step, self._calls = client, step, calls
        self._unknown = self._twice = self._unreadable = 0

    def read(self, file: BinaryIO) -> None:
        file.seek(0)
        while line := file.readline(MOST_LINE):
            if not line.strip():
                continue
            row = parse(line.decode("utf-8", "replace"))
            if not isinstance(row, dict):
                self._unreadable += 1
                self.truncated |= not line.endswith(b"\n")
            elif not isinstance(key := row.get("custom_id"), str) or key not in self._calls:
                self._unknown += 1
            elif key in self.settled:
                self._twice += 1
            else:
                self.settle(key, _result(row, self._calls[key].prompt_tokens))

    def settle(self, key: str, result: Reply | Fault) -> None:
        """Put a reply, or the fault that stands for it, into the ledger, and its price for what was held back."""
        call, client = self._calls[key], self._client
        self.settled.add(key)
        if client.ledger.find(key):  # settled before a kill
            client.budget.pay(-(call.usd or 0.0))
            self.answers += 1
            return
        attempt = client.ledger.sent(key, self._step, client.endpoint.model, call.usd)
        if isinstance(result, Fault):
            usd = call.usd if result.billed else 0.0
            client.ledger.failed(attempt, result.name, result.http, usd, result.detail)
            self.faults[key] = result
        else:
            usd = usd_of(client.price.batch or client.price.usd, result.prompt_tokens, result.completion_tokens)
            client.ledger.answered(attempt, key, self._step, client.endpoint.model, replace(result, usd=usd))
            self.answers += 1
        client.budget.pay((usd or 0.0) - (call.usd or 0.0))

    def remarks(self) -> str:
        """What was wrong with the files, for a line of the screen."""
        found = {"of unknown calls": self._unknown, "twice": self._twice, "unreadable": self._unreadable}
        said = ", ".join(f"{n} {what}" for what, n in found.items() if n)
        return (f"; lines left out: {said}" if said else "") + ("; its file is cut" if self.truncated else "")


def _result(row: dict[str, Any], estimate: int) -> Reply | Fault:
    """Reply or Fault of one line."""
    response = row.get("response")
    response = response if isinstance(response, dict) else {}
    status, body = response.get("status_code"), response.get("body")
    body = parse(body) if isinstance(body, str) else body
    status = status if isinstance(status, int) else 200
    try:
        if isinstance(body, dict) and 200 <= status < 300 and not row.get("error"):
            return read_completion(body, 0.0, estimate)
        words = error_words(body) or error_words({"error": row.get("error")}) or Words(f"HTTP {status} and no answer")
        fault = status_fault(status, words, {})
    except Fault as raised:
        return raised
    fault.name = "expired" if "expired" in words.called.split("_") and "batch" in words.called else fault.name
    return fault


def _is_whole(file: BinaryIO) -> bool:
    """Whether the last line has an end, or at least is JSON."""
    last, size = b"", file.seek(0, 2)
    file.seek(max(0, size - MOST_LINE))
    while line := file.readline(MOST_LINE):
        last = line
    return not last or last.endswith(b"\n") or parse(last.decode("utf-8", "replace")) is not None


def _inner(answer: dict[str, Any]) -> dict[str, Any]:
    """The object that an answer is about, which some wrap."""
    return next((answer[key] for key in ("data", "job", "batch", "file") if isinstance(answer.get(key), dict)), answer)


def _state(info: dict[str, Any]) -> str:
    state = str(info.get("status") or info.get("state") or "").lower()
    return OTHER_NAMES.get(state, state)


def _failure(info: dict[str, Any]) -> str:
    """Why a batch failed, in the endpoint's words."""
    errors = info.get("errors")
    rows = errors.get("data") if isinstance(errors, dict) else errors
    said = [words.message for row in (rows if isinstance(rows, list) else []) if (words := error_words({"error": row}))]
    return "; ".join(dict.fromkeys(said[:3])) or "no reason given"
