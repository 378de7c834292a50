"""The pocket model: a real Qwen2.5-VL of 1.5 million parameters (.9 and 3.1 in its other sizes), with an initialisation that learns to look things up.

Trained transformers attend from a word to places that hold the same word and copy what lies there. Starting the
language layers close to that (Wq = c Wk, Wo = d Wv^T; Trockman and Kolter 2023, arXiv 2305.09828, call it mimetic)
saves most of the training that a small model spends on finding it.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from seethink.pocket.world import SIZE

Model = Qwen2_5_VLForConditionalGeneration
QUERY_GAIN, OUTPUT_GAIN = 2.0, 1.9
HEADS = {"small": 3, "base": 5, "large": 8}
"""Size -> attention heads of the language layers, 32 wide each."""


def make_config(tokenizer: PreTrainedTokenizerBase, size: str = "base") -> Qwen2_5_VLConfig:
    """Architecture: 16 image tokens for a 112 x 112 picture, one per cell of the grid. `size` is one of HEADS."""
    heads = HEADS[size]
    width = 32 * heads
    names = ("image_pad", "video_pad", "vision_start", "vision_end", "im_end")
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    ends: dict[str, Any] = {"eos_token_id": ids["im_end"], "pad_token_id": tokenizer.pad_token_id}
    vision = {
        "hidden_size": 96,
        "depth": 2,
        "num_heads": 3,
        "intermediate_size": 256,
        "out_hidden_size": width,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": SIZE,
        "fullatt_block_indexes": [0, 1],
        "tokens_per_second": 2,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": 3,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": 14 * width // 5,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        **ends,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        **ends,
    )


def make_model(tokenizer: PreTrainedTokenizerBase, seed: int, size: str = "base") -> Model:
    """Untrained model with mimetic language layers, eager attention (fastest at this size), fp32."""
    torch.manual_seed(seed)
    config = make_config(tokenizer, size)
    config._attn_implementation = "eager"
    model = Model(config)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(**ends, do_sample=False, max_new_tokens=160)
    parts: Any = model  # modules do not declare their parts
    with torch.no_grad():
        embedding = parts.get_input_embeddings().weight  # logits of the tied head start near unit variance
        torch.nn.init.normal_(embedding, std=embedding.shape[1] ** -0.5)
        for layer in parts.model.language_model.layers:
            attention = layer.self_attn
            width = attention.k_proj.weight.shape[1]
            for projection in (attention.k_proj, attention.v_proj):
                torch.nn.init.normal_(projection.weight, std=width**-0.5)
            attention.q_proj.weight.copy_(QUERY_GAIN * attention.k_proj.weight)
            attention.o_proj.weight.copy_(OUTPUT_GAIN * attention.v_proj.weight.T)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
                torch.nn.init.zeros_(projection.bias)
    return model
