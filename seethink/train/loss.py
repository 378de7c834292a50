"""Advantages, log-probabilities and the GRPO objective, as pure functions of tensors.

Paper section 4: J = mean over the group of the mean over tokens of min(r A, clip(r, 1 - eps, 1 + eps) A) - beta KL.
Shape letters: C completion tokens of a micro-batch, S completions, V vocabulary, N flat tokens of a pack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seethink.train.linear import linear

Normalisation = Literal["grpo", "dr_grpo", "dapo"]
CHUNK_ELEMENTS = 2**25  # logits held at once: 128 MB in fp32


def group_advantages(rewards: list[float | None], scale_by_std: bool, eps: float = 1e-4) -> list[float | None]:
    """(r - mean) [/ (std + eps)] over the decided rewards of one group, std unbiased as in TRL.

    None for undecided rewards, and for all when fewer than two are decided or all are equal: nothing to learn from.
    """
    decided = torch.tensor([r for r in rewards if r is not None], dtype=torch.float64)
    if len(decided) < 2 or float(decided.max() - decided.min()) < 1e-9:
        return [None] * len(rewards)
    centred = decided - decided.mean()
    if scale_by_std:
        centred = centred / (decided.std() + eps)
    values = iter(centred.tolist())
    return [None if r is None else next(values) for r in rewards]


def token_log_probs(
    hidden: Tensor, head: Tensor, targets: Tensor, banned: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy, each [C], of targets [C] given hidden [C, hidden] and head [V, hidden].

    The [C, V] logits are never held at once: chunks are recomputed in the backward pass. Entropy carries no gradient.
    """
    rows = max(1, CHUNK_ELEMENTS // head.shape[0])
    parts = []
    for h, y in zip(hidden.split(rows), targets.split(rows), strict=True):
        recompute = torch.is_grad_enabled() and len(hidden) > rows
        args = (h, head, y, banned, temperature)
        parts.append(checkpoint(_chunk, *args, use_reentrant=False) if recompute else _chunk(*args))
    if not parts:
        return hidden.new_zeros(0), hidden.new_zeros(0)
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _chunk(hidden: Tensor, head: Tensor, targets: Tensor, banned: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logits = linear(hidden, head).float().index_fill(1, banned, -torch.inf) / temperature
    log_p = torch.log_softmax(logits, -1)
    with torch.no_grad():
        entropy = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0)).sum(-1)
    return log_p.gather(1, targets[:, None])[:, 0], entropy


def token_weights(lengths: list[int], normalisation: Normalisation, max_tokens: int) -> list[float]:
    """Weight of each token of each completion, so that the loss of a batch is a plain sum over its micro-batches.

    `lengths` are those of all completions of the optimiser step. grpo: mean over completions of the mean over tokens
    (the paper); dapo: mean over all tokens; dr_grpo: sum over tokens / (completions x max_tokens).
    """
    S, total = len(lengths), sum(lengths)
    if normalisation == "grpo":
        return [1 / (S * max(n, 1)) for n in lengths]
    if normalisation == "dapo":
        return [1 / max(total, 1)] * S
    return [1 / (S * max_tokens)] * S


@dataclass(frozen=True)
class LossParts:
    """Loss (a sum, already weighted) and what is logged of it."""

    loss: Tensor
    kl: Tensor
    """[C] k3 estimate of KL(policy || reference) per token; zeros without a reference."""
    clipped: Tensor
    """[C] True where the clip bound is active."""


def grpo_loss(
    log_probs: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    weights: Tensor,
    clip_low: float,
    clip_high: float,
    beta: float,
) -> LossParts:
    """Clipped policy gradient with a k3 KL penalty (paper section 4). All tensors [C]; `weights` from token_weights."""
    ratio = torch.exp(log_probs - old)
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    gain = torch.minimum(ratio * advantages, bounded * advantages)
    kl = torch.zeros_like(log_probs)
    if reference is not None:
        gap = reference - log_probs
        kl = torch.exp(gap) - gap - 1
    loss = ((beta * kl - gain) * weights).sum()
    clipped = ((ratio < 1 - clip_low) & (advantages < 0)) | ((ratio > 1 + clip_high) & (advantages > 0))
    return LossParts(loss, kl.detach(), clipped.detach())


def adapt_kl(beta: float, kl: float, target: float, completions: int, horizon: int) -> float:
    """Next KL coefficient: proportional control towards `target`, as in Ziegler et al. 2019, section 2.2."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return beta * (1 + error * completions / horizon)
