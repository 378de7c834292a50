"""Writes docs/memory.md: what each file of seethink/configs takes of a GPU, for the shape of Qwen2.5-VL-3B.

python docs/memory.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig

from seethink.core.config import resolve
from seethink.core.shipped import SHIPPED
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.memory import GB, memory_plan, precision_of, shapes
from seethink.train.preflight import Longest

ROOT = Path(__file__).parents[1]
PROMPT, COMPLETION = 500, 1024
FILES = {  # file: (GPUs, gigabytes of each)
    "paper/grpo": (8, 80), "paper/sft": (8, 80),
    "one_gpu/grpo-lora-24": (1, 24), "one_gpu/grpo-lora-48": (1, 48), "one_gpu/grpo-lora-80": (1, 80), "one_gpu/grpo-full-80": (1, 80),
    "one_gpu/sft-lora-24": (1, 24), "one_gpu/sft-lora-48": (1, 48), "one_gpu/sft-lora-80": (1, 80), "one_gpu/sft-full-80": (1, 80),
}  # fmt: skip
HEAD = f"""<!-- docs/memory.py wrote this page; what is typed here is lost -->
# Memory of the configurations

Gigabytes on each GPU (`host`: in main memory instead), counted for the shape of Qwen2.5-VL-3B with a checkpoint in bf16, prompts
of {PROMPT} and completions of {COMPLETION} tokens (`seethink grpo @paper/grpo.toml --dry-run` counts yours). The sum is within 10 % of what is
tracked of a step without its memory (`tests/test_memory.py`); what an H100 measured is in [engine.md](engine.md#on-one-h100).
"""


def shape() -> Qwen2_5_VLConfig:
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    text = dict(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2,
        vocab_size=151_936, max_position_embeddings=128_000, rope_parameters=rope,
    )  # fmt: skip
    vision = dict(
        depth=32, hidden_size=1280, num_heads=16, intermediate_size=3420, out_hidden_size=2048, window_size=112,
        fullatt_block_indexes=[7, 15, 23, 31],
    )  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    config.dtype = torch.bfloat16
    return config


def page() -> str:
    """Every number is that of the plan."""
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        shape().save_pretrained(folder)
        for name, (gpus, capacity) in FILES.items():
            kind: Any = GRPOConfig if "grpo" in name else SFTConfig
            given = ["--model.path", folder, "--data", "d", "--out", "o", "--gpus", str(gpus), "--model.system", ""]
            config = resolve(kind, [f"@{SHIPPED / name}.toml", *given])
            longest = Longest(PROMPT, COMPLETION, PROMPT + COMPLETION)
            plan = memory_plan(config, shapes(config.model, precision_of(config)), longest, precision_of(config))
            assert plan.needed <= capacity * GB, f"{name} needs {plan.needed / GB:.1f} GB"
            lines += [f"\n## {name}.toml: {gpus} x {capacity} GB\n", "| part | when | GB |", "|---|---|---|"]
            lines += [f"| {part.name} | {part.phase} | {part.bytes / GB:.1f} |" for part in plan.parts]
            lines += [f"| **at the most**, with the margin | {plan.peak[0]} | **{plan.needed / GB:.1f}** |"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "memory.md").write_text(page(), encoding="utf-8")
