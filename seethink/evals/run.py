"""Evaluate a model on a board, item by item, resumable.

    seethink eval --model runs/grpo/model --board board.jsonl --out runs/eval
    seethink eval --base_url http://127.0.0.1:8000/v1 --model name --board board.jsonl --out runs/eval

Answers are kept as they come (responses.jsonl), so a killed run continues where it stopped; scores are computed at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from seethink.ask.client import CallFailed, Client, Endpoint
from seethink.ask.ledger import Ledger
from seethink.ask.messages import user_message
from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.core.progress import Progress, progress
from seethink.core.run import Run, read_log
from seethink.core.store import hash_file, hash_folder, load_samples
from seethink.core.tables import write_table
from seethink.evals.config import EvalConfig
from seethink.evals.grade import grade, summarise
from seethink.rewards import Rewarder
from seethink.train.config import ModelConfig, system_prompt


def run(config: EvalConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a bad board, model, endpoint or folder; the same call again resumes."""
    samples = load_samples(config.board)
    samples = samples[: config.limit] if config.limit else samples
    if not samples:
        raise UserError("no samples", where=config.board, remedy="Give a board with at least one row")
    if dry_run:
        print(f"{len(samples)} items of {config.board}, at most {config.max_tokens} tokens each")
        return
    model = config.model if config.base_url else hash_folder(Path(config.model))
    inputs = {"board": hash_file(config.board), "system": prompt_of(config), "model": model}
    with Run.open(config.out, "eval", config, inputs, overwrite=config.overwrite) as folder:
        if not folder.done:
            evaluate(folder, config, samples)
        accuracy = folder.summary["accuracy"]
        print(
            f"eval: {'undecided' if accuracy is None else f'{accuracy:.1%}'} of {folder.summary['n']} right, {config.out}"
        )


def evaluate(folder: Run, config: EvalConfig, samples: list[Sample]) -> None:
    """Answer what is not answered yet, then grade everything."""
    answered = {r["sample_id"]: r for r in read_log(folder.path("responses.jsonl"))}
    folder.keep_rows("responses.jsonl", list(answered.values()))
    answer = ask_endpoint if config.base_url else run_local
    with progress("eval", len(samples), len(answered)) as bar:
        for trace, seconds in answer(config, samples, set(answered), bar) if len(answered) < len(samples) else ():
            row = {**asdict(trace), "seconds": seconds}
            answered[trace.sample_id] = row
            folder.write_rows("responses.jsonl", [row])
    rows = [answered[s.id] for s in samples]
    seconds = [r["seconds"] for r in rows]
    traces = [Trace(**{k: v for k, v in r.items() if k != "seconds"}) for r in rows]
    with Rewarder(config.reward, scores=folder.path("scores.sqlite"), ledger=folder.path("ledger.sqlite")) as rewarder:
        scores = grade(config.board.stem, samples, traces, seconds, rewarder)
    write_table(folder.path("scores.parquet"), scores)
    folder.finish(**summarise(scores), board=config.board.name, model=config.model)


def run_local(
    config: EvalConfig, samples: list[Sample], answered: set[str], bar: Progress
) -> Iterator[tuple[Trace, float]]:
    """(trace, seconds) from a model folder. Batches are those of the whole board, so a resume changes no answer."""
    from seethink.train.model.policy import encode_prompt, load_policy
    from seethink.train.optim import autocast
    from seethink.train.rollout.sampler import decode, rollout

    model = ModelConfig(path=config.model, dtype=config.dtype)
    policy, system = load_policy(model.path), prompt_of(config)
    for start in range(0, len(samples), config.batch):
        part, began = samples[start : start + config.batch], time.perf_counter()
        if answered.issuperset(s.id for s in part):
            continue
        prompts = [encode_prompt(policy, s, system, model.max_prompt_tokens) for s in part]
        with autocast(policy, model):
            groups = rollout(policy, prompts, 1, config.max_tokens, config.temperature, config.seed + start)
        policy.features.clear()  # every item is seen once
        spent = (time.perf_counter() - began) / len(part)
        for sample, (completion,) in zip(part, groups, strict=True):
            yield (
                Trace(sample.id, config.model, decode(policy, completion), completion.stop, len(completion.ids)),
                spent,
            )
        bar.advance(len(part))


def ask_endpoint(
    config: EvalConfig, samples: list[Sample], answered: set[str], bar: Progress
) -> Iterator[tuple[Trace, float]]:
    """(trace, seconds) from an endpoint; every answer is in the ledger at once, so nothing is asked twice."""
    yield from asyncio.run(_ask_all(config, [s for s in samples if s.id not in answered], bar))


async def _ask_all(config: EvalConfig, samples: list[Sample], bar: Progress) -> list[tuple[Trace, float]]:
    params = {"temperature": config.temperature, "max_tokens": config.max_tokens, "seed": config.seed}
    endpoint = Endpoint(
        base_url=config.base_url,
        model=config.model,
        api_key_env=config.api_key_env,
        params=params,
        in_flight=config.batch,
    )
    system = [{"role": "system", "content": prompt_of(config)}] if config.system else []

    async def one(client: Client, sample: Sample) -> tuple[Trace, float]:
        try:
            reply = await client.chat([*system, *user_message(sample.question, sample.images)], step="eval")
        except CallFailed as failure:  # undecided, with the reason; the run goes on
            return Trace(sample.id, config.model, str(failure), "error"), 0.0
        finally:
            bar.advance()
        stop = "length" if reply.stop == "length" else "stop"
        text = f"<think>{reply.reasoning}</think>\n{reply.text}" if reply.reasoning else reply.text
        return Trace(sample.id, reply.model, text, stop, reply.completion_tokens), reply.seconds

    async with Client(endpoint, Ledger(config.out / "ledger.sqlite")) as client:
        return list(await asyncio.gather(*(one(client, s) for s in samples)))


def prompt_of(config: EvalConfig) -> str:
    """System prompt: the text itself, @file, or system.txt beside the weights of a local model."""
    return system_prompt(ModelConfig(path=config.model if not config.base_url else ".", system=config.system))
