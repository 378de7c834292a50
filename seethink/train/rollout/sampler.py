"""Rollouts: the vision tower and the prompt once per group, one key-value cache shared by its G completions.

Decoding is continuous: prompts that entered together form a cohort, several cohorts decode in one batch, rows leave as they
finish, and waiting prompts enter as a new cohort when enough rows are free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from seethink.train.model.attention import Keys, prefixed
from seethink.train.model.pack import pack, run_layers
from seethink.train.model.policy import EncodedPrompt, Policy, image_features
from seethink.train.model.prefix import Prefix, prefill


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
                    logits = model.lm_head(prefix.states).repeat_interleave(group, 0)
                    cohorts += draws.draw([Cohort.enter(prefix, waiting, group, max_tokens)], logits)
                    waiting = end
                    free = (self.capacity - sum(len(c.rows) for c in cohorts)) // group
                if cohorts:
                    embeds = model.get_input_embeddings()(torch.cat([c.token for c in cohorts]))
                    positions = torch.cat([c.positions for c in cohorts]).expand(3, -1)
                    hidden = run_layers(model, embeds, positions, CohortsLayout(cohorts))
                    cohorts = draws.draw(cohorts, model.lm_head(hidden))
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


@dataclass
class Cohort:
    """Prompts that entered together, with their completions that still decode: a rectangle of b prompts x g rows.

    prefix       of the b prompts
    own_k, own_v per layer [b*g, K, room, D]; the room grows with what was decoded, up to max_tokens
    rows         [b*g] which completion each row is
    shape        (b, g)
    token        [b*g] the latest token of each row
    max_tokens   that a row may have
    decoded      tokens that each row has already sampled
    """

    prefix: Prefix
    own_k: list[Tensor]
    own_v: list[Tensor]
    rows: Tensor
    shape: tuple[int, int]
    token: Tensor
    max_tokens: int
    decoded: int = 0

    @staticmethod
    def enter(prefix: Prefix, first: int, group: int, max_tokens: int) -> Cohort:
        """The cohort of a fresh prefix whose first prompt has index `first`."""
        rows, (_, K, _, D) = len(prefix) * group, prefix.keys[0].shape
        room = min(ROOM, max_tokens)
        own_k, own_v = ([k.new_empty(rows, K, room, D) for k in prefix.keys] for _ in range(2))
        which = torch.arange(first * group, first * group + rows, device=prefix.states.device)
        return Cohort(prefix, own_k, own_v, which, (len(prefix), group), which, max_tokens)

    @property
    def positions(self) -> Tensor:
        """[b*g] M-RoPE position of the latest token."""
        return self.prefix.position.repeat_interleave(self.shape[1]) + self.decoded - 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """One query a row: q [H, b*g, D], k and v [K, b*g, D] -> [b*g, H, D]."""
        seen = self.decoded
        if seen > self.own_k[layer].shape[2]:
            for own in (self.own_k, self.own_v):
                own[layer] = grown(own[layer], min(2 * (seen - 1), self.max_tokens))
        own_k, own_v = self.own_k[layer], self.own_v[layer]
        own_k[:, :, seen - 1] = k.transpose(0, 1)
        own_v[:, :, seen - 1] = v.transpose(0, 1)
        own = Keys(own_k[:, :, :seen], own_v[:, :, :seen], None)
        return prefixed(q.transpose(0, 1)[:, :, None].contiguous(), self.prefix.at(layer), own, scale)[:, :, 0]

    def keep(self, prompts: Tensor, cells: Tensor, shape: tuple[int, int]) -> Cohort:
        """The smaller rectangle of these prompts [b] and rows [b*g]."""
        own_k, own_v = ([x[cells] for x in tensors] for tensors in (self.own_k, self.own_v))
        rows, token = self.rows[cells], self.token[cells]
        return Cohort(self.prefix.keep(prompts), own_k, own_v, rows, shape, token, self.max_tokens, self.decoded)


def grown(x: Tensor, room: int) -> Tensor:
    """[rows, K, seen, D] with more room."""
    larger = x.new_empty(*x.shape[:2], room, x.shape[3])
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

    def draw(self, cohorts: list[Cohort], logits: Tensor) -> list[Cohort]:
        """One token for every row; the cohorts that go on, cut to their live rows when half have ended."""
        rows = torch.cat([c.rows for c in cohorts])
        at = torch.cat([torch.full_like(c.rows, c.decoded) for c in cohorts])
        token, log_p, entropy = sample(logits, self.temperature, self.banned, self.uniform[at, rows])
        alive = self.alive[rows]
        self.ids[rows, at], self.log_probs[rows, at], self.entropy[rows, at] = token, log_p, entropy
        self.length[rows] += alive
        self.alive[rows] = alive & ~torch.isin(token, self.stops)
        living = torch.stack([self.alive[c.rows].sum() for c in cohorts]).tolist()  # the only wait for the device
        going = []
        for cohort, latest, live in zip(cohorts, token.split([len(c.rows) for c in cohorts]), living, strict=True):
            cohort.token, cohort.decoded = latest, cohort.decoded + 1
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
