"""Whole GRPO steps of TRL on a GPU, on the work of gpu.py: bf16 weights, LoRA of the same rank on the same layers, no recomputation.

As many completions a step as ours, in micro-batches of PER_DEVICE; generation is transformers' own, as ours is without vLLM.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from datasets import Dataset, Image
from peft import LoraConfig
from step import LORA
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, TrainerCallback
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import GRPOConfig, GRPOTrainer
from trl_peer import ImageProcessor, settings
from work import QUESTION, Case, image_paths, reward

from seethink.train.model.lora import TARGETS

PER_DEVICE = 8  # completions computed at once: some 6,000 tokens of the paper's setting
SAME = (
    "output_dir", "max_steps", "num_generations", "max_completion_length", "temperature", "beta", "loss_type", "learning_rate",
    "lr_scheduler_type", "generation_kwargs", "shuffle_dataset", "disable_tqdm", "report_to", "logging_strategy", "save_strategy",
)  # fmt: skip
"""Settings that it shares with the peer of the CPU."""


class Clock(TrainerCallback):
    """Seconds between ends of steps, which hold reading, generation, reward, reference and update."""

    def __init__(self, device):
        self.device, self.at, self.steps, self.generating = device, [], [], []

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_begin(self, *_, **__):
        self.at.append(self.now())

    def on_step_end(self, *_, **__):
        self.at.append(self.now())
        self.steps.append(self.at[-1] - self.at[-2])
        print(f"TRL step {len(self.steps)}: {self.steps[-1]:.2f} s, generating {self.generating[-1]:.2f} s", flush=True)


class Timed(Qwen2_5_VLForConditionalGeneration):
    """The stock model; how long it generates is kept."""

    clock: Clock

    def generate(self, *args, **kwargs):
        began = self.clock.now()
        found = super().generate(*args, **kwargs)
        self.clock.generating.append(self.clock.now() - began)
        return found


def measure(connection, folder: Path, case: Case, device_name: str, steps: int) -> None:
    """Seconds of a step, the first left out."""
    clock = Clock(torch.device(device_name))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    processor = ImageProcessor(Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer, tokenizer.chat_template)
    on_gpu = clock.device.type == "cuda"
    model = Timed.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.bfloat16 if on_gpu else torch.float32)
    Timed.clock = clock
    model.model.visual.requires_grad_(False)
    paths = image_paths(folder / case.name, case.prompts * steps)
    rows = [{"prompt": [{"role": "user", "content": QUESTION}], "image": p} for p in paths]
    plain = settings(folder, case, model, steps)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completion_ids, **_: [reward(ids) for ids in completion_ids],
        args=GRPOConfig(
            **{name: getattr(plain, name) for name in SAME},
            per_device_train_batch_size=min(PER_DEVICE, case.prompts * case.group),
            gradient_accumulation_steps=max(1, case.prompts * case.group // PER_DEVICE),
            gradient_checkpointing=False,
            bf16=on_gpu,
            use_cpu=not on_gpu,
        ),
        train_dataset=Dataset.from_list(rows).cast_column("image", Image()),
        processing_class=processor,
        callbacks=[clock],
        peft_config=LoraConfig(r=LORA.lora_rank, lora_alpha=2 * LORA.lora_rank, target_modules=TARGETS),
    )
    trainer.train()
    timed = clock.steps[1:]
    connection.send({
        "version": version("trl"), "step_seconds": median(timed), "step_spread": (min(timed), max(timed)),
        "generate_seconds": median(clock.generating[1:]), "first_seconds": clock.steps[0],
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0,
    })  # fmt: skip
