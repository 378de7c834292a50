"""Who attends to whom in a pack, as a device computes it: padded views on a CPU, one block mask over flat tokens on a GPU.

Shape letters as in pack.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from seethink.train.model.attention import Completions, Keys, causal, last_queries, rows_at
from seethink.train.model.flex import DEVICES, FlexLayout, Sight

LAST = -1  # layers are counted from the end


class Layout(Protocol):
    """Who attends to whom."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [H, N, D], k and v [K, N, D] of a layer counted from the end -> [N, H, D]."""
        ...


@dataclass(frozen=True)
class Spans:
    """How many tokens every prompt has, and each of its completions, in the order in which they lie in a pack."""

    prompts: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(prompts: Sequence, completions_BG: Sequence[Sequence[Tensor]]) -> Spans:
        """Of prompts (EncodedPrompt) and their completions, ids [T] each."""
        lengths = tuple(tuple(len(c) for c in group) for group in completions_BG)
        return Spans(tuple(len(p.ids) for p in prompts), lengths)

    @property
    def starts(self) -> list[int]:
        """Flat place of each prompt's first token."""
        found, place = [], 0
        for length, group in zip(self.prompts, self.completions, strict=True):
            found.append(place)
            place += length + sum(group)
        return found

    def layout(self, device: torch.device, read: Tensor) -> Layout:
        """The layout that suits the device; `read` [r] are the places whose states are read after the last layer."""
        if device.type in DEVICES:
            return FlexLayout.of(self.sight().to(device), read)
        alone = all(len(group) == 1 for group in self.completions)
        return (CausalRows.of(self) if alone else PaddedLayout.of(self)).to(device)

    def sight(self) -> Sight:
        """The same, token by token."""
        runs = []  # of tokens: how many, first and end of the prompt that they see beside themselves, and where they begin
        for start, length, group in zip(self.starts, self.prompts, self.completions, strict=True):
            place = start + length
            runs.append((length, start, start, start))
            for t in group:
                runs.append((t, start, start + length, place))
                place += t
        size, first, until, own = zip(*runs, strict=True)

        def spread(values: Sequence[int]) -> Tensor:
            return torch.cat([torch.full((n,), value) for n, value in zip(size, values, strict=True)])

        return Sight(spread(first), spread(until), spread(own), torch.arange(sum(size)))


@dataclass(frozen=True)
class Rows:
    """Runs of flat tokens as padded rows.

    places [B, P] flat place of each token; padding points at the run's first token
    real   [B, P] False for padding; None where nothing is padded
    last   [B] flat place of each run's last token
    """

    places: Tensor
    real: Tensor | None
    last: Tensor

    @staticmethod
    def of(starts: Sequence[int], lengths: Sequence[int]) -> Rows:
        first, length, steps = torch.tensor(starts)[:, None], torch.tensor(lengths)[:, None], torch.arange(max(lengths))
        real, padded = steps < length, len(set(lengths)) > 1
        return Rows(torch.where(real, first + steps, first), real if padded else None, (first + length - 1)[:, 0])

    def to(self, device: torch.device) -> Rows:
        return Rows(self.places.to(device), None if self.real is None else self.real.to(device), self.last.to(device))


@dataclass(frozen=True)
class CausalRows:
    """Prompts with one completion each, as in SFT: nothing is shared, so each is one causal row.

    inverse [N] place of each flat token among the padded ones
    """

    rows: Rows
    inverse: Tensor

    @staticmethod
    def of(spans: Spans) -> CausalRows:
        lengths = [p + sum(group) for p, group in zip(spans.prompts, spans.completions, strict=True)]
        rows = Rows.of(spans.starts, lengths)
        inverse = torch.cat([b * max(lengths) + torch.arange(n) for b, n in enumerate(lengths)])
        return CausalRows(rows, inverse)

    def to(self, device: torch.device) -> CausalRows:
        return CausalRows(self.rows.to(device), self.inverse.to(device))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        q, k, v = (rows_at(x, self.rows.places) for x in (q, k, v))
        out = causal(q, k, v, scale)
        return out.transpose(1, 2).flatten(0, 1).index_select(0, self.inverse)


@dataclass(frozen=True)
class PaddedLayout:
    """Attention over a pack through padded views.

    prompts  the prompts alone
    inverse  [N] place of each flat token among the B*P padded prompt tokens and, after them, the C completion tokens
    """

    prompts: Rows
    inverse: Tensor
    completions: Completions

    @staticmethod
    def of(spans: Spans) -> PaddedLayout:
        rows, (B, P) = Rows.of(spans.starts, spans.prompts), (len(spans.prompts), max(spans.prompts))
        first: list[list[int]] = [[] for _ in spans.prompts]
        inverse, done = [], B * P
        for b, (length, group) in enumerate(zip(spans.prompts, spans.completions, strict=True)):
            inverse.append(b * P + torch.arange(length))
            place = spans.starts[b] + length
            for t in group:
                first[b].append(place)
                inverse.append(torch.arange(done, done + t))
                place, done = place + t, done + t
        lengths = [list(group) for group in spans.completions]
        return PaddedLayout(rows, torch.cat(inverse), Completions.of(first, lengths))

    def to(self, device: torch.device) -> PaddedLayout:
        return PaddedLayout(self.prompts.to(device), self.inverse.to(device), self.completions.to(device))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return self.attend_to(self.keys(k, v), layer, q, k, v, scale)

    def keys(self, k: Tensor, v: Tensor) -> Keys:
        """Keys and values of the prompts, [B, K, P, D]."""
        return Keys(rows_at(k, self.prompts.places), rows_at(v, self.prompts.places), self.prompts.real)

    def attend_to(self, prefix: Keys, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """`attend` with the keys of the prompts at hand."""
        out = self._attend_prompts(prefix, layer, q, scale)
        if self.completions.widths:
            out = torch.cat([out, self.completions.attend(prefix, q, k, v, scale)])
        return out.index_select(0, self.inverse)

    def _attend_prompts(self, prefix: Keys, layer: int, q: Tensor, scale: float) -> Tensor:
        """Prompts among themselves, q [H, N, D] -> [B*P, H, D]; in the last layer only their last tokens."""
        at = self.prompts
        if layer != LAST:
            return causal(rows_at(q, at.places), prefix.k, prefix.v, scale).transpose(1, 2).flatten(0, 1)
        last = last_queries(q[:, at.last].transpose(0, 1), prefix.k, prefix.v, at.real, scale)  # [B, H, D]
        return last.new_zeros(at.places.numel(), *last.shape[1:]).index_copy(0, self.inverse[at.last], last)
