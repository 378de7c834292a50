"""seethink's GRPO step on the benchmark's work: the same calls as `seethink grpo`, with the benchmark's reward."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

import torch
from step import GRPO, Choice, encoded_prompts, load
from work import Case, Turns, parameter_counts

from seethink.train.model.linear import linear
from seethink.train.rollout import decoding


class ForcedLengths:
    """Stands in for `decoding.sample`: the stop token at a given length of each row, and never before.

    Rows are told apart by their random number, because rows leave the batch.
    """

    def __init__(self, lengths: list[int], stop: int, seed: int):
        self.lengths, self.stop, self.step = torch.tensor(lengths), stop, 0
        self.generator, self.plain = torch.Generator().manual_seed(seed), decoding.sample

    def __call__(self, logits, temperature, banned, uniform):
        self.step += 1
        drawn = torch.rand(len(self.lengths), generator=self.generator)
        rows = (uniform[:, None] == drawn).int().argmax(1)
        ends = self.lengths[rows] == self.step
        logits = logits.index_fill(1, torch.tensor([self.stop]), -torch.inf)
        logits[ends, self.stop] = 1e4
        return self.plain(logits, temperature, banned, uniform)


def serve(connection, folder: Path, case: Case, steps: int, path: str) -> None:
    """Train by turns. Path "default" is what users get, "again" computes the prompts of the update again."""
    torch.set_num_threads(1)
    peak = matmul_peak()
    policy = load(folder, Choice(), torch.device("cpu"), "float32", "float32")
    settings = {} if path == "default" else {"reuse_prefill": False}
    grpo = GRPO(policy, folder, case, Choice(), "float32", **settings)
    turns = Turns(connection)
    turns.ready(parameters=parameter_counts(policy.model), matmul_peak=peak)
    for step in range(steps):
        if not turns.wait():
            return
        forced = ForcedLengths(case.lengths(step), policy.tokenizer.eos_token_id, step)
        with patch.object(decoding, "sample", decoding.sample if case.length else forced):
            groups = grpo.sample(*encoded_prompts(policy, folder, case, step), step)
        turns.phase("rollout")
        grpo.update(groups)
        turns.phase("total")
        lengths = [len(r.completion.ids) for g in groups for r in g.rollouts]
        if lengths != case.lengths(step):
            raise RuntimeError(f"completions have lengths {lengths}")
        turns.done(tokens=sum(lengths) + case.group * sum(len(g.prompt.ids) for g in groups))
    turns.wait()


def matmul_peak() -> float:
    """Floating point operations per CPU second of the best of twenty 1024 x 1024 x 1024 products, MKL's or oneDNN's."""
    a, b = torch.rand(2, 1024, 1024)
    best = float("inf")
    for product in (torch.matmul, linear) * 20:
        began = time.process_time()
        product(a, b)
        best = min(best, time.process_time() - began)
    return 2 * 1024**3 / best
