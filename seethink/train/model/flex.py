"""Attention over a pack on a GPU: FlexAttention with one block mask over flat tokens, so nothing is gathered, padded or copied.

A token sees two runs of keys: the prompt, and its own completion up to itself. Four numbers a query say which, so the kernel
reads nothing about keys, and blocks of 128 x 128 tokens in which nobody sees anybody are never computed. The kernel is compiled
for any number of tokens. On a CPU the same function holds all scores: for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

DEVICES = {"cuda"}  # types of device that compute packs so
BLOCK = 128  # queries, and keys, that are computed or left out together
VARIANTS = 64  # of the compiled kernel: with gradients or without, a whole pack, its last layer, a continued prefix
TRITON: Any = {
    "BACKEND": "TRITON"
}  # one kernel for any number of queries; few would choose another, which has none for fp32


@dataclass(frozen=True)
class Sight:
    """The flat places of the keys that each of n queries sees: `first` up to `until`, and `own` up to and with `last`; all [n].

    The first run is the prompt of a completion token. A prompt token has only the second.
    """

    first: Tensor
    until: Tensor
    own: Tensor
    last: Tensor

    def to(self, device: torch.device) -> Sight:
        return Sight(*(x.to(device, torch.int32) for x in (self.first, self.until, self.own, self.last)))

    def at(self, rows: Tensor) -> Sight:
        return Sight(*(x[rows] for x in (self.first, self.until, self.own, self.last)))


def mask(sight: Sight, keys: int) -> BlockMask:
    """Who sees whom among the queries and `keys` keys, block by block and, where a block is seen in part, one by one."""

    def sees(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return ((j >= sight.first[i]) & (j < sight.until[i])) | ((j >= sight.own[i]) & (j <= sight.last[i]))

    queries, device = len(sight.own), sight.own.device
    start = torch.arange(0, keys, BLOCK, device=device)
    pairs = ((sight.first, sight.until), (sight.own, sight.last + 1))
    seen = sum(  # [queries, blocks of keys] keys of the block that a query sees
        (torch.minimum(end[:, None], start + BLOCK) - torch.maximum(begin[:, None], start)).clamp_min(0)
        for begin, end in pairs
    )
    rows = -(-queries // BLOCK)
    blocks = start.new_zeros(rows * BLOCK, len(start))
    blocks[:queries] = seen
    blocks = blocks.view(rows, BLOCK, -1)
    whole = (blocks == BLOCK).all(1)
    part = (blocks > 0).any(1) & ~whole
    return BlockMask.from_kv_blocks(
        *_listed(part), *_listed(whole), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(queries, keys)
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Flags [rows, columns] as FlexAttention wants them: how many in each row, and their columns first."""
    order = blocks.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return blocks.sum(1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]


def flex(q: Tensor, k: Tensor, v: Tensor, seen: BlockMask, scale: float) -> Tensor:
    """q [H, Q, D], k and v [K, S, D] -> [Q, H, D], in the precision of the values."""
    # rotary positions leave q and k in fp32; laid out token by token, else each layout is one more variant to compile
    q, k, v = (x.to(v.dtype).transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v))
    compute = kernel(q.is_cuda)
    out = compute(q[None], k[None], v[None], block_mask=seen, scale=scale, enable_gqa=True, kernel_options=TRITON)
    return out[0].transpose(0, 1)


@cache
def kernel(compiled: bool) -> Callable[..., Any]:
    """Compiled, it must not fall back to a function that holds all scores when its variants become many: it raises."""
    if not compiled:
        return flex_attention
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, VARIANTS)
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)


@dataclass(frozen=True)
class FlexLayout:
    """A pack: `every` token among all, and in the last layer only the tokens `read` [r]."""

    every: BlockMask
    read: Tensor
    of_read: BlockMask

    @staticmethod
    def of(sight: Sight, read: Tensor) -> FlexLayout:
        keys = len(sight.own)
        return FlexLayout(mask(sight, keys), read, mask(sight.at(read), keys))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        if layer != -1:
            return flex(q, k, v, self.every, scale)
        read = q.transpose(0, 1).index_select(0, self.read).transpose(0, 1)
        out = flex(read, k, v, self.of_read, scale)
        return out.new_zeros(q.shape[1], *out.shape[1:]).index_copy(0, self.read, out)
