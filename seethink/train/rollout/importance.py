"""Rollouts from an engine that is not quite the policy: the policy's own log-probabilities, and weights that correct."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from seethink.train.dist import Ranks
from seethink.train.loss import importance_weights, token_log_probs
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import EncodedPrompt, Policy, idle_prompt, image_features
from seethink.train.optim import micro_batches


@torch.no_grad()
def policy_log_probs(
    policy: Policy, prompts: list[EncodedPrompt], completions_BG: list[list[Tensor]], temperature: float, budget: int
) -> list[Tensor]:
    """Log-probabilities of completions (ids [T] each) under the policy as it is now: one [T] for each, in order.

    At most `budget` tokens are computed at once, a longer group alone. Every one of the policy's ranks must call it.
    """

    def score(part: list[EncodedPrompt], groups: list[list[Tensor]]) -> Tensor:
        packed = pack(part, groups, policy.image_token).to(policy.device)
        hidden = hidden_states(policy.model, packed, image_features(policy, part))
        return token_log_probs(hidden, policy.model.lm_head.weight, packed.targets, policy.banned, temperature)

    scored, idle = [], idle_prompt(policy)
    tokens = [len(p.ids) + sum(map(len, group)) for p, group in zip(prompts, completions_BG, strict=True)]
    work = (([prompts[i] for i in b], [completions_BG[i] for i in b]) for b in micro_batches(tokens, budget))
    for (part, groups), real in policy.ranks.even(work, ([idle], [[idle.ids]])):
        log_probs = policy.ranks.forward(policy.model, partial(score, part, groups))
        if real:
            scored += log_probs.cpu().split([len(ids) for group in groups for ids in group])
    return scored


@dataclass
class Correction:
    """Importance weights of one round, and what is logged of them.

    cap       weights are cut off here: a few tokens that the engine thought unlikely must not rule the update
    recalled  id of a completion -> [T] the policy's log-probabilities before the round's first update
    gaps      [C] of each micro-batch: the policy's log-probabilities less the engine's
    """

    cap: float
    recalled: dict[int, Tensor] = field(default_factory=dict)
    gaps: list[Tensor] = field(default_factory=list)

    def weights(self, old: Tensor, sampled: Tensor) -> Tensor:
        """[C] from the policy's and the engine's log-probabilities [C], both of the weights that sampled."""
        self.gaps.append((old - sampled).cpu())
        return importance_weights(old, sampled, self.cap)

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """Of the tokens of all ranks."""
        gaps = torch.cat(ranks.gather(self.gaps) or [torch.zeros(1)])
        return {
            "sampler/log_prob_gap": float(gaps.abs().mean()),
            "sampler/log_prob_gap_max": float(gaps.abs().max()),
            "sampler/capped_share": float((gaps.exp() > self.cap).float().mean()),
        }
