"""Decoding: prompts that entered together form a cohort, and every step gives each of its live rows one token.

A step of a 3B model launches some 3,500 kernels, which takes a processor five times as long as the GPU needs to compute them. So
on a GPU the step is recorded as a CUDA graph, and replayed for as long as its rows stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seethink.train.model.attention import Keys, prefixed
from seethink.train.model.policy import Policy
from seethink.train.model.prefix import Prefix


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    ids       [T] with the stop token where there was one
    log_probs [T] of the sampling distribution (temperature and bans applied)
    entropy   [T] of the sampling distribution, nats
    stop      "stop", or "length" when it was cut at max_tokens
    """

    ids: Tensor
    log_probs: Tensor
    entropy: Tensor
    stop: str


ROOM = 64  # completion tokens that a cache has room for at first
LOWEST = torch.finfo(torch.float32).min / 2  # logit of a banned token: finite, so that 0 times it is 0


@dataclass(eq=False)
class Cohort:
    """Prompts that entered together, with their completions that still decode: a rectangle of b prompts x g rows.

    prefix       of the b prompts
    own_k, own_v per layer [b*g, K, room, D]; the room grows with what was decoded, up to max_tokens
    rows         [b*g] which completion each row is
    shape        (b, g)
    token        [b*g] the latest token of each row
    clock        [1] `decoded`, where the device can read it
    max_tokens   that a row may have
    decoded      tokens that each row has already sampled
    """

    prefix: Prefix
    own_k: list[Tensor]
    own_v: list[Tensor]
    rows: Tensor
    shape: tuple[int, int]
    token: Tensor
    clock: Tensor
    max_tokens: int
    decoded: int = 0

    @staticmethod
    def enter(prefix: Prefix, first: int, group: int, max_tokens: int) -> Cohort:
        """The cohort of a fresh prefix whose first prompt has index `first`."""
        rows, (_, K, _, D) = len(prefix) * group, prefix.keys[0].shape
        room = min(ROOM, max_tokens)
        own_k, own_v = ([k.new_zeros(rows, K, room, D) for k in prefix.keys] for _ in range(2))
        which = torch.arange(first * group, first * group + rows, device=prefix.states.device)
        return Cohort(prefix, own_k, own_v, which, (len(prefix), group), which.clone(), which.new_zeros(1), max_tokens)

    @property
    def room(self) -> int:
        return self.own_k[0].shape[2]

    @property
    def positions(self) -> Tensor:
        """[b*g] M-RoPE position of the latest token."""
        return self.prefix.position.repeat_interleave(self.shape[1]) + self.clock - 1

    def make_room(self) -> None:
        """For the key and value of the latest token."""
        if self.decoded > self.room:
            room = min(2 * self.room, self.max_tokens)
            for own in (self.own_k, self.own_v):
                own[:] = [grown(x, room) for x in own]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """One query a row: q [H, b*g, D], k and v [K, b*g, D] -> [b*g, H, D]."""
        own_k, own_v, seen = self.own_k[layer], self.own_v[layer], self.decoded
        if k.is_cuda:  # shapes that stay: the step may be a recorded one
            own = Keys(own_k, own_v, torch.arange(self.room, device=k.device)[None] < self.clock)
            for cache, new in ((own_k, k), (own_v, v)):
                cache.index_copy_(2, self.clock - 1, new.transpose(0, 1)[:, :, None])
        else:
            own = Keys(own_k[:, :, :seen], own_v[:, :, :seen], None)
            own_k[:, :, seen - 1], own_v[:, :, seen - 1] = k.transpose(0, 1), v.transpose(0, 1)
        return prefixed(q.transpose(0, 1)[:, :, None].contiguous(), self.prefix.at(layer), own, scale)[:, :, 0]

    def keep(self, prompts: Tensor, cells: Tensor, shape: tuple[int, int]) -> Cohort:
        """The smaller rectangle of these prompts [b] and rows [b*g]."""
        own_k, own_v = ([x[cells] for x in tensors] for tensors in (self.own_k, self.own_v))
        rows, token, prefix = self.rows[cells], self.token[cells], self.prefix.keep(prompts)
        return Cohort(prefix, own_k, own_v, rows, shape, token, self.clock, self.max_tokens, self.decoded)


def grown(x: Tensor, room: int) -> Tensor:
    """[rows, K, seen, D] with more room."""
    larger = x.new_zeros(*x.shape[:2], room, x.shape[3])
    larger[:, :, : x.shape[2]] = x
    return larger


@dataclass(frozen=True)
class CohortsLayout:
    """One new token for every row of every cohort: linear layers see one batch, attention one cohort after the other."""

    cohorts: list[Cohort]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        sizes = [len(c.rows) for c in self.cohorts]
        parts = zip(self.cohorts, *(x.split(sizes, 1) for x in (q, k, v)), strict=True)
        return torch.cat([cohort.attend(layer, *qkv, scale) for cohort, *qkv in parts])


@dataclass
class Replay:
    """`compute` one token for every row of cohorts; recorded the second time that the same cohorts come.

    The first time warms up what must not begin while a graph is recorded. Nothing may use the device at that moment, and what
    the graph reads must stay where it is: it lives as long as its cohorts, inside one rollout.
    """

    compute: Callable[[list[Cohort]], Tensor]
    record: bool
    cohorts: list[tuple[Cohort, int]] = field(default_factory=list)
    graph: Any = None
    result: Any = None

    def __call__(self, cohorts: list[Cohort]) -> Tensor:
        if not self.record:
            return self.compute(cohorts)
        now = [(cohort, cohort.room) for cohort in cohorts]
        if now != self.cohorts:
            self.cohorts, self.graph, self.result = now, None, None
            return self.compute(cohorts)
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # threads prepare images
                self.result = self.compute(cohorts)
        self.graph.replay()
        return self.result


@dataclass
class Draws:
    """What was drawn so far, [R, max_tokens] for R completions, and who is still alive [R].

    uniform [max_tokens, R] the random number behind every token: independent of the company in which a row decodes
    """

    temperature: float
    banned: Tensor
    stops: Tensor
    uniform: Tensor
    ids: Tensor
    log_probs: Tensor
    entropy: Tensor
    length: Tensor
    alive: Tensor

    @staticmethod
    def empty(policy: Policy, R: int, max_tokens: int, temperature: float, seed: int) -> Draws:
        uniform = torch.rand(max_tokens, R, generator=torch.Generator().manual_seed(seed)).to(policy.device)
        log_probs, entropy = torch.zeros(2, R, max_tokens, device=policy.device)
        ids = torch.zeros(R, max_tokens, dtype=torch.long, device=policy.device)
        length, alive = ids.new_zeros(R), torch.ones(R, dtype=torch.bool, device=policy.device)
        return Draws(temperature, policy.banned, policy.stop_ids, uniform, ids, log_probs, entropy, length, alive)

    def draw(self, cohorts: list[Cohort], logits: Tensor) -> Tensor:
        """One token for every row, written in place; how many rows of each cohort go on [cohorts], on the device."""
        rows = torch.cat([c.rows for c in cohorts])
        at = torch.cat([c.clock.expand(len(c.rows)) for c in cohorts])
        token, log_p, entropy = sample(logits, self.temperature, self.banned, self.uniform[at, rows])
        alive = self.alive[rows]
        self.ids[rows, at], self.log_probs[rows, at], self.entropy[rows, at] = token, log_p, entropy
        self.length[rows] += alive
        self.alive[rows] = alive & (token[:, None] != self.stops).all(1)
        for cohort, latest in zip(cohorts, token.split([len(c.rows) for c in cohorts]), strict=True):
            cohort.token.copy_(latest)
            cohort.clock += 1
        return torch.stack([self.alive[c.rows].sum() for c in cohorts])

    def going(self, cohorts: list[Cohort], living: Tensor) -> list[Cohort]:
        """The cohorts that go on after a token was drawn, cut to their live rows when half have ended."""
        going = []
        for cohort, live in zip(cohorts, living.tolist(), strict=True):  # the only wait for the device
            cohort.decoded += 1
            if live and cohort.decoded < len(self.uniform):
                alive = self.alive[cohort.rows].view(cohort.shape)
                going.append(cohort.keep(*shrink(alive)) if 2 * live <= alive.numel() else cohort)
        return going

    def completions(self) -> list[Completion]:
        ids, log_probs, entropy, cut = (x.cpu() for x in (self.ids, self.log_probs, self.entropy, self.alive))
        return [
            Completion(
                ids[r, :n].clone(), log_probs[r, :n].clone(), entropy[r, :n].clone(), "length" if cut[r] else "stop"
            )
            for r, n in enumerate(self.length.tolist())
        ]


def sample(logits: Tensor, temperature: float, banned: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Token, its log-probability and the entropy, each [R], by inverse CDF; greedy at temperature 0.

    logits [R, V], uniform [R] in [0, 1). Log-probability and entropy are those of the distribution sampled from.
    """
    logits = logits.float().index_fill(1, banned, LOWEST)
    if temperature > 0:
        logits /= temperature
    p = torch.softmax(logits, -1)
    if temperature > 0:
        cdf = p.cumsum(-1)
        token = torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True).clamp_max(p.shape[1] - 1)
    else:
        token = logits.argmax(-1, keepdim=True)
    log_p = p.gather(1, token).log()[:, 0]
    log_z = logits.gather(1, token)[:, 0] - log_p
    return token[:, 0], log_p, log_z - torch.linalg.vecdot(p, logits)


def shrink(alive: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Smallest rectangle that holds all live cells of alive [B, G]: (prompts kept [b], cells [b*g], (b, g)).

    Members of a group may take any column, so a prompt with n live members needs n columns, not the columns they sat in.
    """
    prompts = alive.any(1).nonzero()[:, 0]
    g = int(alive.sum(1).max())
    columns = (~alive[prompts]).int().argsort(dim=1, stable=True)[:, :g]  # live members first
    cells = prompts[:, None] * alive.shape[1] + columns
    return prompts, cells.flatten(), (len(prompts), g)
