"""Prompts once, then more: rollouts decode from a prefix, and a strictly on-policy update trains through it.

A prefix that was computed with gradients keeps its graph. The first update after a rollout has the very weights of the
rollout, so its prompt half is already there; only the completions are run, and the backward pass goes on into the prompts.

Shape letters as in pack.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from seethink.train.model.attention import Completions, Keys, rows_at
from seethink.train.model.flex import DEVICES, Sight, flex, mask
from seethink.train.model.layout import Layout, PaddedLayout, Rows
from seethink.train.model.pack import Pack, run_layers, run_pack


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

    def at(self, layer: int) -> Keys:
        return Keys(self.keys[layer], self.values[layer], self.real)

    @property
    def tensors(self) -> list[Tensor]:
        """What has a graph."""
        return [*self.keys, *self.values, self.states]

    def detached(self) -> Prefix:
        """The same numbers without the graph."""
        cut = [[x.detach() for x in tensors] for tensors in (self.keys, self.values)]
        return replace(self, keys=cut[0], values=cut[1], states=self.states.detach())

    def leaves(self) -> Prefix:
        """The same numbers without the graph, where gradients add up for `backward`."""
        cut = self.detached()
        for leaf, own in zip(cut.tensors, self.tensors, strict=True):
            leaf.requires_grad_(own.requires_grad)
        return cut

    def backward(self, leaves: Prefix) -> None:
        """On into the prompts, with the gradients that the leaves have now."""
        pairs = [(own, leaf.grad) for own, leaf in zip(self.tensors, leaves.tensors, strict=True) if own.requires_grad]
        torch.autograd.backward([own for own, _ in pairs], [grad for _, grad in pairs])

    def keep(self, prompts: Tensor) -> Prefix:
        """Only these prompts [b]."""
        keys, values, rest = (
            [x.index_select(0, prompts) for x in tensors]
            for tensors in (self.keys, self.values, (self.states, self.position))
        )
        real = None if self.real is None else self.real[prompts]
        return Prefix(keys, values, real, *rest)


def prefill(model, packed: Pack, features: Tensor | None) -> Prefix:
    """The prefix of a pack without completions; with its graph where gradients are enabled."""
    rows = Rows.of(packed.spans.starts, packed.spans.prompts).to(packed.ids.device)
    layout = _Keeping(packed.layout, rows, {})
    hidden = run_pack(model, packed, features, layout)
    position = packed.positions.amax(0)  # an image may reach further than the tokens after it
    states = hidden.index_select(0, rows.last)
    kept = layout.kept.values()
    return Prefix([of.k for of in kept], [of.v for of in kept], rows.real, states, position[rows.places].amax(1) + 1)


def continued_states(model, prefix: Prefix, completions_BG: list[list[Tensor]]) -> Tensor:
    """Last hidden states [C, hidden] that predict the completion tokens, prompt by prompt, as `pack.hidden_states` does.

    completions_BG holds ids [T]; a prompt may have none.
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
    device = prefix.states.device
    predict, steps, owner = (torch.cat(x).to(device) for x in (predict, steps, owner))
    positions = (prefix.position[owner] + steps).expand(3, -1)
    embeds = model.get_input_embeddings()(torch.cat(flat).to(device))
    if device.type in DEVICES:
        layout = FlexContinued.of(prefix, owner, steps)
    else:
        lengths = [[len(c) for c in group] for group in completions_BG]
        layout = Continued(prefix, Completions.of(first, lengths).to(device))
    hidden = run_layers(model, embeds, positions, layout)
    return torch.cat([prefix.states, hidden]).index_select(0, predict)


@dataclass(frozen=True)
class _Keeping:
    """Prompts alone, keeping the keys and values of each layer."""

    inner: Layout
    rows: Rows
    kept: dict[int, Keys]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        prefix = Keys(rows_at(k, self.rows.places), rows_at(v, self.rows.places), self.rows.real)
        self.kept.setdefault(layer, prefix)  # a checkpointed layer comes again in the backward pass, for itself alone
        if isinstance(self.inner, PaddedLayout):
            return self.inner.attend_to(prefix, layer, q, k, v, scale)
        return self.inner.attend(layer, q, k, v, scale)


@dataclass(frozen=True)
class Continued:
    """Completions on a prefix."""

    prefix: Prefix
    completions: Completions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return self.completions.attend(self.prefix.at(layer), q, k, v, scale)


@dataclass(frozen=True)
class FlexContinued:
    """The same on a GPU: keys are those of the prefix, its padding seen by nobody, and after them the completions' own."""

    prefix: Prefix
    seen: BlockMask

    @staticmethod
    def of(prefix: Prefix, owner: Tensor, steps: Tensor) -> FlexContinued:
        """`owner` [C] prompt of each completion token, and `steps` [C] how many tokens of its completion stand before it."""
        B, P = len(prefix), prefix.keys[0].shape[2]
        first = owner * P
        real = torch.full_like(first, P) if prefix.real is None else prefix.real.sum(1)[owner]
        last = B * P + torch.arange(len(owner), device=owner.device)
        queries = Sight(first, first + real, last - steps, last)
        return FlexContinued(prefix, mask(queries.to(owner.device), B * P + len(owner)))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        shared = self.prefix.at(layer)
        k, v = (
            torch.cat([x.transpose(1, 2).flatten(0, 1), own.transpose(0, 1)]).transpose(0, 1)
            for x, own in ((shared.k, k), (shared.v, v))
        )
        return flex(q, k, v, self.seen, scale)
