"""The shared-prefix layout: each prompt once, its completions beside it, nothing padded outside attention.

A group of G completions shares one prompt, and in a vision-language model the prompt is long. A pack holds, flat,

    prompt 1, completions 1.1 .. 1.G, prompt 2, completions 2.1 .. 2.G, ...            N tokens

Every linear layer runs on these N tokens. Only attention knows who sees whom: a prompt token sees its prompt causally; a
completion token sees its prompt and its own completion causally. The work falls from G (P + T) to P + G T tokens, and the
result is exactly that of G separate forwards. M-RoPE positions of every completion restart after the prompt.

The transformers model stays as it is: we register one attention function and pass the layout where the mask would go.

Shape letters: B prompts, G completions a prompt, P prompt tokens, T completion tokens, N flat tokens, H query heads,
K key-value heads, D head width. Related: Prefix Grouper (arXiv 2506.05433), for text models with 1-D positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION = "shared_prefix"
SCORES_LIMIT = 2**26  # score elements above which attention goes through fused kernels instead of plain matmuls


class Layout(Protocol):
    """Who attends to whom."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [H, N, D], k and v [K, N, D] -> [N, H, D]."""
        ...


def _attention(module, query, key, value, attention_mask: Layout, scaling: float, dropout: float = 0.0, **_):
    """transformers' attention interface: [1, H, N, D] in, ([1, N, H, D], None) out; the mask is our layout."""
    return attention_mask.attend(module.layer_idx, query[0], key[0], value[0], scaling)[None], None


AttentionInterface.register(ATTENTION, _attention)


@dataclass(frozen=True)
class Pack:
    """Flat tokens of several prompts with their completions, and the layout that attention needs.

    ids         [N]
    positions   [3, N]
    image_slots [I] flat places of image tokens, in prompt order
    predict     [C] flat place whose hidden state predicts each completion token
    targets     [C] that token
    """

    ids: Tensor
    positions: Tensor
    image_slots: Tensor
    predict: Tensor
    targets: Tensor
    layout: PackLayout

    def to(self, device: torch.device) -> Pack:
        tensors = (self.ids, self.positions, self.image_slots, self.predict, self.targets)
        return Pack(*(t.to(device) for t in tensors), self.layout.to(device))


@dataclass(frozen=True)
class PackLayout:
    """Attention over a pack through padded views.

    prompt      [B, P] flat place of each prompt token; padding points at the prompt's first token
    real        [B, P] False for padding
    completion  [B, G, T] flat place of each completion token; padding points at the prompt's first token
    inverse     [N] place of each flat token among the B*P + B*G*T padded ones
    """

    prompt: Tensor
    real: Tensor
    completion: Tensor
    inverse: Tensor

    def to(self, device: torch.device) -> PackLayout:
        return PackLayout(*(t.to(device) for t in (self.prompt, self.real, self.completion, self.inverse)))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        H, _, D = q.shape
        k_P, v_P = k[:, self.prompt].transpose(0, 1), v[:, self.prompt].transpose(0, 1)  # [B, K, P, D]
        out = [causal(q[:, self.prompt].transpose(0, 1), k_P, v_P, scale).transpose(1, 2).reshape(-1, H, D)]
        B, G, T = self.completion.shape
        if G * T:
            flat = self.completion.flatten(0, 1)  # [B*G, T]
            own_k, own_v = k[:, flat].transpose(0, 1), v[:, flat].transpose(0, 1)  # [B*G, K, T, D]
            q_T = q[:, flat].transpose(0, 1)  # [B*G, H, T, D]
            fused = B * G * H * T * (self.prompt.shape[1] + T) > SCORES_LIMIT
            attend = prefixed_fused if fused else prefixed
            own = causal_mask(T, q.device)
            o = attend(q_T, k_P, v_P, self.real, own_k, own_v, own, scale)  # [B*G, H, T, D]
            out.append(o.transpose(1, 2).reshape(-1, H, D))
        return torch.cat(out)[self.inverse]


def causal_mask(T: int, device: torch.device) -> Tensor:
    """[T, T], True where a token may look."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention, q [B, H, P, D], k and v [B, K, P, D] -> [B, H, P, D]. Right padding needs no mask."""
    B, H, P, D = q.shape
    if B * H * P * P > SCORES_LIMIT:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    K = k.shape[1]
    scores = (q.reshape(B, K, -1, D) @ k.transpose(-1, -2)).view(B, H, P, P) * scale
    weights = softmax(scores.masked_fill(~causal_mask(P, q.device), -torch.inf), v.dtype)
    return (weights.view(B, K, -1, P) @ v).view(B, H, P, D)


def prefixed(
    q: Tensor, prefix_k: Tensor, prefix_v: Tensor, real: Tensor, own_k: Tensor, own_v: Tensor, own: Tensor, scale: float
) -> Tensor:
    """Attention to a shared prefix and to oneself, without copying the prefix for each member of the group.

    q [B*G, H, T, D], prefix_k and prefix_v [B, K, P, D], real [B, P], own_k and own_v [B*G, K, S, D],
    own [T, S] True where a query may look -> [B*G, H, T, D]. Members of a group and the query heads of a key head are
    folded into the query length, so each product is one matmul per prompt and key head.
    """
    (R, H, T, D), (B, K, P, _), S = q.shape, prefix_k.shape, own_k.shape[2]
    G, M = R // B, H // K
    folded = q.view(B, G, K, M, T, D).transpose(1, 2).reshape(B, K, G * M * T, D)
    to_prefix = (folded @ prefix_k.transpose(-1, -2)).view(B, K, G, M * T, P).transpose(1, 2).reshape(R, H, T, P)
    to_own = (q.reshape(R, K, M * T, D) @ own_k.transpose(-1, -2)).view(R, H, T, S)
    to_prefix = to_prefix.masked_fill(~real.repeat_interleave(G, 0)[:, None, None], -torch.inf)
    to_own = to_own.masked_fill(~own, -torch.inf)
    weights = softmax(torch.cat([to_prefix, to_own], -1) * scale, prefix_v.dtype)
    w_prefix = weights[..., :P].reshape(B, G, K, M * T, P).transpose(1, 2).reshape(B, K, G * M * T, P)
    from_prefix = (w_prefix @ prefix_v).view(B, K, G, M * T, D).transpose(1, 2).reshape(R, H, T, D)
    from_own = (weights[..., P:].reshape(R, K, M * T, S) @ own_v).view(R, H, T, D)
    return from_prefix + from_own


def prefixed_fused(
    q: Tensor, prefix_k: Tensor, prefix_v: Tensor, real: Tensor, own_k: Tensor, own_v: Tensor, own: Tensor, scale: float
) -> Tensor:
    """`prefixed` through a fused kernel: never holds all scores, but copies the prefix for each member of the group."""
    R, B, T = q.shape[0], prefix_k.shape[0], q.shape[2]
    k = torch.cat([prefix_k.repeat_interleave(R // B, 0), own_k], 2)
    v = torch.cat([prefix_v.repeat_interleave(R // B, 0), own_v], 2)
    visible = torch.cat([real.repeat_interleave(R // B, 0)[:, None].expand(-1, T, -1), own.expand(R, -1, -1)], -1)
    return scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None], scale=scale, enable_gqa=True)


def softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax in fp32, returned in the dtype of the values."""
    return torch.softmax(scores, -1, dtype=torch.float32).to(dtype)


def pack(prompts: list, completions_BG: list[list[Tensor]], image_token: int) -> Pack:
    """Pack prompts (EncodedPrompt) with their completions (ids [T] each; lengths and group sizes may differ).

    Completion tokens keep their order: prompt by prompt, completion by completion, so per-completion values become
    per-token values by `torch.repeat_interleave(values, lengths)`.
    """
    B, G = len(prompts), max((len(c) for c in completions_BG), default=0)
    P = max(len(p.ids) for p in prompts)
    T = max((len(c) for group in completions_BG for c in group), default=0)
    ids, positions, predict, targets = [], [], [], []
    prompt_at, real = torch.zeros(B, P, dtype=torch.long), torch.zeros(B, P, dtype=torch.bool)
    completion_at, inverse, place = torch.zeros(B, G, T, dtype=torch.long), [], 0
    for b, (prompt, group) in enumerate(zip(prompts, completions_BG, strict=True)):
        start, length = place, len(prompt.ids)
        prompt_at[b], completion_at[b] = start, start
        prompt_at[b, :length], real[b, :length] = torch.arange(start, start + length), True
        ids.append(prompt.ids)
        positions.append(prompt.positions)
        inverse.append(b * P + torch.arange(length))
        place += length
        for g, completion in enumerate(group):
            t = len(completion)
            steps = torch.arange(place, place + t)
            completion_at[b, g, :t] = steps
            ids.append(completion)
            positions.append((prompt.next_position + torch.arange(t)).expand(3, -1))
            inverse.append(B * P + (b * G + g) * T + torch.arange(t))
            predict.append(torch.cat([torch.tensor([start + length - 1]), steps[:-1]]))
            targets.append(completion)
            place += t
    none = torch.zeros(0, dtype=torch.long)
    ids = torch.cat(ids)
    is_prompt = torch.zeros(place, dtype=torch.bool)
    is_prompt[prompt_at[real]] = True  # image slots come from prompts, never from what a model wrote
    return Pack(
        ids=ids,
        positions=torch.cat(positions, 1),
        image_slots=((ids == image_token) & is_prompt).nonzero()[:, 0],
        predict=torch.cat(predict or [none]),
        targets=torch.cat(targets or [none]),
        layout=PackLayout(prompt_at, real, completion_at, torch.cat(inverse)),
    )


def hidden_states(model, packed: Pack, features: Tensor | None, layout: Layout | None = None) -> Tensor:
    """Last hidden states [N, hidden] of a pack; `features` [I, hidden] fill the image slots."""
    embeds = model.get_input_embeddings()(packed.ids)
    if features is not None:
        if len(features) != len(packed.image_slots):
            raise ValueError(f"{len(features)} image features for {len(packed.image_slots)} image tokens")
        embeds = embeds.index_copy(0, packed.image_slots, features.to(embeds.dtype))
    return run_layers(model, embeds, packed.positions, layout or packed.layout)


def run_layers(model, embeds: Tensor, positions: Tensor, layout: Layout) -> Tensor:
    """Language model on embeddings [N, hidden] at positions [3, N] -> last hidden states [N, hidden]."""
    masks = {"full_attention": layout, "sliding_attention": layout}
    return model.model.language_model(
        inputs_embeds=embeds[None], position_ids=positions[:, None], attention_mask=masks, use_cache=False
    ).last_hidden_state[0]
