"""Log-probabilities of completions under the policy as it is now, without gradients."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from seethink.train.batches import micro_batches
from seethink.train.loss import token_log_probs
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import EncodedPrompt, Policy, idle_prompt, image_features


@torch.no_grad()
def rescore(
    policy: Policy,
    prompts: list[EncodedPrompt],
    completions_BG: list[list[Tensor]],
    temperature: float,
    budget: int,
    banned: Tensor | None = None,
) -> list[Tensor]:
    """Log-probabilities of completions (ids [T] each), one [T] on the CPU for each, in order.

    Of the distribution that is sampled from, without `banned` (ids [n]; None: the policy's). At most `budget` tokens are computed at once, a longer group alone. Every one of the policy's ranks must call it.
    """

    def score(part: list[EncodedPrompt], groups: list[list[Tensor]]) -> Tensor:
        packed = pack(part, groups, policy.image_token).to(policy.device)
        hidden = hidden_states(policy.model, packed, image_features(policy, part))
        out = policy.banned if banned is None else banned
        return token_log_probs(hidden, policy.model.lm_head.weight, packed.targets, out, temperature)

    scored: list[Tensor] = []
    idle = idle_prompt(policy)
    tokens = [len(p.ids) + sum(map(len, group)) for p, group in zip(prompts, completions_BG, strict=True)]
    work = (([prompts[i] for i in b], [completions_BG[i] for i in b]) for b in micro_batches(tokens, budget))
    with policy.autocast():
        for (part, groups), real in policy.ranks.even(work, ([idle], [[idle.ids]])):
            log_probs = policy.ranks.forward(policy.model, partial(score, part, groups))
            if real:
                scored += log_probs.cpu().split([len(ids) for group in groups for ids in group])
    return scored
