"""Log-probabilities and the GRPO objective, as pure functions of tensors.

Paper section 4: J = mean over the group of the mean over tokens of min(r A, clip(r, 1 - eps, 1 + eps) A) - beta KL.
Shape letters: C completion tokens of a micro-batch, S completions, V vocabulary, N flat tokens of a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from seethink.train.model.linear import linear

Normalisation = Literal["grpo", "dr_grpo", "dapo"]
CHUNK_ELEMENTS = 2**25  # logits held at once: 128 MB in fp32
GPU_ROWS = 2048  # tokens of a chunk on a GPU, whose products are slow on fewer: 1.2 GB of logits where V is 151,936


def token_log_probs(states: Tensor, head: Tensor, targets: Tensor, banned: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities [C] of targets [C] given hidden states [C, hidden] and head [V, hidden].

    Without gradients the [C, V] logits are never held at once; with gradients see `head_loss`.
    """
    size, scores = chunk_rows(head), Scores.of(head, banned, temperature)
    chunks = zip(states.split(size), targets.split(size), strict=True)
    parts = [scores.read(scores.made(linear(h, head)), y[:, None])[0] for h, y in chunks]
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

    def slope(log_probs: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """(loss, its derivative by each log-probability [c])"""
        with torch.enable_grad():
            log_probs.requires_grad_()
            parts.append(loss_of(log_probs, rows))
            (by_token,) = torch.autograd.grad(parts[-1].loss, log_probs)
        return parts[-1].loss.detach(), by_token

    loss = _HeadLoss.apply(states, head, targets, banned, temperature, slope)
    return LossParts(loss, of_tokens(parts))


class _HeadLoss(torch.autograd.Function):
    """Sum of chunk losses; forward already holds the gradients for states and head."""

    @staticmethod
    def forward(
        ctx, states: Tensor, head: Tensor, targets: Tensor, banned: Tensor, temperature: float, slope
    ) -> Tensor:
        d_states, total = torch.empty_like(states), states.new_zeros((), dtype=torch.float32)
        d_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
        if torch.is_autocast_enabled(head.device.type):  # once, not in every chunk
            head = head.to(torch.get_autocast_dtype(head.device.type))
        scores = Scores.of(head, banned, temperature)
        for start in range(0, len(states), chunk_rows(head)):
            rows = slice(start, start + chunk_rows(head))
            h, y = states[rows], targets[rows, None]
            logits = scores.made(linear(h, head))
            log_p, log_z = scores.read(logits, y)
            loss, by_token = slope(log_p, rows)
            total += loss
            by_logits = scores.slopes(logits, log_z, y, by_token[:, None] / temperature)
            d_states[rows] = linear(by_logits, head.t())
            if d_head is not None:
                d_head += linear(by_logits.t(), h.t())
            del logits, by_logits  # before the next chunk, not after it
        ctx.save_for_backward(d_states, d_head)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        d_states, d_head = ctx.saved_tensors
        return d_states * grad, None if d_head is None else d_head.mul_(grad), None, None, None, None


def chunk_rows(head: Tensor) -> int:
    """Tokens whose logits are held at once, for a head [V, hidden]."""
    return GPU_ROWS if head.is_cuda else max(1, CHUNK_ELEMENTS // head.shape[0])


@dataclass(frozen=True)
class Scores:
    """What is read from a chunk of logits, and written over it. `banned` holds ids [n].

    With p = softmax(logits / temperature) and g the derivative by the log-probability of the target y, the derivative by the
    logits is g (1[y] - p) / temperature.
    """

    banned: Tensor
    temperature: float

    @staticmethod
    def of(head: Tensor, banned: Tensor, temperature: float) -> Scores:
        if not head.is_cuda:
            return Scores(banned, temperature)
        return FusedScores(
            torch.zeros(len(head), dtype=torch.bool, device=head.device).index_fill(0, banned, True), temperature
        )

    def made(self, logits: Tensor) -> Tensor:
        """Logits [c, V] in fp32, banned ones -inf, divided by the temperature; in place where they are fp32."""
        logits = logits.float().index_fill_(1, self.banned, -torch.inf)
        return logits if self.temperature == 1 else logits.div_(self.temperature)

    def read(self, scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probabilities [c] of targets y [c, 1], log of the sum [c, 1])"""
        log_z = scores.logsumexp(-1, keepdim=True)
        return (scores.gather(1, y) - log_z)[:, 0], log_z

    def slopes(self, scores: Tensor, log_z: Tensor, y: Tensor, by_token: Tensor) -> Tensor:
        """Derivatives [c, V] by the logits, where `by_token` [c, 1] is g / temperature; written over the scores."""
        return scores.sub_(log_z).exp_().mul_(-by_token).scatter_add_(1, y, by_token)


class FusedScores(Scores):
    """The same on a GPU, where logits stay in the precision of the product and each step passes over them once.

    `banned` is a mask [V].
    """

    def made(self, logits: Tensor) -> Tensor:
        return logits

    def read(self, scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return compiled(_read)(scores, y, self.banned, self.temperature)

    def slopes(self, scores: Tensor, log_z: Tensor, y: Tensor, by_token: Tensor) -> Tensor:
        return compiled(_slopes)(scores, log_z, y, by_token, self.banned, self.temperature)


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True, fullgraph=True)


def _read(logits: Tensor, y: Tensor, banned: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    scores = torch.where(banned, -torch.inf, logits.float() / temperature)
    log_z = scores.logsumexp(-1, keepdim=True)
    return (scores.gather(1, y) - log_z)[:, 0], log_z


def _slopes(logits: Tensor, log_z: Tensor, y: Tensor, by_token: Tensor, banned: Tensor, temperature: float) -> Tensor:
    p = torch.where(banned, 0, torch.exp(logits.float() / temperature - log_z))
    target = torch.arange(logits.shape[1], device=logits.device) == y
    return logits.copy_(torch.where(target, by_token * (1 - p), -by_token * p))


def token_weights(
    lengths: list[int], normalisation: Normalisation, max_tokens: int, everyone: list[int] | None = None
) -> list[float]:
    """Weight of each token of each completion, so that the loss of a batch is a plain sum over its micro-batches.

    `lengths` are those of all completions of the optimiser step, or `everyone` where this rank has only some. grpo: mean over
    completions of the mean over tokens (the paper); dapo: mean over all tokens; dr_grpo: sum over tokens / (completions x
    max_tokens).
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


def of_tokens(parts: list[LossParts]) -> dict[str, Tensor]:
    """`per_token` of all parts, in order."""
    return {name: torch.cat([p.per_token[name] for p in parts]) for name in parts[0].per_token}


@dataclass(frozen=True)
class Given:
    """What the loss of each completion token depends on besides its log-probability, all [C].

    advantages  of its completion
    weights     from token_weights
    old         the policy's log-probabilities before the round's first update; None: this is that update
    sampled     the log-probabilities of an engine that is not quite the policy; None: the policy sampled itself
    reference   log-probabilities of the reference model; None: no KL penalty
    """

    advantages: Tensor
    weights: Tensor
    old: Tensor | None = None
    sampled: Tensor | None = None
    reference: Tensor | None = None

    def at(self, rows: slice) -> Given:
        """Those of some tokens."""
        old, sampled, reference = (None if x is None else x[rows] for x in (self.old, self.sampled, self.reference))
        return Given(self.advantages[rows], self.weights[rows], old, sampled, reference)


@dataclass(frozen=True)
class Objective:
    """Constants of the objective: ratios are clipped to [1 - clip_low, 1 + clip_high], `beta` weighs the KL penalty, and
    importance weights are cut off at `importance_cap`: a few tokens that the engine thought unlikely must not rule."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0
    importance_cap: float = 2.0


def grpo_loss(log_probs: Tensor, given: Given, objective: Objective) -> LossParts:
    """Clipped policy gradient with a k3 KL penalty (paper section 4); log_probs [C] of the policy as it is now.

    Tokens of an engine are weighted by min(policy / engine, cap), truncated importance sampling (Ionides 2008), which scales
    the policy gradient, not the penalty. Per token: "kl", the k3 estimate of KL(policy || reference), zeros without a
    reference; "clip_share", 1 where the clip bound is active; "log_prob_gap", policy less engine, where an engine sampled.
    """
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    old = log_probs.detach() if given.old is None else given.old
    advantages, logged = given.advantages, {}
    ratio = torch.exp(log_probs - old)
    gain = torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    if given.sampled is not None:
        logged["log_prob_gap"] = old - given.sampled
        gain = gain * logged["log_prob_gap"].exp().clamp_max(objective.importance_cap)
    kl = torch.zeros_like(log_probs)
    if given.reference is not None:
        gap = given.reference - log_probs
        kl = torch.exp(gap) - gap - 1
    loss = ((objective.beta * kl - gain) * given.weights).sum()
    clipped = ((ratio < low) & (advantages < 0)) | ((ratio > high) & (advantages > 0))
    return LossParts(loss, {"kl": kl.detach(), "clip_share": clipped.float(), **logged})


def adapt_kl(beta: float, kl: float, target: float, completions: int, horizon: int) -> float:
    """Next KL coefficient: proportional control towards `target`, as in Ziegler et al. 2019, section 2.2."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return beta * (1 + error * completions / horizon)
