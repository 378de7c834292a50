"""Build the base checkpoint from nothing: vision words, then language in two styles, stopped early on purpose.

    seethink pocket pretrain --out base

A finished base would leave GRPO nothing to find, so training ends at about 45 % held-out accuracy.
Left out: anything a real pretraining run needs (sharding, resuming, mixed data). Ten minutes on two cores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen2_5_VLForConditionalGeneration

from seethink.pocket.lessons import IGNORE, Batch, Gallery, to_patches

LOOK_LAYER, LOOK_HEAD = 1, 0
Model = Qwen2_5_VLForConditionalGeneration


def word_loss(model: Model, gallery: Gallery, index: Tensor, group_ids: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stage 0: image tokens resemble the words that describe them. Returns (loss, [groups] accuracy)."""
    features = image_tokens(model, to_patches(gallery.pictures[index]))  # [B, 16, hidden]
    features = model.model.language_model.norm(features)
    embedding = model.get_input_embeddings().weight
    losses, right = [], []
    for g, ids in enumerate(group_ids):
        target = gallery.words[index, :, g].flatten()
        logits = (features.flatten(0, 1) @ embedding[ids].T).float()
        keep = target != IGNORE
        losses.append(cross_entropy(logits, target, ignore_index=IGNORE))
        right.append((logits.argmax(-1) == target)[keep].float().mean())
    return torch.stack(losses).sum(), torch.stack(right).detach()


def image_tokens(model: Model, pixels: Tensor) -> Tensor:
    """[B, 64, 1176] patches -> [B, 16, hidden]."""
    grids = torch.tensor([[1, 8, 8]]).expand(len(pixels), -1)
    parts = model.model.get_image_features(pixels.flatten(0, 1), grids, return_dict=True).pooler_output
    return torch.stack(tuple(parts))


def language_loss(model: Model, gallery: Gallery, batch: Batch) -> tuple[Tensor, Tensor]:
    """(mean next-token loss over completion tokens, mean -log attention of one head to the cell that a token is about).

    The second is a crutch for a small model with little time: told where to look, it learns to read within minutes.
    """
    output = model(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        pixel_values=to_patches(gallery.pictures[batch.scene]).flatten(0, 1),
        image_grid_thw=torch.tensor([[1, 8, 8]]).expand(len(batch.scene), -1),
        use_cache=False,
        output_attentions=True,
    )
    labels, look = batch.labels[:, 1:], batch.look[:, 1:]
    words = cross_entropy(output.logits[:, :-1].flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)
    attention = output.attentions[LOOK_LAYER][:, LOOK_HEAD, :-1].float()  # [B, T - 1, T]
    chosen = attention.gather(2, look.clamp(min=0)[..., None])[..., 0]
    return words, -(chosen + 1e-6).log()[look != IGNORE].mean()
