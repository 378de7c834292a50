"""Attention where many queries share a prefix: plain matmuls that never copy the prefix, and fused kernels past a size.

Shape letters: B prompts, G completions a prompt, R = B*G rows, P prompt tokens, T query tokens, S own key tokens, H query
heads, K key-value heads, M = H/K, D head width. Masks are written into the scores outside autograd: where a weight is zero,
softmax already sends no gradient back.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SCORES_LIMIT = 2**26  # score elements above which attention goes through fused kernels instead of plain matmuls
BLOCK = 128  # query rows of causal attention computed at once: later keys are not even multiplied


def causal_mask(T: int, device: torch.device) -> Tensor:
    """[T, T], True where a token may look."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention, q [B, H, P, D], k and v [B, K, P, D] -> [B, H, P, D]. Right padding needs no mask."""
    (B, H, P, D), K = q.shape, k.shape[1]
    if q.is_cuda or B * H * P * P > SCORES_LIMIT:
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


def prefixed(
    q: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    real: Tensor | None,
    own_k: Tensor,
    own_v: Tensor,
    own: Tensor | None,
    scale: float,
) -> Tensor:
    """Attention to a shared prefix and to oneself, without copying the prefix for each member of the group.

    q [R, H, T, D], prefix_k and prefix_v [B, K, P, D], real [B, P] (None: no padding), own_k and own_v [R, K, S, D],
    own [T, S] True where a query may look (None: everywhere) -> [R, H, T, D]. Members of a group and the query heads of a
    key head are folded into the query length, so each product is one matmul per prompt and key head.
    """
    (R, H, T, D), (B, K, P, _), S = q.shape, prefix_k.shape, own_k.shape[2]
    G, M = R // B, H // K
    q = (q * scale).reshape(B, G, K, M * T, D)
    to_prefix = q.transpose(1, 2).reshape(B, K, -1, D) @ prefix_k.transpose(-1, -2)  # [B, K, G*M*T, P]
    to_own = q.reshape(R, K, M * T, D) @ own_k.transpose(-1, -2)  # [R, K, M*T, S]
    with torch.no_grad():
        if real is not None:
            to_prefix.masked_fill_(~real[:, None, None], -torch.inf)
        if own is not None:
            to_own.view(R, K, M, T, S).masked_fill_(~own, -torch.inf)
    scores = [to_prefix.view(B, K, G, M * T, P), to_own.view(B, G, K, M * T, S).transpose(1, 2)]
    on_prefix, on_own = softmax(torch.cat(scores, -1), prefix_v.dtype).split([P, S], -1)
    from_prefix = (on_prefix.flatten(2, 3) @ prefix_v).view(B, K, G, M * T, D)
    from_own = (on_own.transpose(1, 2).reshape(R, K, M * T, S) @ own_v).view(B, G, K, M * T, D)
    return (from_prefix.transpose(1, 2) + from_own).reshape(R, H, T, D)


def prefixed_fused(
    q: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    real: Tensor | None,
    own_k: Tensor,
    own_v: Tensor,
    own: Tensor | None,
    scale: float,
) -> Tensor:
    """`prefixed` through a fused kernel: never holds all scores, but copies the prefix for each member of the group."""
    (R, _, T, _), (B, _, P, _), S = q.shape, prefix_k.shape, own_k.shape[2]
    k = torch.cat([prefix_k.repeat_interleave(R // B, 0), own_k], 2)
    v = torch.cat([prefix_v.repeat_interleave(R // B, 0), own_v], 2)
    prefix = q.new_ones(B, P, dtype=torch.bool) if real is None else real
    own = q.new_ones(T, S, dtype=torch.bool) if own is None else own
    visible = torch.cat([prefix.repeat_interleave(R // B, 0)[:, None].expand(-1, T, -1), own.expand(R, -1, -1)], -1)
    return scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None], scale=scale, enable_gqa=True)


def completions_on(
    prefix_k: Tensor,
    prefix_v: Tensor,
    real: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    places: Tensor,
    scale: float,
) -> Tensor:
    """Completions on their prompts: q [H, N, D], k and v [K, N, D] of flat tokens, places [B, G, T] -> [B*G*T, H, D]."""
    B, G, T = places.shape
    H, _, D = q.shape
    rows = places.flatten(0, 1)
    q_T, own_k, own_v = (gather_rows(x, rows) for x in (q, k, v))  # [B*G, heads, T, D]
    fused = B * G * H * T * (prefix_k.shape[2] + T) > SCORES_LIMIT
    attend = prefixed_fused if fused else prefixed
    out = attend(q_T, prefix_k, prefix_v, real, own_k, own_v, causal_mask(T, q.device), scale)
    return out.transpose(1, 2).reshape(-1, H, D)


def gather_rows(x: Tensor, places: Tensor) -> Tensor:
    """Flat tokens x [heads, N, D] at places [R, T] -> [R, heads, T, D], contiguous."""
    heads = torch.arange(len(x), device=x.device)
    return x[heads[:, None], places[:, None]]


def last_queries(q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float) -> Tensor:
    """One query a prompt, q [B, H, D] against k and v [B, K, P, D] -> [B, H, D]."""
    mask = None if real is None else real[:, None, None]
    return scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=mask, scale=scale, enable_gqa=True)[:, :, 0]


def softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax in fp32, returned in the dtype of the values."""
    return torch.softmax(scores, -1, dtype=torch.float32).to(dtype)
