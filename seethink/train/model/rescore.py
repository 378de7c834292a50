"""Log-probabilities of completions under the policy as it is now, or another model, without gradients."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from seethink.train.batches import micro_batches
from seethink.train.dist import Ranks
from seethink.train.loss import token_log_probs
from seethink.train.model.policy import EncodedPrompt, Policy, idle_prompt, image_features
from seethink.train.model.turns import See, Turn, Turns


@torch.no_grad()
def score(ranks: Ranks, model, turns: Turns, see: See, banned: Tensor, temperature: float) -> Tensor:
    """Log-probabilities [C] of the completions of all turns under a model, which every rank must ask."""
    prefix = turns.prefix(ranks, model, see) if len(turns) > 1 else None

    def of(turn: Turn) -> Tensor:
        states = turns.states(model, turn, prefix, see)
        return token_log_probs(states, model.lm_head.weight, turn.targets, banned, temperature)

    scored = [(turn, ranks.forward(model, partial(of, turn))) for turn in turns]
    return torch.cat([log_probs for turn, log_probs in scored if not turn.idle])


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

    Of the distribution that is sampled from, without `banned` (ids [n]; None: the policy's). At most `budget` tokens are computed
    at once, a longer group alone and in turns. Every one of the policy's ranks must call it.
    """
    scored: list[Tensor] = []
    out = policy.banned if banned is None else banned
    idle = idle_prompt(policy)
    tokens = [len(p.ids) + sum(map(len, group)) for p, group in zip(prompts, completions_BG, strict=True)]
    work = (([prompts[i] for i in b], [completions_BG[i] for i in b]) for b in micro_batches(tokens, budget))
    with policy.autocast():
        for (part, groups), real in policy.ranks.even(work, ([idle], [[idle.ids]])):
            turns = Turns.of(policy, part, groups, budget)
            see = partial(image_features, policy, part)
            log_probs = score(policy.ranks, policy.model, turns, see, out, temperature)
            if real:
                scored += log_probs.cpu().split([len(ids) for group in groups for ids in group])
    return scored
