"""TRL's own GRPOTrainer on the benchmark's work, at its best settings for a CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset, Image
from transformers import (
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    ProcessorMixin,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    TrainerCallback,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import GRPOConfig, GRPOTrainer
from work import BETA, LEARNING_RATE, QUESTION, TEMPERATURE, Case, Turns, image_paths, parameter_counts, reward

from seethink.train.model.linear import use_onednn


class ImageProcessor(Qwen2_5_VLProcessor):
    """Qwen's processor without the video half, which needs torchvision."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class ForcedLengths(LogitsProcessor):
    """The stop token at a given length of each row, and never before."""

    def __init__(self, lengths: list[int], stop: int):
        self.lengths, self.stop, self.step = torch.tensor(lengths), stop, 0

    def __call__(self, input_ids, scores):
        self.step += 1
        scores[:, self.stop] = -torch.inf
        ends = self.lengths == self.step
        scores[ends] = -torch.inf
        scores[ends, self.stop] = 0
        return scores


class RaggedModel(Qwen2_5_VLForConditionalGeneration):
    """The stock model; `generate` ends the completions of each step where the case says."""

    case: Case
    step = 0

    def generate(self, *args, **kwargs):
        forced = ForcedLengths(self.case.lengths(self.step), self.generation_config.eos_token_id)
        self.step += 1
        return super().generate(*args, logits_processor=LogitsProcessorList([forced]), **kwargs)


class TakeTurns(TrainerCallback):
    """Everything between two ends of steps is counted: data loading, generation, reward, reference, update."""

    def __init__(self, turns: Turns):
        self.turns, self.tokens = turns, 0

    def on_train_begin(self, args, state, control, **_):
        self.turns.wait()

    def on_step_end(self, args, state, control, **_):
        self.turns.done(tokens=state.num_input_tokens_seen - self.tokens)
        self.tokens = state.num_input_tokens_seen
        control.should_training_stop = not self.turns.wait()


def serve(connection, folder: Path, case: Case, steps: int, attention: str, onednn: bool) -> None:
    """Train by turns; `onednn` gives TRL's models our linear layers too."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    processor = ImageProcessor(Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer, tokenizer.chat_template)
    kind = Qwen2_5_VLForConditionalGeneration if case.length else RaggedModel
    model = kind.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32)
    model.case = case
    model.model.visual.requires_grad_(False)
    rows = [
        {"prompt": [{"role": "user", "content": QUESTION}], "image": p}
        for p in image_paths(folder, case.prompts * steps)
    ]
    turns = Turns(connection)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completion_ids, **_: [reward(ids) for ids in completion_ids],
        args=settings(folder, case, model, steps),
        train_dataset=Dataset.from_list(rows).cast_column("image", Image()),
        processing_class=processor,
        callbacks=[TakeTurns(turns)],
    )
    if onednn:
        use_onednn(trainer.model)
        use_onednn(trainer.ref_model)
    turns.ready(parameters=parameter_counts(model))
    trainer.train()


def settings(folder: Path, case: Case, model, steps: int) -> GRPOConfig:
    """One batch of all completions per step: no accumulation, no checkpointing, nothing logged or saved."""
    config = model.config
    banned = [config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id]
    return GRPOConfig(
        output_dir=str(folder / "trl"),
        max_steps=steps,
        per_device_train_batch_size=case.prompts * case.group,
        gradient_accumulation_steps=1,
        num_generations=case.group,
        num_iterations=1,
        max_completion_length=case.max_tokens,
        temperature=TEMPERATURE,
        beta=BETA,
        loss_type="grpo",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        generation_kwargs={"suppress_tokens": sorted(set(banned))},
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_num_workers=0,
        shuffle_dataset=False,
        disable_tqdm=True,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
    )
