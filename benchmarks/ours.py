"""seethink's GRPO step on the benchmark's work: the same calls as `seethink grpo`, with the benchmark's reward."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

import torch
from work import BETA, LEARNING_RATE, QUESTION, TEMPERATURE, Case, Turns, image_paths, parameter_counts, reward

from seethink.core.types import Reward, Sample
from seethink.train import sampler
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig
from seethink.train.group import Group
from seethink.train.grpo import improve, reference_model
from seethink.train.linear import linear
from seethink.train.loss import group_advantages
from seethink.train.model import encode_prompt, load_policy, make_trainable
from seethink.train.optim import Optimiser


class ForcedLengths:
    """Stands in for `sampler.sample`: the stop token at a given length of each row, and never before.

    Rows are told apart by their random number, because rows leave the batch.
    """

    def __init__(self, lengths: list[int], stop: int, seed: int):
        self.lengths, self.stop, self.step = torch.tensor(lengths), stop, 0
        self.generator, self.plain = torch.Generator().manual_seed(seed), sampler.sample

    def __call__(self, logits, temperature, banned, uniform):
        self.step += 1
        drawn = torch.rand(len(self.lengths), generator=self.generator)
        rows = (uniform[:, None] == drawn).int().argmax(1)
        ends = self.lengths[rows] == self.step
        logits = logits.index_fill(1, torch.tensor([self.stop]), -torch.inf)
        logits[ends, self.stop] = 1e4
        return self.plain(logits, temperature, banned, uniform)


def serve(connection, folder: Path, case: Case, steps: int, path: str) -> None:
    """Train by turns. Path "C" trains through the prefill of the rollout, path "A" computes the prompts again."""
    torch.set_num_threads(1)
    peak = matmul_peak()
    config = GRPOConfig(
        out=folder / "ours",
        data=folder / "unused.jsonl",
        model=ModelConfig(path=folder, dtype="float32"),
        optim=OptimConfig(lr=LEARNING_RATE, warmup=0),
        prompts=case.prompts,
        group=case.group,
        update_prompts=case.prompts,
        temperature=TEMPERATURE,
        max_tokens=case.max_tokens,
        kl=BETA,
        kl_target=0,
    )
    policy = load_policy(folder)
    make_trainable(policy, config.model)
    reference, optimiser = reference_model(policy), Optimiser(policy, config.optim, steps)
    local = sampler.LocalSampler(policy, keep=case.prompts if path == "C" else 0)
    images = image_paths(folder, case.prompts * steps)
    turns = Turns(connection)
    turns.ready(parameters=parameter_counts(policy.model), matmul_peak=peak)
    step = 0
    while turns.wait():
        samples = [
            Sample(p, "bench", (p,), QUESTION, "1", "digit")
            for p in images[step * case.prompts : (step + 1) * case.prompts]
        ]
        groups = explore(local, config, case, samples, step)
        turns.phase("rollout")
        improve(policy, reference, optimiser, config, groups, BETA, local.kept)
        turns.phase("total")
        lengths = [len(c.ids) for g in groups for c in g.completions]
        if lengths != case.lengths(step):
            raise RuntimeError(f"completions have lengths {lengths}")
        turns.done(tokens=sum(lengths) + case.group * sum(len(g.prompt.ids) for g in groups))
        step += 1


def explore(
    local: sampler.LocalSampler, config: GRPOConfig, case: Case, samples: list[Sample], step: int
) -> list[Group]:
    """`seethink.train.grpo.explore` with another reward and, in ragged cases, forced lengths."""
    policy = local.policy
    prompts = [encode_prompt(policy, s, "") for s in samples]
    sample = sampler.sample if case.length else ForcedLengths(case.lengths(step), policy.tokenizer.eos_token_id, step)
    with patch.object(sampler, "sample", sample):
        completions = local.rollout(prompts, config.group, config.max_tokens, config.temperature, step)
    groups = []
    for i, group in enumerate(completions):
        texts = [sampler.decode(policy, c) for c in group]
        rewards = [Reward(reward(c.ids.tolist()), "ok", "digit") for c in group]
        advantages = group_advantages([r.value for r in rewards], config.std_norm)
        groups.append(Group(samples[i], prompts[i], group, texts, rewards, advantages, i))
    return groups


def matmul_peak() -> float:
    """Floating point operations per CPU second of the best of twenty 1024 x 1024 x 1024 products, MKL's or oneDNN's."""
    a, b = torch.rand(2, 1024, 1024)
    best = float("inf")
    for product in (torch.matmul, linear) * 20:
        began = time.process_time()
        product(a, b)
        best = min(best, time.process_time() - began)
    return 2 * 1024**3 / best
