"""Attention over a pack on a GPU: FlexAttention with one block mask over flat tokens, so nothing is gathered, padded or copied.

Blocks of 128 x 128 tokens in which nobody sees anybody are never computed, so the work is that of the padded views. The
kernel is compiled once, for any number of tokens. On a CPU the same function holds all scores: for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

DEVICES = {"cuda"}  # types of device that compute packs so
NOBODY = -1  # the prompt of padding


@dataclass(frozen=True)
class Sight:
    """What each of n tokens belongs to, and where it stands.

    prompt [n] its prompt; NOBODY: it is padding
    own    [n] its completion, counted from 1; 0: it is part of the prompt
    place  [n] a token sees only what stands before it, and itself
    """

    prompt: Tensor
    own: Tensor
    place: Tensor

    def to(self, device: torch.device) -> Sight:
        return Sight(self.prompt.to(device), self.own.to(device), self.place.to(device))

    def at(self, rows: Tensor) -> Sight:
        return Sight(self.prompt[rows], self.own[rows], self.place[rows])

    def before(self, other: Sight) -> Sight:
        """Both, one after the other."""
        pairs = ((self.prompt, other.prompt), (self.own, other.own), (self.place, other.place))
        return Sight(*(torch.cat(pair) for pair in pairs))


def mask(queries: Sight, keys: Sight) -> BlockMask:
    """Which tokens see which: those of their prompt, and of their own completion, up to themselves."""

    def sees(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        shared = (keys.own[j] == 0) | (keys.own[j] == queries.own[i])
        return (keys.prompt[j] == queries.prompt[i]) & shared & (keys.place[j] <= queries.place[i])

    device = str(keys.place.device)
    return create_block_mask(sees, None, None, len(queries.place), len(keys.place), device=device)


def flex(q: Tensor, k: Tensor, v: Tensor, seen: BlockMask, scale: float) -> Tensor:
    """q [H, Q, D], k and v [K, S, D] -> [Q, H, D], in the precision of the values."""
    q, k = q.to(v.dtype), k.to(v.dtype)  # rotary positions leave them in fp32
    out = kernel(q.is_cuda)(q[None], k[None], v[None], block_mask=seen, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)


@cache
def kernel(compiled: bool) -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


@dataclass(frozen=True)
class FlexLayout:
    """A pack: `every` token among all, and in the last layer only the tokens `read` [r]."""

    every: BlockMask
    read: Tensor
    of_read: BlockMask

    @staticmethod
    def of(sight: Sight, read: Tensor) -> FlexLayout:
        return FlexLayout(mask(sight, sight), read, mask(sight.at(read), sight))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        if layer != -1:
            return flex(q, k, v, self.every, scale)
        out = flex(q.index_select(1, self.read), k, v, self.of_read, scale)
        return out.new_zeros(q.shape[1], *out.shape[1:]).index_copy(0, self.read, out)
