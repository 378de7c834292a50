"""The shared-prefix layout: each prompt once, its completions beside it, nothing padded outside attention.

A group of G completions shares one prompt, and in a vision-language model the prompt is long. A pack holds, flat,

    prompt 1, completions 1.1 .. 1.G, prompt 2, completions 2.1 .. 2.G, ...            N tokens

Every linear layer runs on these N tokens. Only attention knows who sees whom: a prompt token sees its prompt causally; a
completion token sees its prompt and its own completion causally. The work falls from G (P + T) to P + G T tokens, and the
result is exactly that of G separate forwards. M-RoPE positions of every completion restart after the prompt.

After the last layer only the states that predict a completion token are read, so there the other prompt tokens give keys
and values and nothing more: their queries and their MLP, most of one layer, are left out.

The transformers model stays as it is: we register one attention function and pass the layout beside the mask, which
transformers leaves out for functions that it does not know.

Shape letters: B prompts, G completions a prompt, P prompt tokens, T completion tokens, N flat tokens, H query heads,
K key-value heads, D head width. Related: Prefix Grouper (arXiv 2506.05433), for text models with 1-D positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from seethink.train.model.attention import Completions, Keys, causal, gather_rows, last_queries

ATTENTION = "shared_prefix"
LAST = -1  # layers are counted from the end


class Layout(Protocol):
    """Who attends to whom."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [H, N, D], k and v [K, N, D] of a layer counted from the end -> [N, H, D]."""
        ...


def _attention(module, query, key, value, attention_mask, scaling: float, layout: Layout, **_):
    """transformers' attention interface: [1, H, N, D] in, ([1, N, H, D], None) out. The models hand `layout` through."""
    layer = module.layer_idx - module.config.num_hidden_layers
    return layout.attend(layer, query[0], key[0], value[0], scaling)[None], None


AttentionInterface.register(ATTENTION, _attention)


@dataclass(frozen=True)
class Pack:
    """Flat tokens of several prompts with their completions, and the layout that attention needs.

    ids         [N]
    positions   [3, N]
    image_slots [I] flat places of image tokens, in prompt order
    predict     [C] flat place whose hidden state predicts each completion token
    read        [r] those places and the last token of every prompt, each once, in order: what is read after the last layer
    targets     [C] the completion tokens
    """

    ids: Tensor
    positions: Tensor
    image_slots: Tensor
    predict: Tensor
    read: Tensor
    targets: Tensor
    layout: PackLayout

    def to(self, device: torch.device) -> Pack:
        return _to(self, device)


@dataclass(frozen=True)
class PackLayout:
    """Attention over a pack through padded views.

    prompt      [B, P] flat place of each prompt token; padding points at the prompt's first token
    real        [B, P] False for padding; None where nothing is padded
    last        [B] flat place of each prompt's last token
    inverse     [N] place of each flat token among the B*P padded prompt tokens and, after them, the C completion tokens
    """

    prompt: Tensor
    real: Tensor | None
    last: Tensor
    inverse: Tensor
    completions: Completions

    def to(self, device: torch.device) -> PackLayout:
        return _to(self, device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        k_P, v_P = (gather_rows(x, self.prompt) for x in (k, v))  # [B, K, P, D]
        out = self.attend_prompts(layer, q, k_P, v_P, scale)
        if self.completions.widths:
            out = torch.cat([out, self.completions.attend(Keys(k_P, v_P, self.real), q, k, v, scale)])
        return out[self.inverse]

    def attend_prompts(self, layer: int, q: Tensor, k_P: Tensor, v_P: Tensor, scale: float) -> Tensor:
        """Prompts among themselves, q [H, N, D] -> [B*P, H, D]; in the last layer only their last tokens."""
        if layer != LAST:
            return causal(gather_rows(q, self.prompt), k_P, v_P, scale).transpose(1, 2).flatten(0, 1)
        last = last_queries(q[:, self.last].transpose(0, 1), k_P, v_P, self.real, scale)  # [B, H, D]
        return last.new_zeros(self.prompt.numel(), *last.shape[1:]).index_copy(0, self.inverse[self.last], last)


def _to(tensors, device: torch.device):
    """The same dataclass with its tensors on `device`."""
    moved = {f.name: getattr(tensors, f.name) for f in fields(tensors)}
    return type(tensors)(**{n: x if x is None else x.to(device) for n, x in moved.items()})


def pack(prompts: list, completions_BG: list[list[Tensor]], image_token: int) -> Pack:
    """Pack prompts (EncodedPrompt) with their completions (ids [T] each; lengths and group sizes may differ).

    Completion tokens keep their order: prompt by prompt, completion by completion, so per-completion values become
    per-token values by `torch.repeat_interleave(values, lengths)`.
    """
    B, P = len(prompts), max(len(p.ids) for p in prompts)
    ids, positions, predict, targets = [], [], [], []
    prompt_at, real = torch.zeros(B, P, dtype=torch.long), torch.zeros(B, P, dtype=torch.bool)
    first, inverse, place, done = [[] for _ in prompts], [], 0, B * P
    for b, (prompt, group) in enumerate(zip(prompts, completions_BG, strict=True)):
        start, length = place, len(prompt.ids)
        prompt_at[b] = start
        prompt_at[b, :length], real[b, :length] = torch.arange(start, start + length), True
        ids.append(prompt.ids)
        positions.append(prompt.positions)
        inverse.append(b * P + torch.arange(length))
        place += length
        for completion in group:
            t = len(completion)
            first[b].append(place)
            ids.append(completion)
            positions.append((prompt.next_position + torch.arange(t)).expand(3, -1))
            predict.append(torch.cat([torch.tensor([start + length - 1]), torch.arange(place, place + t - 1)]))
            targets.append(completion)
            inverse.append(torch.arange(done, done + t))
            place, done = place + t, done + t
    none, last = torch.zeros(0, dtype=torch.long), prompt_at.gather(1, real.sum(1, keepdim=True) - 1)[:, 0]
    predict = torch.cat(predict or [none])
    ids = torch.cat(ids)
    is_prompt = torch.zeros(place, dtype=torch.bool)
    is_prompt[prompt_at[real]] = True  # image slots come from prompts, never from what a model wrote
    completions = Completions.of(first, [[len(c) for c in group] for group in completions_BG])
    return Pack(
        ids=ids,
        positions=torch.cat(positions, 1),
        image_slots=((ids == image_token) & is_prompt).nonzero()[:, 0],
        predict=predict,
        read=torch.cat([predict, last]).unique(),
        targets=torch.cat(targets or [none]),
        layout=PackLayout(prompt_at, None if real.all() else real, last, torch.cat(inverse), completions),
    )


def hidden_states(model, packed: Pack, features: Tensor | None) -> Tensor:
    """Last hidden states [C, hidden] that predict the completion tokens of a pack; features as in `run_pack`."""
    return run_pack(model, packed, features, packed.layout)[packed.predict]


def run_pack(model, packed: Pack, features: Tensor | None, layout: Layout) -> Tensor:
    """Last hidden states [N, hidden] of a pack, true at `packed.read`.

    `features` [I, 1 + deep, hidden] of the vision tower fill the image slots: the first feature of an image token is its
    embedding, the others (Qwen3-VL) are added to it after the first language layers. Raises ValueError when their number is
    not that of the slots.
    """
    embeds, slots = model.get_input_embeddings()(packed.ids), packed.image_slots
    if features is None:
        return run_layers(model, embeds, packed.positions, layout, packed.read)
    if len(features) != len(slots):
        raise ValueError(f"{len(features)} image features for {len(slots)} image tokens")
    tokens, *deep = features.to(embeds.dtype).unbind(1)
    is_image = torch.zeros_like(packed.ids, dtype=torch.bool).index_fill(0, slots, True)
    vision = {"visual_pos_masks": is_image[None], "deepstack_visual_embeds": deep} if deep else {}
    return run_layers(model, embeds.index_copy(0, slots, tokens), packed.positions, layout, packed.read, **vision)


def run_layers(
    model, embeds: Tensor, positions: Tensor, layout: Layout, read: Tensor | None = None, **vision
) -> Tensor:
    """Language model on embeddings [N, hidden] at positions [3, N] -> last hidden states [N, hidden].

    With `read` [r] only those rows are true; the others lack the last layer's MLP. `vision` is handed to the model.
    """
    language = model.model.language_model
    with nullcontext() if read is None else only_rows(language.layers[-1].mlp, read):
        return language(
            inputs_embeds=embeds[None], position_ids=positions[:, None], use_cache=False, layout=layout, **vision
        ).last_hidden_state[0]


@contextmanager
def only_rows(module: nn.Module, rows: Tensor) -> Iterator[None]:
    """`module`, called on [1, N, hidden], computes `rows` [r] and gives zeros elsewhere."""

    def select(_, inputs: tuple[Tensor]) -> tuple[Tensor]:
        nonlocal size
        size = inputs[0].shape[1]
        return (inputs[0][:, rows],)

    def scatter(_, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        return out.new_zeros(1, size, out.shape[2]).index_copy(1, rows, out)

    size = 0
    hooks = [module.register_forward_pre_hook(select), module.register_forward_hook(scatter)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# ---------------------------------------------------------------------------------------------------- prompts once, then more

# Rollouts decode from a prefix, and a strictly on-policy update trains through it: a prefix that was computed with gradients
# keeps its graph. The first update after a rollout has the very weights of the rollout, so its prompt half is already there;
# only the completions are run, and the backward pass goes on into the prompts.


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
        return self.completions.attend(self.prefix.at(layer), q, k, v, scale)
