"""Answers of an endpoint, item by item and draw by draw: each is in the ledger before it counts, so nothing is asked twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from seethink.ask import Budget, CallFailed, Client, Endpoint, Ledger, sample_message
from seethink.core.nouns import Sample, Trace
from seethink.core.progress import progress
from seethink.evals.answers.responses import Keep
from seethink.evals.board import Response
from seethink.evals.config import EvalConfig, prompt_of

STEP = "eval"
LEDGER = "ledger.sqlite"

ItemDraw = tuple[Sample, int]
"""An item, and which of its answers, from 0."""


def ask_endpoint(config: EvalConfig, asked: Sequence[ItemDraw], answered: int, keep: Keep) -> None:
    """Asks and keeps every answer as it comes; a call that failed is kept with its reason. `answered` were kept before.

    Raises UserError where no question would be answered: endpoint dead (code 3), budget spent (code 4).
    """
    asyncio.run(_ask_all(config, asked, answered, keep))


async def _ask_all(config: EvalConfig, asked: Sequence[ItemDraw], answered: int, keep: Keep) -> None:
    prompt, waiting = prompt_of(config), iter(asked)
    system = [{"role": "system", "content": prompt}] if prompt else []

    async def one(client: Client, sample: Sample, draw: int) -> Response:
        try:
            messages, seed = [*system, *sample_message(sample)], config.seed + draw
            reply = await client.chat(messages, step=STEP, draw=draw, seed=seed)
        except CallFailed as failure:  # undecided, with the reason; the run goes on
            return Response(sample, Trace(sample.id, config.model, str(failure), "error"), draw)
        text = f"<think>{reply.reasoning}</think>\n{reply.text}" if reply.reasoning else reply.text
        stop = "length" if reply.stop == "length" else "stop"
        trace = Trace(sample.id, reply.model, text, stop, reply.completion_tokens)
        return Response(sample, trace, draw, reply.seconds)

    with closing(Ledger(config.out / LEDGER)) as ledger, progress("eval", answered + len(asked), answered) as bar:
        budget = Budget(config.budget, ledger.spent(STEP))  # what a judge has cost is for its own
        async with Client(endpoint_of(config), ledger, budget) as client:

            async def work() -> None:
                for sample, draw in waiting:  # shared: each goes to one worker, and only so many pictures are in memory
                    keep(await one(client, sample, draw))
                    bar.advance(1, "" if client.price.usd is None else f"{budget.spent:.2f} USD")

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(config.batch, len(asked))):
                        group.create_task(work())
            except ExceptionGroup as group:
                raise group.exceptions[0] from None


def endpoint_of(config: EvalConfig) -> Endpoint:
    return Endpoint(
        base_url=config.base_url,
        model=config.model,
        api_key_env=config.api_key_env,
        params={"temperature": config.temperature, config.tokens_param: config.max_tokens, "seed": config.seed},
        price=config.price,
        in_flight=config.batch,
    )


def spending(out: Path) -> dict[str, Any]:
    """Calls, tokens and USD (None: some price is unknown) of a run so far, judges included; `steps` tells them apart."""
    if not (out / LEDGER).exists():
        return {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0, "steps": []}
    with closing(Ledger(out / LEDGER)) as ledger:
        steps = ledger.spending()
    total = {name: sum(row[name] or 0 for row in steps) for name in ("calls", "prompt_tokens", "completion_tokens")}
    priced = all(row["usd"] is not None for row in steps)
    return {**total, "usd": sum(row["usd"] for row in steps) if priced else None, "steps": steps}


def questions(samples: Sequence[Sample], draws: int) -> Iterator[ItemDraw]:
    """Every item as often as it is to be answered."""
    return ((sample, draw) for sample in samples for draw in range(draws))
