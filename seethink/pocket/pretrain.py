"""Build the base checkpoint from nothing: vision words, then language in two styles, stopped early on purpose.

    seethink pocket pretrain --out base

A finished base would leave GRPO nothing to find, so training ends at about 45 % held-out accuracy.
Left out: anything a real pretraining run needs (sharding, resuming, mixed data). Ten minutes on two cores.
"""

from __future__ import annotations

import time
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from seethink.pocket.lessons import IGNORE, WORD_GROUPS, Batch, Gallery, draw_batch, draw_gallery, to_patches

Model = Qwen2_5_VLForConditionalGeneration


def word_loss(model: Model, gallery: Gallery, index: Tensor, group_ids: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stage 0: image tokens resemble the words that describe them. Returns (loss, [groups] accuracy)."""
    features = image_tokens(model, to_patches(gallery.pictures[index]))  # [B, 16, hidden]
    features = features * features.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()
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


def language_loss(model: Model, gallery: Gallery, batch: Batch) -> Tensor:
    """Mean next-token loss over completion tokens, through the stock forward."""
    image = batch.ids == model.config.image_token_id
    logits = model(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        mm_token_type_ids=image.int(),
        pixel_values=to_patches(gallery.pictures[batch.scene]).flatten(0, 1),
        image_grid_thw=torch.tensor([[1, 8, 8]]).expand(len(batch.ids), -1),
        use_cache=False,
    ).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten(), ignore_index=IGNORE)
