"""Attention where many queries share a prefix: plain matmuls that never copy the prefix, and fused kernels past a size.

Shape letters: B prompts, G completions a prompt, R = B*G rows, P prompt tokens, T query tokens, S own key tokens, H query
heads, K key-value heads, M = H/K, D head width. Masks are written into the scores outside autograd: where a weight is zero,
softmax already sends no gradient back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SCORES_LIMIT = 2**26  # score elements above which attention goes through fused kernels instead of plain matmuls
STEPS = 64  # completion tokens computed at once: shorter completions have left, later keys are not multiplied
BLOCK = 128  # query rows of causal attention computed at once: later keys are not even multiplied


def causal_mask(T: int, device: torch.device) -> Tensor:
    """[T, T], True where a token may look."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention, q [B, H, P, D], k and v [B, K, P, D] -> [B, H, P, D]. Right padding needs no mask."""
    (B, H, P, D), K = q.shape, k.shape[1]
    if B * H * P * P > SCORES_LIMIT:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    q = (q * scale).reshape(B, K, H // K, P, D)
    blocks = []
    for start in range(0, P, BLOCK):
        end = min(start + BLOCK, P)
        scores = q[:, :, :, start:end].reshape(B, K, -1, D) @ k[:, :, :end].transpose(-1, -2)
        with torch.no_grad():
            diagonal = scores.view(B, K, -1, end - start, end)[..., start:]
            diagonal.masked_fill_(~causal_mask(end - start, q.device), -torch.inf)
        blocks.append((softmax(scores, v.dtype) @ v[:, :, :end]).view(B, K, -1, end - start, D))
    return torch.cat(blocks, 3).view(B, H, P, D)


class Keys(NamedTuple):
    """What queries may look at: keys and values [.., K, S, D]; `visible` False where they may not (None: everywhere)."""

    k: Tensor
    v: Tensor
    visible: Tensor | None


def prefixed(q: Tensor, prefix: Keys, own: Keys, scale: float) -> Tensor:
    """Attention to a shared prefix and to oneself, without copying the prefix for each member of the group.

    q [R, H, T, D], prefix k and v [B, K, P, D], visible [B, P]; own k and v [R, K, S, D], visible [T, S] -> [R, H, T, D].
    Members of a group and the query heads of a key head are folded into the query length, so each product is one matmul per
    prompt and key head.
    """
    (R, H, T, D), (B, K, P, _), S = q.shape, prefix.k.shape, own.k.shape[2]
    G, M = R // B, H // K
    q = (q * scale).reshape(B, G, K, M * T, D)
    to_prefix = q.transpose(1, 2).reshape(B, K, -1, D) @ prefix.k.transpose(-1, -2)  # [B, K, G*M*T, P]
    to_own = q.reshape(R, K, M * T, D) @ own.k.transpose(-1, -2)  # [R, K, M*T, S]
    with torch.no_grad():
        if prefix.visible is not None:
            to_prefix.masked_fill_(~prefix.visible[:, None, None], -torch.inf)
        if own.visible is not None:
            to_own.view(R, K, M, T, S).masked_fill_(~own.visible, -torch.inf)
    scores = [to_prefix.view(B, K, G, M * T, P), to_own.view(B, G, K, M * T, S).transpose(1, 2)]
    on_prefix, on_own = softmax(torch.cat(scores, -1), prefix.v.dtype).split([P, S], -1)
    from_prefix = (on_prefix.flatten(2, 3) @ prefix.v).view(B, K, G, M * T, D)
    from_own = (on_own.transpose(1, 2).reshape(R, K, M * T, S) @ own.v).view(B, G, K, M * T, D)
    return (from_prefix.transpose(1, 2) + from_own).reshape(R, H, T, D)


def prefixed_fused(q: Tensor, prefix: Keys, own: Keys, scale: float) -> Tensor:
    """`prefixed` through a fused kernel: never holds all scores, but copies the prefix for each member of the group."""
    (R, _, T, _), (B, _, P, _), S = q.shape, prefix.k.shape, own.k.shape[2]
    k = torch.cat([prefix.k.repeat_interleave(R // B, 0), own.k], 2)
    v = torch.cat([prefix.v.repeat_interleave(R // B, 0), own.v], 2)
    at_prefix = q.new_ones(B, P, dtype=torch.bool) if prefix.visible is None else prefix.visible
    at_own = q.new_ones(T, S, dtype=torch.bool) if own.visible is None else own.visible
    at_prefix = at_prefix.repeat_interleave(R // B, 0)[:, None].expand(-1, T, -1)
    visible = torch.cat([at_prefix, at_own.expand(R, -1, -1)], -1)
    return scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None], scale=scale, enable_gqa=True)


@dataclass(frozen=True)
class Completions:
    """A padded view of ragged completions, longest first in every group, cut into blocks of STEPS tokens.

    In each block only as many columns are computed as have a completion that long.

    places  [B, G, T] flat place of each completion token; padding points at place 0
    widths  columns of each block
    inverse [C] place of each completion token among the B * width * STEPS padded ones of all blocks in turn
    """

    places: Tensor
    widths: tuple[int, ...]
    inverse: Tensor

    @staticmethod
    def of(first: list[list[int]], lengths: list[list[int]]) -> Completions:
        """`first` flat place and length of each completion, group by group; a group may be empty."""
        B, G = len(lengths), max((len(group) for group in lengths), default=0)
        T = max((t for group in lengths for t in group), default=0)
        widths = tuple(max(sum(t > start for t in group) for group in lengths) for start in range(0, T, STEPS))
        sizes = torch.tensor([min(STEPS, T - start) for start in range(0, T, STEPS)], dtype=torch.long)
        width = torch.tensor(widths, dtype=torch.long)
        offset = (B * width * sizes).cumsum(0) - B * width * sizes
        places, inverse = torch.zeros(B, G, T, dtype=torch.long), []
        for b, (starts, group) in enumerate(zip(first, lengths, strict=True)):
            columns = sorted(range(len(group)), key=lambda g, group=group: -group[g])
            for g, (start, t) in enumerate(zip(starts, group, strict=True)):
                column, steps = columns.index(g), torch.arange(t)
                places[b, column, :t] = start + steps
                j = steps // STEPS
                inverse.append(offset[j] + (b * width[j] + column) * sizes[j] + steps % STEPS)
        return Completions(places, widths, torch.cat(inverse) if inverse else torch.zeros(0, dtype=torch.long))

    def to(self, device: torch.device) -> Completions:
        return Completions(self.places.to(device), self.widths, self.inverse.to(device))

    def attend(self, prefix: Keys, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attention to the prompts and to themselves: q [H, N, D], k and v [K, N, D] of flat tokens -> [C, H, D]."""
        H, B, T = len(q), len(self.places), self.places.shape[2]
        blocks = []
        for start, width in zip(range(0, T, STEPS), self.widths, strict=True):
            rows = self.places[:, :width, : start + STEPS].flatten(0, 1)  # [B*width, tokens so far]
            q_T, own_k, own_v = (rows_at(x, at) for x, at in ((q, rows[:, start:]), (k, rows), (v, rows)))
            own = causal_mask(rows.shape[1], q.device)[start:]
            fused = B * width * H * own.shape[0] * (prefix.k.shape[2] + own.shape[1]) > SCORES_LIMIT
            attend = prefixed_fused if fused else prefixed
            out = attend(q_T, prefix, Keys(own_k, own_v, own), scale)
            blocks.append(out.transpose(1, 2).flatten(0, 1))
        return torch.cat(blocks).index_select(0, self.inverse)


def rows_at(x: Tensor, places: Tensor) -> Tensor:
    """Flat tokens x [heads, N, D] at places [R, T] -> [R, heads, T, D], contiguous.

    The backward pass adds; indexing by two tensors would sort.
    """
    (heads, N, D), (R, T) = x.shape, places.shape
    tokens = x.transpose(0, 1).reshape(N, heads * D)  # a view: the models lay out tokens first
    return tokens.index_select(0, places.flatten()).view(R, T, heads, D).transpose(1, 2).contiguous()


def last_queries(q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float) -> Tensor:
    """One query a prompt, q [B, H, D] against k and v [B, K, P, D] -> [B, H, D]."""
    mask = None if real is None else real[:, None, None]
    return scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=mask, scale=scale, enable_gqa=True)[:, :, 0]


def softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax in fp32, returned in the dtype of the values."""
    return torch.softmax(scores, -1, dtype=torch.float32).to(dtype)
