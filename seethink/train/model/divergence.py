"""How sure a policy is of what it writes, and how far it has moved from another model: exact sums over the vocabulary.

Both are read at the places where the policy's own completions were written, of its own distribution at temperature 1:
over completions that were sampled from it, the mean over tokens estimates entropy and KL(policy || other) per token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.train.batches import micro_batches
from seethink.train.model.linear import linear
from seethink.train.model.pack import Pack, hidden_states, pack
from seethink.train.model.policy import EncodedPrompt, Policy, image_features
from seethink.train.rollout.decoding import LOWEST

CHUNK_LOGITS = 2**24  # logits of one model that are held at once: 64 MB in fp32


class Distance(NamedTuple):
    """Of the tokens of one completion, each [T], nats."""

    entropy: Tensor
    kl: Tensor
    """KL(policy || other); never negative but for rounding."""


@torch.no_grad()
def distances(
    policy: Policy, other: Policy, prompts: list[EncodedPrompt], completions_BG: list[list[Tensor]], budget: int = 16384
) -> list[Distance]:
    """One Distance per completion (ids [T] each), in order, on the CPU. Tokens that no policy may sample have no share.

    At most `budget` tokens are computed at once, a longer group alone. Both models read the policy's prompts.
    """
    found: list[Distance] = []
    tokens = [len(p.ids) + sum(map(len, group)) for p, group in zip(prompts, completions_BG, strict=True)]
    for batch in micro_batches(tokens, budget):
        part, groups = [prompts[i] for i in batch], [completions_BG[i] for i in batch]
        packed = pack(part, groups, policy.image_token)
        entropy, kl = vocabulary_sums(policy, other, *(_states(one, packed, part) for one in (policy, other)))
        lengths = [len(ids) for group in groups for ids in group]
        found += map(Distance, entropy.cpu().split(lengths), kl.cpu().split(lengths))
    return found


def vocabulary_sums(policy: Policy, other: Policy, states: Tensor, of_other: Tensor) -> tuple[Tensor, Tensor]:
    """(entropy, KL), both [C], from the last hidden states [C, hidden] of the two models.

    The terms p log(p / q) - p + q are never negative and have the same sum as p log(p / q): less is lost to rounding.
    """
    entropies, kls = [], []
    rows = max(1, CHUNK_LOGITS // policy.model.lm_head.weight.shape[0])
    for h, g in zip(states.split(rows), of_other.split(rows), strict=True):
        log_p, log_q = (_log_probs(one, x, policy.banned) for one, x in ((policy, h), (other, g)))
        p = log_p.exp()
        entropies.append(-(p * log_p).sum(-1))
        kls.append((p * (log_p - log_q) - p + log_q.exp()).sum(-1))
    return torch.cat(entropies), torch.cat(kls)


def refuse_strangers(policy: Policy, other: Policy) -> None:
    """Raises UserError where two models do not speak of the same tokens, or see pictures as other patches."""
    sizes = [one.model.lm_head.weight.shape[0] for one in (policy, other)]
    if sizes[0] != sizes[1] or policy.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        what = f"its vocabulary ({sizes[1]} tokens) is not that of the model ({sizes[0]})"
    elif policy.model.config.model_type != other.model.config.model_type:
        what = f"it is of another family ({other.model.config.model_type}) than the model ({policy.model.config.model_type})"
    else:
        return
    raise UserError(what, where=other.folder, remedy="Give the model that training started from")


def _states(policy: Policy, packed: Pack, prompts: list[EncodedPrompt]) -> Tensor:
    """[C, hidden]"""
    with policy.autocast():
        return hidden_states(policy.model, packed.to(policy.device), image_features(policy, prompts))


def _log_probs(policy: Policy, states: Tensor, banned: Tensor) -> Tensor:
    """[c, V], the lowest finite number where a token is banned, so that its share times it is 0."""
    with policy.autocast():
        logits = linear(states, policy.model.lm_head.weight).float()
    return torch.log_softmax(logits.index_fill_(1, banned, LOWEST), -1)
