"""A run by batches: walk every item until it waits for an answer, have all that wait answered together, and walk again.

    seethink data --batch --source samples.jsonl --base_url https://host/v1 --out runs/data

Each round is a batch a step and up to a day; whoever stops in between finds the batches on record and waits for them. Steps
whose role has batch = false are asked during the walk.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from seethink.ask import NotCached, PendingCall
from seethink.ask.batch import BatchEnd, Batches
from seethink.ask.batch_book import BatchBook, OpenBatch
from seethink.core.errors import UserError
from seethink.core.url import public
from seethink.data.steps import Candidate, Steps, walk

Wait = Callable[[PendingCall], Awaitable[None]]
MOST_WAITING = 10_000  # calls of a step in memory; so many go out while the walk goes on


class Round:
    """One walk: the calls that wait, by step, and the batches that are out."""

    def __init__(self, of_step: dict[str, Batches]):
        self.out: list[tuple[Batches, OpenBatch]] = []
        self.unfit: float | None = None
        """Price of a call that the budget did not hold."""
        self._of_step, self._keys = of_step, set[str]()
        self._waiting: dict[str, list[PendingCall]] = {step: [] for step in of_step}

    async def wait(self, call: PendingCall) -> None:
        """Take a call; the same from several items is one."""
        if call.key not in self._keys:
            self._keys.add(call.key)
            self._waiting[call.step].append(call)
            if len(self._waiting[call.step]) >= MOST_WAITING:
                await self._submit(call.step)

    async def submit(self) -> None:
        """All that wait, later steps first: where the budget ends, whole samples are worth more."""
        for step in reversed(self._waiting):
            await self._submit(step)

    async def _submit(self, step: str) -> None:
        calls, self._waiting[step] = self._waiting[step], []
        made = await self._of_step[step].submit(calls)
        self.out += [(self._of_step[step], batch) for batch in made]
        if (sent := sum(batch.calls for batch in made)) < len(calls):
            self.unfit = self._of_step[step].share * (calls[sent].worst or 0.0)


async def walk_in_rounds(
    walk_all: Callable[[Wait], Awaitable[None]], steps: Steps, book: BatchBook, folder: Path
) -> None:
    """`walk_all` takes all items as far as they come, and gives away the calls for which they wait.

    Raises UserError for a batch that failed or was cancelled (3), and for a budget that holds no further call (4), after all
    that is out has been settled.
    """
    for left in folder.glob("batch-*"):  # by a killed run: files that were on their way
        shutil.rmtree(left)
    of_step = {step: Batches(client, step, book, folder) for step, client in steps.by_batch.items()}
    try:
        async with AsyncExitStack() as stack:
            for client in steps.clients:  # all, as some share a connection
                await stack.enter_async_context(client)
            await settle([(batches, batch) for batches in of_step.values() for batch in await batches.take_up()])
            while True:
                now = Round(of_step)
                await walk_all(now.wait)
                await now.submit()
                if not now.out and now.unfit is None:
                    return
                if not now.out:
                    async with steps.clients[0].budget.hold(now.unfit or 0.0):
                        raise AssertionError("a call that the budget holds was not submitted")
                await settle(now.out)
    finally:
        if out := book.open():
            calls = sum(batch.calls for batch in out)
            what = f"batches that go on at the endpoint: {len(out)}, with {calls} calls"
            print(f"data: {what}; the same command picks them up", file=sys.stderr, flush=True)


async def settle(out: Sequence[tuple[Batches, OpenBatch]]) -> None:
    """Wait for all of them. Raises UserError (code 3) for what ends the run, after every other one is settled."""
    results = await asyncio.gather(*(batches.collect(batch) for batches, batch in out), return_exceptions=True)
    settled = [result for result in results if isinstance(result, BatchEnd)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    answers = sum(result.answers for result in settled)
    for result in settled:
        if result.problem and not (result.passing and answers):
            raise result.problem


def check_open(steps: Steps, book: BatchBook) -> None:
    """Raises UserError where calls that this run would make by themselves are out in batches: they would be paid twice."""
    asked = {
        (public(client.endpoint.base_url), client.endpoint.model, step): step in steps.by_batch
        for step, client in zip(steps.config.roles, steps.clients, strict=True)
    }
    for batch in book.open():
        by_batch = asked.get((batch.place, batch.model, batch.step))
        what = f"{batch.calls} calls to {batch.model} are out in batch {batch.name or batch.file or '(not sent)'}"
        if by_batch is None:
            print(f"data: {batch.place}: {what}, which no role asks now: they count as paid", file=sys.stderr)
        elif not by_batch:
            remedy = "Run with --batch, which waits for it; or cancel it there first"
            raise UserError(what, where=batch.place, remedy=remedy)


def print_next_batch(items: Sequence[Candidate], steps: Steps, book: BatchBook) -> None:
    """How many calls the next batch would hold, and what it may cost. `steps` must be dry."""
    waiting: dict[str, PendingCall] = {}

    async def find() -> None:
        for item in items:
            if item.waits:
                try:
                    await walk(item, steps)
                except NotCached as missing:
                    waiting[missing.call.key] = missing.call

    asyncio.run(find())
    out = [batch for batch in book.open() if batch.state != "written"]
    known = {key for batch in out for key in book.calls(batch)}
    calls = [call for key, call in waiting.items() if call.step in steps.by_batch and key not in known]
    of_step = ", ".join(f"{step} {n}" for step in steps.by_batch if (n := sum(call.step == step for call in calls)))
    costs = [(steps.by_batch[call.step].price.batch_share, call.worst) for call in calls]
    known = all(worst is not None for _, worst in costs)
    usd = f"at most {sum(share * (worst or 0.0) for share, worst in costs):,.2f} USD" if known else "cost unknown"
    print(f"next batch: {len(calls)} calls ({of_step or 'none'}), {usd}")
    if out:
        print(f"open: {len(out)} batches with {sum(batch.calls for batch in out)} calls")
