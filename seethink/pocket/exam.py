"""Greedy examination of the base while it is built: accuracy per kind, in one style, by the project's own rewards."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from seethink.core.nouns import Sample
from seethink.core.tags import extract
from seethink.pocket.build import draw_sample
from seethink.pocket.checker import check
from seethink.pocket.lessons import pad, prompt_ids, to_patches
from seethink.pocket.model import Model
from seethink.pocket.render import render
from seethink.rewards import RewardConfig, Rewarder
from seethink.rewards.config import BoxConfig, OpenConfig, SymbolicConfig

RULES = Rewarder(
    RewardConfig(symbolic=SymbolicConfig(on=False), open=OpenConfig(correct=1.0), box=BoxConfig(correct=0.75))
)
MAX_TOKENS, ROWS = 160, 125


@dataclass(frozen=True)
class Paper:
    """Exam questions with their pictures [S, 112, 112, 3], drawn from a stream of their own."""

    samples: list[Sample]
    pictures: Tensor


@dataclass(frozen=True)
class Marks:
    """Greedy results in one style.

    accuracy  per kind, in [0, 1]
    reward    mean reward per kind (mean IoU of boxes, mean token F1 of descriptions)
    empty     per kind, share of answers without a statement before them
    true      per kind, true statements per answer
    """

    accuracy: dict[str, float]
    reward: dict[str, float]
    empty: dict[str, float]
    true: dict[str, float]
    tokens: float
    """Mean completion length."""
    cut: float
    """Share of completions without an end."""

    @property
    def mean(self) -> float:
        """Over kinds."""
        return sum(self.accuracy.values()) / len(self.accuracy)


def set_paper(stream: str, count: int) -> Paper:
    """`count` questions, the five kinds in equal shares."""
    drawn = [draw_sample(stream, index) for index in range(count)]
    pictures = np.stack([np.asarray(render(scene)) for _, scene in drawn])
    return Paper([sample for sample, _ in drawn], torch.from_numpy(pictures))


def examine(model: Model, tokenizer: PreTrainedTokenizerBase, paper: Paper, style: str) -> Marks:
    """Marks of the model on a paper, answering in one style."""
    rows: list[list[int]] = []
    for start in range(0, len(paper.samples), ROWS):
        part = slice(start, start + ROWS)
        prompts = [prompt_ids(s.question, style, tokenizer) for s in paper.samples[part]]
        rows += decode(model, tokenizer, prompts, paper.pictures[part])
    texts = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
    tables: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list) for name in ("right", "reward", "empty", "true")
    }
    for sample, reward, text in zip(paper.samples, RULES.score_batch(paper.samples, texts), texts, strict=True):
        steps = [step.truth for step in check(sample, extract(text).think or "") if step.kind != "other"]
        found = bool(RULES.is_correct(reward)), reward.value or 0.0, not steps, steps.count(True)
        for table, value in zip(tables.values(), found, strict=True):
            table[sample.kind].append(value)
    cut = sum(tokenizer.eos_token_id not in row for row in rows) / len(rows)
    right, reward, empty, true = ({kind: sum(v) / len(v) for kind, v in table.items()} for table in tables.values())
    return Marks(right, reward, empty, true, sum(map(len, rows)) / len(rows), cut)


@torch.no_grad()
def decode(
    model: Model, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], pictures: Tensor
) -> list[list[int]]:
    """Greedy completions, end token included. Prompts are padded on the left; every step feeds one token a row."""
    padding: Any = tokenizer.pad_token_id  # transformers declares no type of its ids, nor the parts of a model
    parts: Any = model.model
    ids, mask = pad(prompts, padding, left=True), pad([[1] * len(p) for p in prompts], 0, left=True)
    grids = torch.tensor([[1, 8, 8]]).expand(len(ids), -1)
    image = (ids == model.config.image_token_id).int()
    positions, _ = parts.get_rope_index(ids, image, image_grid_thw=grids, attention_mask=mask)
    following = positions.amax(dim=(0, 2)) + 1  # [B]
    cache = DynamicCache(config=parts.config.text_config)
    step = {"input_ids": ids, "position_ids": positions, "pixel_values": to_patches(pictures).flatten(0, 1)}
    step["image_grid_thw"] = grids
    done = torch.zeros(len(ids), dtype=torch.bool)
    chosen: list[Tensor] = []
    while len(chosen) < MAX_TOKENS and not done.all():
        output = model(**step, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = output.logits[:, -1].argmax(-1).masked_fill(done, padding)
        chosen.append(token)
        done |= token == tokenizer.eos_token_id
        mask = torch.cat([mask, mask.new_ones(len(ids), 1)], 1)
        place = (following + len(chosen) - 1).expand(3, -1)[..., None]
        step = {"input_ids": token[:, None], "position_ids": place}
    return [[t for t in row if t != padding] for row in torch.stack(chosen, 1).tolist()]
