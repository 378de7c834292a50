"""Rollouts: the vision tower and the prompt once per group, one key-value cache shared by its G completions.

Decoding is continuous: prompts that entered together form a cohort, several cohorts decode in one batch, rows leave as they
finish, and waiting prompts enter as a new cohort when enough rows are free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from seethink.train.model.linear import linear
from seethink.train.model.pack import pack, run_layers
from seethink.train.model.policy import EncodedPrompt, Policy, image_features
from seethink.train.model.prefix import Prefix, prefill
from seethink.train.rollout.decoding import Cohort, CohortsLayout, Completion, Draws, Replay


class Sampler(Protocol):
    """Where completions come from: this process, or an engine that holds a copy of the weights.

    exact   True when recorded log-probabilities are the policy's own; False: the update corrects by importance weights
    version optimiser steps behind the weights that it samples from
    kept    prefixes of the latest rollout's first prompts with their graphs; empty where none were asked for
    """

    exact: bool
    version: int
    kept: list[Prefix]

    def rollout(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]: ...

    def push(self, version: int) -> None:
        """Take over the policy's weights after an update. Raises when the sampler does not agree with them."""

    def sleep(self) -> None:
        """Give accelerator memory back while the policy is updated; `push` wakes it."""

    def close(self) -> None: ...


@dataclass
class LocalSampler:
    """The policy itself: its weights are always the latest.

    capacity       completions decoded at once
    prefill_tokens prompt tokens computed at once
    keep           of so many first prompts, as far as they and their completions fit into `prefill_tokens`, the prefill's graph
                   is kept in `kept`, for the update that follows
    """

    policy: Policy
    version: int = 0
    capacity: int = 512
    prefill_tokens: int = 16384
    keep: int = 0
    kept: list[Prefix] = field(default_factory=list)
    exact = True

    def __post_init__(self) -> None:
        self.push(self.version)

    @torch.no_grad()
    def rollout(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]:
        """`group` completions for each prompt; temperature 0 is greedy. The same seed gives the same completions.

        Continuous: prompts wait until rows are free, at most `capacity` rows decode at once, and finished rows leave.
        """
        policy, model = self.policy, self.policy.model
        self.kept.clear()
        draws = Draws.empty(policy, len(prompts) * group, max_tokens, temperature, seed)
        # prompts are trained together with their completions, and these may come to their limit
        keep = fitting(prompts, 0, self.keep, self.prefill_tokens, group * max_tokens) if self.keep else 0
        head = model.lm_head.weight.to(policy.dtype)  # once: autocast would cast a frozen one at every token

        def step(cohorts: list[Cohort]) -> Tensor:
            embeds = model.get_input_embeddings()(torch.cat([c.token for c in cohorts]))
            positions = torch.cat([c.positions for c in cohorts]).expand(3, -1)
            hidden = run_layers(model, embeds, positions, CohortsLayout(cohorts))
            return draws.draw(cohorts, linear(hidden, head))

        replay = Replay(step, record=policy.device.type == "cuda" and not policy.ranks.mesh)
        cohorts: list[Cohort] = []
        waiting = 0  # the first prompt that has not entered
        with policy.autocast():
            while waiting < len(prompts) or cohorts:
                free = (self.capacity - sum(len(c.rows) for c in cohorts)) // group
                enough = max(self.capacity // group // 4, 1)  # for so many it is worth to prefill
                while waiting < len(prompts) and (not cohorts or free >= min(enough, len(prompts) - waiting)):
                    stop = min(keep if waiting < keep else len(prompts), waiting + max(free, 1))
                    end = fitting(prompts, waiting, stop, self.prefill_tokens)
                    prefix = self.prefill(prompts[waiting:end], graph=waiting < keep)
                    fresh = [Cohort.enter(prefix, waiting, group, max_tokens)]
                    logits = linear(prefix.states, head).repeat_interleave(group, 0)
                    cohorts += draws.going(fresh, draws.draw(fresh, logits))
                    waiting = end
                    free = (self.capacity - sum(len(c.rows) for c in cohorts)) // group
                if cohorts:
                    for cohort in cohorts:
                        cohort.make_room()
                    cohorts = draws.going(cohorts, replay(cohorts))
        done = draws.completions()
        return [done[i : i + group] for i in range(0, len(done), group)]

    def prefill(self, prompts: list[EncodedPrompt], graph: bool) -> Prefix:
        """The prefix of these prompts to decode from; with `graph` another one, for training, goes to `kept`."""
        with torch.set_grad_enabled(graph):
            packed = pack(prompts, [[]] * len(prompts), self.policy.image_token).to(self.policy.device)
            prefix = prefill(self.policy.model, packed, image_features(self.policy, prompts))
        if graph:
            self.kept.append(prefix)
        return prefix.detached()

    def push(self, version: int) -> None:
        self.policy.ranks.gather_weights(self.policy.model)
        self.version = version

    def sleep(self) -> None:
        self.policy.ranks.release_weights(self.policy.model)

    def close(self) -> None:
        self.sleep()


def fitting(prompts: list[EncodedPrompt], start: int, stop: int, tokens: int, beside: int = 0) -> int:
    """End of the run of prompts from `start` to `stop` that fit into `tokens` tokens, each with so many `beside`; at least one."""
    end, size = start + 1, len(prompts[start].ids) + beside
    while end < stop and size + len(prompts[end].ids) + beside <= tokens:
        size += len(prompts[end].ids) + beside
        end += 1
    return end


def decode(policy: Policy, completion: Completion) -> str:
    """Text of a completion without the stop token that ended it; other special tokens stay visible."""
    ids = completion.ids[:-1] if completion.stop == "stop" else completion.ids
    return str(policy.tokenizer.decode(ids, skip_special_tokens=False))
