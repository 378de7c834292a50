"""Answers of a model folder, computed here: by the project's own sampler or by vLLM, on one process or several."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Protocol

import torch

from seethink.core.nouns import Example, Sample, Trace
from seethink.core.preflight import Sizes
from seethink.core.progress import progress
from seethink.core.store import DataRow
from seethink.evals.answers.responses import Keep, Key
from seethink.evals.board import Response
from seethink.evals.config import EvalConfig, against_of, model_of
from seethink.train.dist import Ranks
from seethink.train.model.divergence import distances, refuse_strangers
from seethink.train.model.policy import EncodedPrompt, Policy, encode_prompt, frozen, load_policy
from seethink.train.needs import reading_in_words
from seethink.train.preflight import check_lengths, load_reader
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.engine import sample_engine
from seethink.train.rollout.sampler import LocalSampler, decode
from seethink.train.rollout.vllm import InProcessEngine

VLLM_MEMORY = 0.9  # share of a GPU's memory: nothing else is on it


class Rollouts(Protocol):
    """Where completions come from."""

    def rollout(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]: ...

    def close(self) -> None: ...


class VllmRollouts:
    """vLLM with the weights of the policy's folder; the policy only encodes prompts."""

    def __init__(self, policy: Policy, config: EvalConfig, device: torch.device) -> None:
        longest = policy.model.config.text_config.max_position_embeddings
        length = min(policy.max_prompt_tokens + config.max_tokens, longest)
        self.policy = policy
        self.engine = InProcessEngine(policy.folder, device, policy.dtype, length, VLLM_MEMORY)

    def rollout(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]:
        return sample_engine(self.policy, self.engine, prompts, group, max_tokens, temperature, seed)

    def close(self) -> None:
        self.engine.close()


def check_prompts(config: EvalConfig, rows: list[DataRow], sizes: Sizes) -> list[DataRow]:
    """The rows, a fault in the place of each whose prompt the model cannot take."""
    checked, _ = check_lengths(rows, load_reader(model_of(config)), sizes)
    return checked


def memory_in_words(config: EvalConfig, samples: Sequence[Sample], sizes: Sizes) -> str:
    """For a dry run: what the model takes of a GPU, its weights fetched or not."""
    rows = [DataRow("", sample.id, Example(sample, "")) for sample in samples]
    _, longest = check_lengths(rows, load_reader(model_of(config), weights=False), sizes)
    prompts = min(config.batch, len(samples))
    return reading_in_words(model_of(config), prompts, prompts * config.samples, longest, config.max_tokens)


def run_model(config: EvalConfig, samples: Sequence[Sample], answered: Iterable[Key], ranks: Ranks, keep: Keep) -> None:
    """Computes and keeps what is not yet answered of this rank's batches.

    Batches are those of the whole board, so neither a resume nor the number of ranks changes an answer.
    """
    known, batches = set(answered), []
    for start in range(0, len(samples), config.batch):
        part = samples[start : start + config.batch]
        if missing := {(s.id, draw) for s in part for draw in range(config.samples)} - known:
            batches.append((start, part, missing))
    batches = batches[ranks.rank :: ranks.world]
    if not batches:
        return
    policy, sampler = load(config, ranks)
    other = load_other(config, policy, ranks)
    with closing(sampler), progress("eval", sum(len(b[2]) for b in batches), show=ranks.first) as bar:
        for start, part, missing in batches:
            began = time.perf_counter()
            prompts = [encode_prompt(policy, sample) for sample in part]
            groups = sampler.rollout(
                prompts, config.samples, config.max_tokens, config.temperature, config.seed + start
            )
            spent = (time.perf_counter() - began) / (len(part) * config.samples)
            measured = measure(policy, other, prompts, groups)
            policy.features.clear()  # every item is seen once
            for sample, group, values in zip(part, groups, measured, strict=True):
                for draw, completion in enumerate(group):
                    if (sample.id, draw) in missing:
                        trace = _trace(config, policy, sample, completion)
                        keep(Response(sample, trace, draw, spent)._replace(**values[draw]))
            bar.advance(len(missing))


def load(config: EvalConfig, ranks: Ranks) -> tuple[Policy, Rollouts]:
    """The model, whole on every rank. Raises UserError for a folder that is no model, or without vLLM where it is asked for."""
    if config.engine == "local":
        policy = frozen(load_policy(model_of(config), Ranks(device=ranks.device)))
        return policy, LocalSampler(policy)
    policy = load_policy(model_of(config), Ranks(device=torch.device("cpu")), torch.bfloat16)  # the GPU is for vLLM
    return policy, VllmRollouts(policy, config, ranks.device)


def load_other(config: EvalConfig, policy: Policy, ranks: Ranks) -> Policy | None:
    """The model that answers are also scored under; None where none is named. Raises UserError for one of other tokens."""
    if config.against is None:
        return None
    other = frozen(load_policy(against_of(config, config.against), Ranks(device=ranks.device)))
    refuse_strangers(policy, other)
    return other


def measure(
    policy: Policy, other: Policy | None, prompts: list[EncodedPrompt], groups: list[list[Completion]]
) -> list[list[dict[str, float]]]:
    """{"entropy", "kl"} of every completion of every group, means over its tokens; empty without another model."""
    if other is None:
        return [[{} for _ in group] for group in groups]
    found = iter(distances(policy, other, prompts, [[completion.ids for completion in group] for group in groups]))
    other.features.clear()
    return [[{name: float(x.mean()) for name, x in next(found)._asdict().items()} for _ in group] for group in groups]


def _trace(config: EvalConfig, policy: Policy, sample: Sample, completion: Completion) -> Trace:
    stop = "length" if completion.stop == "length" else "stop"
    return Trace(sample.id, config.model, decode(policy, completion), stop, len(completion.ids))
