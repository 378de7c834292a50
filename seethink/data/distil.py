"""The steps as a function of rows, for what hands out work in batches: Ray Data, a queue of jobs, a notebook.

    config = resolve(DataConfig, ["@teacher.toml", "--source", "unread", "--out", "unread"])
    outcomes = distil(rows, config, Path("ledger.sqlite"))

`seethink data` is the same walk over a whole file, with a funnel, a split and tables; here are the rows alone. Several processes
must not share a ledger. Left out: duplicates, which no batch can see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from seethink.ask import Budget, Ledger
from seethink.core.nouns import Drop, Example, Sample, sample_from_row
from seethink.core.preflight import check_pictures, faulty
from seethink.core.store import DataRow
from seethink.data.config import DataConfig
from seethink.data.outcomes import Outcome
from seethink.data.steps import Candidate, Steps, load_prompts, walk

COLUMNS = (
    "sample_id",
    "source",
    "step",
    "reason",
    "detail",
    "caption",
    "think",
    "answer",
    "model",
    "tokens",
    "verdict_by",
)
"""Of an outcome; all but the first three may be None. Who came through has step `split` and no reason."""


def distil(rows: Sequence[dict[str, Any]], config: DataConfig, ledger: Path) -> list[dict[str, Any]]:
    """How each row ended, in order, as a dict of COLUMNS. Rows are those of our JSONL, pictures by their whole paths.

    Of `config` the source and the places it writes to are not used. What stands in the ledger is not asked again; a budget is
    for this ledger. Raises UserError for a row that is none, a dead endpoint (code 3) or a spent budget (4).
    """
    samples = [sample_from_row(row, f"row {number}") for number, row in enumerate(rows)]
    looked_at, _ = check_pictures([DataRow("batch", sample.id, Example(sample, "")) for sample in samples])
    broken = {row.id: fault.what for row, fault in faulty(looked_at)}
    drops = {s.id: Drop(s.id, s.source, "metadata", "image", broken[s.id]) for s in samples if s.id in broken}
    items = [Candidate(s.id, s.source, partial(_same, s)) for s in samples if s.id not in drops]
    with closing(Ledger(ledger)) as book:
        steps = Steps(config, load_prompts(config.prompts), book, Budget(config.budget, book.spent()))
        ended = iter(asyncio.run(_walk(items, steps)))
    outcomes = [
        Outcome(s.id, s.source, "metadata", drop=drops[s.id]) if s.id in drops else next(ended) for s in samples
    ]
    return [_row(outcome) for outcome in outcomes]


def _same(sample: Sample) -> Sample:
    return sample


async def _walk(items: Sequence[Candidate], steps: Steps) -> list[Outcome]:
    """All at once, as many as keep every step busy."""
    room = asyncio.Semaphore(len(steps.clients) * steps.config.in_flight)

    async def one(item: Candidate) -> Outcome:
        async with room:
            return await walk(item, steps)

    async with AsyncExitStack() as stack:
        for client in steps.clients:
            await stack.enter_async_context(client)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in items]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
    for client in steps.clients:
        client.check_answered(max(1, len(items)))
    return [task.result() for task in tasks]


def _row(end: Outcome) -> dict[str, Any]:
    draft = asdict(end.rewritten) if end.rewritten else {}
    drop = asdict(end.drop) if end.drop else {}
    values = {**draft, **drop, "sample_id": end.sample_id, "source": end.source, "step": end.step}
    values |= {"caption": end.caption, "verdict_by": end.verdict.by if end.verdict else None}
    return {name: values.get(name) for name in COLUMNS}
