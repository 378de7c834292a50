"""Answers of a model folder, computed here."""

from __future__ import annotations

import time
from collections.abc import Iterator

from seethink.core.nouns import Sample, Trace
from seethink.core.preflight import Sizes
from seethink.core.progress import Progress
from seethink.core.store import DataRow
from seethink.evals.board import Response
from seethink.evals.config import EvalConfig, model_of
from seethink.train.model.policy import encode_prompt, load_policy
from seethink.train.preflight import check_lengths, load_reader
from seethink.train.rollout.sampler import LocalSampler, decode


def check_prompts(config: EvalConfig, rows: list[DataRow], sizes: Sizes) -> list[DataRow]:
    """The rows, a fault in the place of each whose prompt the model cannot take."""
    return check_lengths(rows, load_reader(model_of(config)), sizes)


def run_model(
    config: EvalConfig, samples: list[Sample], answered: set[tuple[str, int]], bar: Progress
) -> Iterator[Response]:
    """Responses of a model folder. Batches are those of the whole board, so a resume changes no answer."""
    policy = load_policy(model_of(config))
    sampler = LocalSampler(policy)
    for start in range(0, len(samples), config.batch):
        part, began = samples[start : start + config.batch], time.perf_counter()
        missing = [s for s in part if (s.id, 0) not in answered]
        if not missing:
            continue
        prompts = [encode_prompt(policy, s) for s in part]
        groups = sampler.rollout(prompts, 1, config.max_tokens, config.temperature, config.seed + start)
        policy.features.clear()  # every item is seen once
        spent = (time.perf_counter() - began) / len(part)
        for sample, (completion,) in zip(part, groups, strict=True):
            text, stop = decode(policy, completion), "length" if completion.stop == "length" else "stop"
            yield Response(sample, Trace(sample.id, config.model, text, stop, len(completion.ids)), seconds=spent)
        bar.advance(len(missing))
