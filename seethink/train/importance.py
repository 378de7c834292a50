"""Rollouts from an engine that is not quite the policy: the policy's own log-probabilities, and weights that correct."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from seethink.train.loss import importance_weights, token_log_probs
from seethink.train.model import EncodedPrompt, Policy, image_features
from seethink.train.optim import micro_batches
from seethink.train.pack import hidden_states, pack


@torch.no_grad()
def policy_log_probs(
    policy: Policy, prompts: list[EncodedPrompt], completions_BG: list[list[Tensor]], temperature: float, budget: int
) -> list[Tensor]:
    """Log-probabilities of completions (ids [T] each) under the policy as it is now: one [T] for each, in order.

    At most `budget` tokens are computed at once, a longer group alone.
    """
    scored = []
    tokens = [len(p.ids) + sum(map(len, group)) for p, group in zip(prompts, completions_BG, strict=True)]
    for batch in micro_batches(tokens, budget):
        part, groups = [prompts[i] for i in batch], [completions_BG[i] for i in batch]
        packed = pack(part, groups, policy.image_token).to(policy.device)
        hidden = hidden_states(policy.model, packed, image_features(policy, part))
        head = policy.model.lm_head.weight
        log_probs = token_log_probs(hidden, head, packed.targets, policy.banned, temperature)
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

    def metrics(self) -> dict[str, float]:
        gaps = torch.cat(self.gaps) if self.gaps else torch.zeros(1)
        return {
            "sampler/log_prob_gap": float(gaps.abs().mean()),
            "sampler/log_prob_gap_max": float(gaps.abs().max()),
            "sampler/capped_share": float((gaps.exp() > self.cap).float().mean()),
        }
