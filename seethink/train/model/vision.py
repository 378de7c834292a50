"""The vision tower on a GPU: the windows of all images in one attention call.

transformers cuts images into windows and calls attention once for each, some 2,800 times for one of 1,369 tokens, unless its
function has "flash" in its name: then it gets all of them, and where each ends.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

VARLEN = "varlen_flash"


def _varlen(_module: Any, query: Any, key: Any, value: Any, **given: Any) -> tuple[Tensor, None]:
    """transformers' attention interface: [1, H, N, D] in, ([1, N, H, D], None) out."""
    # rotary positions leave queries and keys in fp32
    q, k, v = (x.squeeze(0).transpose(0, 1).to(value.dtype).contiguous() for x in (query, key, value))
    # those of keys are the same: an image looks at itself
    ends, longest = given["cu_seq_lens_q"], given["max_length_q"]
    out = varlen_attn(q, k, v, ends, ends, longest, longest)
    return cast(Tensor, out).unsqueeze(0), None


AttentionInterface.register(VARLEN, _varlen)


def see_at_once(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Let the vision tower of a model on a GPU look so; its kernel computes in half precision only."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        model.model.visual.config._attn_implementation = VARLEN


def see(model: Any, pixels: Tensor | None, grids: Tensor | None) -> Tensor:
    """Image tokens [tokens, 1 + deep, hidden] of pixels [patches, patch values] and grids [images, 3]."""
    assert pixels is not None and grids is not None
    found = model.model.get_image_features(pixels.to(model.device), grids.to(model.device), return_dict=True)
    return torch.stack([torch.cat(x) for x in (found.pooler_output, *found.get("deepstack_features", ()))], 1)
