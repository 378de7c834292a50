"""Answers of an endpoint, item by item."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

from seethink.ask import CallFailed, Client, Endpoint, Ledger, sample_message
from seethink.core.nouns import Sample, Trace
from seethink.core.progress import Progress
from seethink.evals.board import Response
from seethink.evals.config import EvalConfig, prompt_of


def ask_endpoint(
    config: EvalConfig, samples: list[Sample], answered: set[tuple[str, int]], bar: Progress
) -> Iterator[Response]:
    """Responses of an endpoint; every answer is in the ledger at once, so nothing is asked twice."""
    yield from asyncio.run(_ask_all(config, [s for s in samples if (s.id, 0) not in answered], bar))


async def _ask_all(config: EvalConfig, samples: list[Sample], bar: Progress) -> list[Response]:
    endpoint = Endpoint(
        base_url=config.base_url,
        model=config.model,
        api_key_env=config.api_key_env,
        params={"temperature": config.temperature, config.tokens_param: config.max_tokens, "seed": config.seed},
        in_flight=config.batch,
    )
    prompt = prompt_of(config)
    system = [{"role": "system", "content": prompt}] if prompt else []

    async def one(client: Client, sample: Sample) -> Response:
        try:
            reply = await client.chat([*system, *sample_message(sample)], step="eval")
        except CallFailed as failure:  # undecided, with the reason; the run goes on
            return Response(sample, Trace(sample.id, config.model, str(failure), "error"))
        finally:
            bar.advance()
        stop = "length" if reply.stop == "length" else "stop"
        text = f"<think>{reply.reasoning}</think>\n{reply.text}" if reply.reasoning else reply.text
        trace = Trace(sample.id, reply.model, text, stop, reply.completion_tokens)
        return Response(sample, trace, seconds=reply.seconds)

    with closing(Ledger(config.out / "ledger.sqlite")) as ledger:
        async with Client(endpoint, ledger) as client:
            return list(await asyncio.gather(*(one(client, s) for s in samples)))
