"""The shared-prefix layout: each prompt once, its completions beside it, nothing padded outside attention.

A group of G completions shares one prompt, and in a vision-language model the prompt is long. A pack holds, flat,

    prompt 1, completions 1.1 .. 1.G, prompt 2, completions 2.1 .. 2.G, ...            N tokens

Every linear layer runs on these N tokens. Only attention knows who sees whom: a prompt token sees its prompt causally; a
completion token sees its prompt and its own completion causally. The work falls from G (P + T) to P + G T tokens, and the
result is exactly that of G separate forwards. M-RoPE positions of every completion restart after the prompt.

After the last layer only the states that predict a completion token are read, so there the other prompt tokens give keys
and values and nothing more: their queries and their MLP, most of one layer, are left out.

The transformers model stays as it is: we register one attention function and pass it the layout beside the mask, which
transformers leaves out for functions that it does not know.

Shape letters: B prompts, G completions a prompt, P prompt tokens, T completion tokens, N flat tokens, H query heads,
K key-value heads, D head width. Related: Prefix Grouper (arXiv 2506.05433), for text models with 1-D positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from seethink.train.model.layout import Layout, Spans

ATTENTION = "shared_prefix"


def _attention(module, query, key, value, attention_mask, scaling: float, attend: Callable[..., Tensor], **_):
    """transformers' attention interface: [1, H, N, D] in, ([1, N, H, D], None) out. The models hand `attend` of a Layout through."""
    layer = module.layer_idx - module.config.num_hidden_layers
    key = key.to(value.dtype)  # rotary positions leave it in fp32, which a cache would then hold
    return attend(layer, query[0], key[0], value[0], scaling)[None], None


AttentionInterface.register(ATTENTION, _attention)


@dataclass(frozen=True)
class Pack:
    """Flat tokens of several prompts with their completions.

    ids         [N]
    positions   [3, N]
    image_slots [I] flat places of image tokens, in prompt order
    predict     [C] flat place whose hidden state predicts each completion token
    read        [r] those places and the last token of every prompt, each once, in order: what is read after the last layer
    targets     [C] the completion tokens
    spans       where prompts and completions lie
    """

    ids: Tensor
    positions: Tensor
    image_slots: Tensor
    predict: Tensor
    read: Tensor
    targets: Tensor
    spans: Spans

    def to(self, device: torch.device) -> Pack:
        tensors = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "spans"}
        return Pack(**tensors, spans=self.spans)

    @cached_property
    def layout(self) -> Layout:
        return self.spans.layout(self.ids.device, self.read)


def pack(prompts: list, completions_BG: list[list[Tensor]], image_token: int) -> Pack:
    """Pack prompts (EncodedPrompt) with their completions (ids [T] each; lengths and group sizes may differ).

    Completion tokens keep their order: prompt by prompt, completion by completion, so per-completion values become
    per-token values by `torch.repeat_interleave(values, lengths)`.
    """
    ids, positions, predict, targets, slots, last, place = [], [], [], [], [], [], 0
    for prompt, group in zip(prompts, completions_BG, strict=True):
        slots.append(place + (prompt.ids == image_token).nonzero()[:, 0])  # of prompts, never of what a model wrote
        ids.append(prompt.ids)
        positions.append(prompt.positions)
        place += len(prompt.ids)
        last.append(place - 1)
        for completion in group:
            t = len(completion)
            ids.append(completion)
            positions.append((prompt.next_position + torch.arange(t)).expand(3, -1))
            predict.append(torch.cat([torch.tensor([last[-1]]), torch.arange(place, place + t - 1)]))
            targets.append(completion)
            place += t
    none = torch.zeros(0, dtype=torch.long)
    predict = torch.cat(predict or [none])
    return Pack(
        ids=torch.cat(ids),
        positions=torch.cat(positions, 1),
        image_slots=torch.cat(slots),
        predict=predict,
        read=torch.cat([predict, torch.tensor(last)]).unique(),
        targets=torch.cat(targets or [none]),
        spans=Spans.of(prompts, completions_BG),
    )


def hidden_states(model, packed: Pack, features: Tensor | None) -> Tensor:
    """Last hidden states [C, hidden] that predict the completion tokens of a pack; features as in `run_pack`."""
    return run_pack(model, packed, features, packed.layout).index_select(0, packed.predict)


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
    attend = layout.attend  # not the layout: FSDP takes dataclasses apart and makes their tensors inputs of every layer
    with nullcontext() if read is None else only_rows(language.layers[-1].mlp, read):
        return language(
            inputs_embeds=embeds[None], position_ids=positions[:, None], use_cache=False, attend=attend, **vision
        ).last_hidden_state[0]


@contextmanager
def only_rows(module: nn.Module, rows: Tensor) -> Iterator[None]:
    """`module`, called on [1, N, hidden], computes `rows` [r] and gives zeros elsewhere."""

    def select(_, inputs: tuple[Tensor]) -> tuple[Tensor]:
        nonlocal size
        size = inputs[0].shape[1]
        return (inputs[0].index_select(1, rows),)

    def scatter(_, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        return out.new_zeros(1, size, out.shape[2]).index_copy(1, rows, out)

    size = 0
    hooks = [module.register_forward_pre_hook(select), module.register_forward_hook(scatter)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
