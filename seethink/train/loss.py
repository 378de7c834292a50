"""Advantages, log-probabilities and the GRPO objective, as pure functions of tensors.

Paper section 4: J = mean over the group of the mean over tokens of min(r A, clip(r, 1 - eps, 1 + eps) A) - beta KL.
Shape letters: C completion tokens of a micro-batch, S completions, V vocabulary, N flat tokens of a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seethink.train.model.linear import linear

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


def token_log_probs(states: Tensor, head: Tensor, targets: Tensor, banned: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities [C] of targets [C] given hidden states [C, hidden] and head [V, hidden].

    Without gradients the [C, V] logits are never held at once; with gradients see `head_loss`.
    """
    parts = []
    for h, y in zip(states.split(_rows(head)), targets.split(_rows(head)), strict=True):
        logits = linear(h, head).float().index_fill_(1, banned, -torch.inf)
        if temperature != 1:
            logits = logits.div_(temperature)
        parts.append(torch.log_softmax(logits, -1).gather(1, y[:, None])[:, 0])
    return torch.cat(parts) if parts else states.new_zeros(0)


def head_loss(
    states: Tensor,
    head: Tensor,
    targets: Tensor,
    banned: Tensor,
    temperature: float,
    loss_of: Callable[[Tensor, slice], LossParts],
) -> LossParts:
    """A loss of token log-probabilities through the language head, with the memory of one chunk of logits.

    `loss_of` takes the log-probabilities [c] of a slice of the C tokens and returns a loss that is a sum over tokens, as
    `token_weights` makes it. So each chunk can give its gradients on the way forward, and no logits are kept or computed
    twice (the idea of Liger's fused losses, arXiv 2410.10989).
    """
    parts: list[LossParts] = []

    def chunk_loss(h: Tensor, w: Tensor, rows: slice) -> Tensor:
        parts.append(loss_of(token_log_probs(h, w, targets[rows], banned, temperature), rows))
        return parts[-1].loss

    loss = _ChunkedLoss.apply(states, head, chunk_loss)
    return LossParts(loss, {name: torch.cat([p.per_token[name] for p in parts]) for name in parts[0].per_token})


class _ChunkedLoss(torch.autograd.Function):
    """Sum of chunk losses; forward already holds the gradients for states and head."""

    @staticmethod
    def forward(ctx, states: Tensor, head: Tensor, chunk_loss: Callable[[Tensor, Tensor, slice], Tensor]) -> Tensor:
        w = head.detach().requires_grad_(head.requires_grad)
        d_states, total = torch.empty_like(states), states.new_zeros((), dtype=torch.float32)
        for start in range(0, len(states), _rows(head)):
            rows = slice(start, start + _rows(head))
            h = states[rows].detach().requires_grad_()
            with torch.enable_grad():
                loss = chunk_loss(h, w, rows)
                loss.backward()
            d_states[rows] = h.grad
            total += loss.detach()
        ctx.save_for_backward(d_states, w.grad)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        d_states, d_head = ctx.saved_tensors
        return d_states * grad, None if d_head is None else d_head.mul_(grad), None


def _rows(head: Tensor) -> int:
    """Tokens of a chunk."""
    return max(1, CHUNK_ELEMENTS // head.shape[0])


def token_weights(
    lengths: list[int], normalisation: Normalisation, max_tokens: int, everyone: list[int] | None = None
) -> list[float]:
    """Weight of each token of each completion, so that the loss of a batch is a plain sum over its micro-batches.

    `lengths` are those of all completions of the optimiser step, or `everyone` where this rank has only some. grpo: mean over completions of the mean over tokens
    (the paper); dapo: mean over all tokens; dr_grpo: sum over tokens / (completions x max_tokens).
    """
    everyone = lengths if everyone is None else everyone
    S, total = len(everyone), sum(everyone)
    if normalisation == "grpo":
        return [1 / (S * max(n, 1)) for n in lengths]
    if normalisation == "dapo":
        return [1 / max(total, 1)] * len(lengths)
    return [1 / (S * max_tokens)] * len(lengths)


@dataclass(frozen=True)
class LossParts:
    """Loss (a sum, already weighted) and what is logged of it."""

    loss: Tensor
    per_token: dict[str, Tensor]
    """Name -> [C], without gradients."""


def grpo_loss(
    log_probs: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    weights: Tensor,
    clip_low: float,
    clip_high: float,
    beta: float,
    importance: Tensor | None = None,
) -> LossParts:
    """Clipped policy gradient with a k3 KL penalty (paper section 4). All tensors [C]; `weights` from token_weights.

    `importance` (from importance_weights) scales the policy gradient, not the penalty.
    Per token: "kl", the k3 estimate of KL(policy || reference), zeros without a reference; "clip_share", 1 where the clip
    bound is active.
    """
    ratio = torch.exp(log_probs - old)
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    gain = torch.minimum(ratio * advantages, bounded * advantages)
    if importance is not None:
        gain = gain * importance
    kl = torch.zeros_like(log_probs)
    if reference is not None:
        gap = reference - log_probs
        kl = torch.exp(gap) - gap - 1
    loss = ((beta * kl - gain) * weights).sum()
    clipped = ((ratio < 1 - clip_low) & (advantages < 0)) | ((ratio > 1 + clip_high) & (advantages > 0))
    return LossParts(loss, {"kl": kl.detach(), "clip_share": clipped.float()})


def importance_weights(old: Tensor, sampled: Tensor, cap: float) -> Tensor:
    """[C] min(policy / sampler, cap): truncated importance sampling (Ionides 2008) for an engine that is not the policy.

    `old` and `sampled` are log-probabilities [C] of the same weights, in the policy's arithmetic and in the engine's.
    """
    return torch.exp((old - sampled).detach()).clamp_max(cap)


def adapt_kl(beta: float, kl: float, target: float, completions: int, horizon: int) -> float:
    """Next KL coefficient: proportional control towards `target`, as in Ziegler et al. 2019, section 2.2."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return beta * (1 + error * completions / horizon)
