"""Rollouts: the vision tower and the prompt once per group, one key-value cache shared by its G completions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from seethink.train.model import EncodedPrompt, Policy, image_features
from seethink.train.pack import causal, hidden_states, pack, prefixed, run_layers


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


class Sampler(Protocol):
    """Where completions come from: this process, or an engine that holds a copy of the weights.

    exact   True when recorded log-probabilities are the policy's own; False: the update corrects by importance weights
    version optimiser steps behind the weights that it samples from
    """

    exact: bool
    version: int

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
    """The policy itself: its weights are always the latest."""

    policy: Policy
    version: int = 0
    exact = True

    def rollout(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]:
        return rollout(self.policy, prompts, group, max_tokens, temperature, seed)

    def push(self, version: int) -> None:
        self.version = version

    def sleep(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class PrefillLayout:
    """Causal attention over padded prompts, keeping their keys and values for the decoding that follows."""

    inner: object
    keys: list[Tensor]
    values: list[Tensor]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        prompt = self.inner.prompt
        q_P, k_P, v_P = (x[:, prompt].transpose(0, 1).contiguous() for x in (q, k, v))
        self.keys.append(k_P)
        self.values.append(v_P)
        out = causal(q_P, k_P, v_P, scale).transpose(1, 2).flatten(0, 1)  # [B*P, H, D]
        return out[self.inner.inverse]


@dataclass
class DecodeLayout:
    """One new token for each of B*G rows: attention to the shared prefix and to the row's own static cache.

    prefix_k, prefix_v  per layer [B, K, P, D]
    own_k, own_v        per layer [B*G, K, max_tokens, D]
    real                [B, P]
    step                tokens already in the own cache
    """

    prefix_k: list[Tensor]
    prefix_v: list[Tensor]
    own_k: list[Tensor]
    own_v: list[Tensor]
    real: Tensor
    step: int = 0

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        own_k, own_v, end = self.own_k[layer], self.own_v[layer], self.step + 1
        own_k[:, :, self.step] = k.transpose(0, 1)
        own_v[:, :, self.step] = v.transpose(0, 1)
        seen = torch.ones(1, end, dtype=torch.bool, device=q.device)
        q = q.transpose(0, 1)[:, :, None].contiguous()  # [B*G, H, 1, D]
        prefix = self.prefix_k[layer], self.prefix_v[layer]
        return prefixed(q, *prefix, self.real, own_k[:, :, :end], own_v[:, :, :end], seen, scale)[:, :, 0]

    def keep(self, prompts: Tensor, rows: Tensor) -> DecodeLayout:
        """The layout of a rectangle of prompts [b] and rows [b*g] that still decode."""
        return DecodeLayout(
            [x[prompts] for x in self.prefix_k],
            [x[prompts] for x in self.prefix_v],
            [x[rows] for x in self.own_k],
            [x[rows] for x in self.own_v],
            self.real[prompts],
            self.step,
        )


@torch.no_grad()
def rollout(
    policy: Policy,
    prompts: list[EncodedPrompt],
    group: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    tick: Callable[[int], None] | None = None,
) -> list[list[Completion]]:
    """`group` completions for each prompt; temperature 0 is greedy. The same seed gives the same completions.

    Finished rows leave: when half of the cells of the [prompts, group] rectangle are done, it is cut to those that
    still decode. `tick` is called with the number of completions that ended.
    """
    device, stops, banned = policy.device, policy.stop_ids, policy.banned
    B, G = len(prompts), group
    packed = pack(prompts, [[] for _ in prompts], policy.image_token).to(device)
    prefill = PrefillLayout(packed.layout, [], [])
    hidden = hidden_states(policy.model, packed, image_features(policy, prompts), prefill)
    last = packed.layout.prompt.gather(1, packed.layout.real.sum(1, keepdim=True) - 1)[:, 0]
    logits = policy.model.lm_head(hidden[last]).repeat_interleave(G, 0)
    first = torch.tensor([p.next_position for p in prompts], device=device).repeat_interleave(G)
    layout = _decode_layout(prefill, packed.layout.real, B * G, max_tokens)

    ids = torch.zeros(B * G, max_tokens, dtype=torch.long, device=device)
    log_probs, entropy = torch.zeros(2, B * G, max_tokens, device=device)
    length = torch.zeros(B * G, dtype=torch.long, device=device)
    alive = torch.ones(B * G, dtype=torch.bool, device=device)
    rows, shape = torch.arange(B * G, device=device), (B, G)  # which completions the cells of the rectangle are
    generator = torch.Generator().manual_seed(seed)
    for t in range(max_tokens):
        uniform = torch.rand(B * G, generator=generator).to(device)  # all rows, so that leaving rows change nothing
        token, log_probs[rows, t], entropy[rows, t] = sample(logits, temperature, banned, uniform[rows])
        ids[rows, t] = token
        length[rows] += alive[rows]
        ended = alive[rows] & torch.isin(token, stops)
        alive[rows[ended]] = False
        if tick and int(ended.sum()):
            tick(int(ended.sum()))
        if t + 1 == max_tokens or not alive.any():
            break
        if int(alive.sum()) * 2 <= len(rows):
            kept_prompts, cells, shape = shrink(alive[rows].view(shape))
            layout, rows, token = layout.keep(kept_prompts, cells), rows[cells], token[cells]
        embeds = policy.model.get_input_embeddings()(token)
        hidden = run_layers(policy.model, embeds, (first[rows] + t).expand(3, -1), layout)
        logits = policy.model.lm_head(hidden)
        layout.step += 1
    if tick and int(alive.sum()):
        tick(int(alive.sum()))
    ids, log_probs, entropy, length, cut = (x.cpu() for x in (ids, log_probs, entropy, length, alive))
    done = [
        Completion(ids[r, :n].clone(), log_probs[r, :n].clone(), entropy[r, :n].clone(), "length" if cut[r] else "stop")
        for r, n in enumerate(length.tolist())
    ]
    return [done[b * G : (b + 1) * G] for b in range(B)]


def decode(policy: Policy, completion: Completion) -> str:
    """Text of a completion without the stop token that ended it; other special tokens stay visible."""
    ids = completion.ids[:-1] if completion.stop == "stop" else completion.ids
    return policy.tokenizer.decode(ids, skip_special_tokens=False)


def sample(logits: Tensor, temperature: float, banned: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Token, its log-probability and the entropy, each [R], by inverse CDF; greedy at temperature 0.

    logits [R, V], uniform [R] in [0, 1). Log-probability and entropy are those of the distribution sampled from.
    """
    logits = logits.float().index_fill(1, banned, -torch.inf)
    log_p = torch.log_softmax(logits / temperature if temperature > 0 else logits, -1)
    p = log_p.exp()
    if temperature > 0:
        cdf = p.cumsum(-1)
        token = torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True)[:, 0].clamp_max(p.shape[1] - 1)
    else:
        token = log_p.argmax(-1)
    entropy = -(p * log_p.masked_fill(p == 0, 0)).sum(-1)
    return token, log_p.gather(1, token[:, None])[:, 0], entropy


def shrink(alive: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Smallest rectangle that holds all live cells of alive [B, G]: (prompts kept [b], cells [b*g], (b, g)).

    Members of a group may take any column, so a prompt with n live members needs n columns, not the columns they sat in.
    """
    prompts = alive.any(1).nonzero()[:, 0]
    g = int(alive.sum(1).max())
    columns = (~alive[prompts]).int().argsort(dim=1, stable=True)[:, :g]  # live members first
    cells = prompts[:, None] * alive.shape[1] + columns
    return prompts, cells.flatten(), (len(prompts), g)


def _decode_layout(prefill: PrefillLayout, real: Tensor, rows: int, max_tokens: int) -> DecodeLayout:
    k = prefill.keys[0]
    own = [[k.new_empty(rows, k.shape[1], max_tokens, k.shape[3]) for _ in prefill.keys] for _ in range(2)]
    return DecodeLayout(prefill.keys, prefill.values, own[0], own[1], real)
