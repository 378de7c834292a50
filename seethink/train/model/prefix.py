"""Prompts computed once and then continued: rollouts decode from a prefix, and a strictly on-policy update trains through it.

A prefix that was computed with gradients keeps its graph. The first update after a rollout has the very weights of the
rollout, so its prompt half is already there: only the completions are run, and the backward pass goes on into the prompts.

Shape letters as in `pack`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seethink.train.model.attention import Completions, gather_rows
from seethink.train.model.pack import Pack, PackLayout, run_layers, run_pack


@dataclass
class Prefix:
    """What completions need of their prompts.

    keys, values  per layer [B, K, P, D]
    real          [B, P] False for padding; None where nothing is padded
    states        [B, hidden] last hidden states of the prompts: they predict each first completion token
    position      [B] M-RoPE position of the first completion token
    """

    keys: list[Tensor]
    values: list[Tensor]
    real: Tensor | None
    states: Tensor
    position: Tensor

    def __len__(self) -> int:
        return len(self.states)

    def detached(self) -> Prefix:
        """The same numbers without the graph."""
        cut = [[x.detach() for x in tensors] for tensors in (self.keys, self.values)]
        return replace(self, keys=cut[0], values=cut[1], states=self.states.detach())

    def keep(self, prompts: Tensor) -> Prefix:
        """Only these prompts [b]."""
        keys, values = ([x[prompts] for x in tensors] for tensors in (self.keys, self.values))
        real = None if self.real is None else self.real[prompts]
        return Prefix(keys, values, real, self.states[prompts], self.position[prompts])


def prefill(model, packed: Pack, features: Tensor | None) -> Prefix:
    """The prefix of a pack without completions; with its graph where gradients are enabled."""
    layout = _PrefillLayout(packed.layout, [], [])
    hidden = run_pack(model, packed, features, layout)
    last = packed.layout.last
    position = packed.positions.amax(0)  # an image may reach further than the tokens after it
    return Prefix(
        layout.keys, layout.values, packed.layout.real, hidden[last], position[packed.layout.prompt].amax(1) + 1
    )


def continued_states(model, prefix: Prefix, completions_BG: list[list[Tensor]]) -> Tensor:
    """Last hidden states [C, hidden] that predict the completion tokens, prompt by prompt, as `pack.hidden_states` does.

    completions_BG holds ids [T] on the device; a prompt may have none.
    """
    flat = [c for group in completions_BG for c in group]
    predict, steps, owner, place = [], [], [], 0
    first: list[list[int]] = [[] for _ in completions_BG]
    for b, group in enumerate(completions_BG):
        for completion in group:
            t = len(completion)
            first[b].append(place)
            predict.append(torch.cat([torch.tensor([b]), len(prefix) + torch.arange(place, place + t - 1)]))
            steps.append(torch.arange(t))
            owner.append(torch.full((t,), b))
            place += t
    predict, steps, owner = (torch.cat(x).to(prefix.states.device) for x in (predict, steps, owner))
    completions = Completions.of(first, [[len(c) for c in group] for group in completions_BG])
    positions = (prefix.position[owner] + steps).expand(3, -1)
    embeds = model.get_input_embeddings()(torch.cat(flat))
    layout = _ContinuedLayout(prefix, completions.to(prefix.states.device))
    hidden = run_layers(model, embeds, positions, layout)
    return torch.cat([prefix.states, hidden])[predict]


@dataclass(frozen=True)
class _PrefillLayout:
    """Prompts alone, keeping the keys and values of each layer."""

    inner: PackLayout
    keys: list[Tensor]
    values: list[Tensor]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        k_P, v_P = (gather_rows(x, self.inner.prompt) for x in (k, v))
        self.keys.append(k_P)
        self.values.append(v_P)
        return self.inner.attend_prompts(layer, q, k_P, v_P, scale)[self.inner.inverse]


@dataclass(frozen=True)
class _ContinuedLayout:
    """Completions on a prefix."""

    prefix: Prefix
    completions: Completions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        prefix = self.prefix
        return self.completions.attend(prefix.keys[layer], prefix.values[layer], prefix.real, q, k, v, scale)
