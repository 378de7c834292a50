"""What the base is taught: pre-rendered scenes, questions about them in both styles, and batches as tensors.

Styles are told apart by the system prompt alone. Concise lessons come under the neutral prompt; careful ones (doubt,
rechecks, corrected false starts, always about the picture at hand) under the careful prompt; a few have no thinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seethink.core.tags import compose
from seethink.pocket.questions import TASKS_OF_KIND, Query, ask, phrase
from seethink.pocket.render import render
from seethink.pocket.teacher import Persona, reason
from seethink.pocket.tokens import COLUMN_WORDS, EDGE_WORDS, ROW_WORDS, TERMS, prompt
from seethink.pocket.world import COLOURS, GRID, IID, LATTICE, SHAPES, SIZE, Profile, Scene, draw_curve, draw_things

IMAGE_TOKENS, IGNORE = GRID * GRID, -100
STYLES = {"concise": "system", "careful": "system_careful"}
"""Style of thinking -> prompt file that asks for it."""
TEACHERS = {
    "concise": Persona(leak=0.0, wrong_answer=0.0),
    "careful": Persona(hesitation=0.4, recheck=0.2, detour=0.2, leak=0.0, wrong_answer=0.0),
}
WORD_GROUPS = (
    ROW_WORDS,
    COLUMN_WORDS,
    (*COLOURS, "empty"),
    SHAPES,
    *EDGE_WORDS,
    ("line", "parabola"),
    TERMS,
    tuple(str(n) for n in range(-4, 5)),
)
"""Words an image token should resemble, one of each group: row, column, colour, shape, four edges, curve and height."""


@dataclass(frozen=True)
class Gallery:
    """Scenes with their pictures, drawn once.

    pictures [S, 112, 112, 3] bytes
    words    [S, 16, groups] index within each group of WORD_GROUPS, IGNORE where none applies
    """

    scenes: list[Scene]
    pictures: Tensor
    words: Tensor


@dataclass(frozen=True)
class Batch:
    """Right-padded rows. labels are IGNORE outside completions; scene [B] indexes the gallery."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    scene: Tensor


def draw_gallery(rng: Random, count: int, profile: Profile = IID, curves: float = 0.2) -> Gallery:
    """`count` scenes, a share of them with curves."""
    scenes = [draw_curve(rng, profile) if rng.random() < curves else draw_things(rng, profile) for _ in range(count)]
    pictures = torch.from_numpy(np.stack([np.asarray(render(scene)) for scene in scenes]))
    return Gallery(scenes, pictures, torch.tensor([_words(scene) for scene in scenes]))


def to_patches(pictures: Tensor) -> Tensor:
    """[S, 112, 112, 3] bytes -> [S, 64, 1176], equal to what Qwen2VLImageProcessor returns with mean and std 0.5."""
    patch, merge = 14, 2
    values = pictures.float().div(127.5).sub(1)
    values = values.view(-1, GRID, merge, patch, GRID, merge, patch, 3)
    values = values.permute(0, 1, 4, 2, 5, 7, 3, 6)  # S, row, column, sub-row, sub-column, channel, y, x
    values = values.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)  # a still picture counts as two frames
    return values.reshape(len(pictures), (SIZE // patch) ** 2, -1)


def draw_batch(gallery: Gallery, tokenizer: PreTrainedTokenizerBase, rng: Random, size: int, style: str, bare: float) -> Batch:
    """Questions about random scenes of the gallery, the five kinds in equal shares, answered in one style."""
    things = [i for i, s in enumerate(gallery.scenes) if not s.curve]
    curves = [i for i, s in enumerate(gallery.scenes) if s.curve]
    rows, picked = [], []
    for k in range(size):
        tasks = _TASKS[k % len(_TASKS)]
        task = tasks[k // len(_TASKS) % len(tasks)]
        query = None
        while query is None:
            index = rng.choice(curves if task == "equation" else things)
            query = ask(gallery.scenes[index], task, rng)
        picked.append(index)
        rows.append(_row(gallery.scenes[index], query, style, tokenizer, rng, bare))
    return _collate(rows, picked, tokenizer.pad_token_id)


def prompt_ids(question: str, style: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Chat-templated prompt with one id per image token."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "system", "content": prompt(STYLES[style])}, {"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * IMAGE_TOKENS))["input_ids"]


def pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> Tensor:
    """[B, longest] of ragged rows."""
    longest = max(map(len, rows))
    fill = [[value] * (longest - len(row)) for row in rows]
    return torch.tensor([[*f, *r] if left else [*r, *f] for r, f in zip(rows, fill, strict=True)])


def _row(
    scene: Scene, query: Query, style: str, tokenizer: PreTrainedTokenizerBase, rng: Random, bare: float
) -> tuple[list[int], list[int]]:
    """(prompt ids, completion ids)."""
    think, text = reason(scene, query, TEACHERS[style], rng)
    completion = compose("" if rng.random() < bare else think, text)
    ids = tokenizer(completion)["input_ids"] + [tokenizer.eos_token_id]
    return prompt_ids(phrase(query, rng), style, tokenizer), ids


def _collate(rows: list[tuple[list[int], list[int]]], scenes: list[int], padding: int) -> Batch:
    ids = pad([p + c for p, c in rows], padding)
    labels = pad([[IGNORE] * len(p) + c for p, c in rows], IGNORE)
    mask = pad([[1] * (len(p) + len(c)) for p, c in rows], 0)
    return Batch(ids, mask, labels, torch.tensor(scenes))


def _words(scene: Scene) -> list[list[int]]:
    """[16][groups] word indices of every cell."""
    cells = []
    for cell in range(IMAGE_TOKENS):
        row, column = divmod(cell, GRID)
        thing, curve = scene.at(row + 1, column + 1), scene.curve
        looks = [len(COLOURS), IGNORE, *[IGNORE] * 4]
        if thing:
            looks = [COLOURS.index(thing.colour), SHAPES.index(thing.shape), *(e // LATTICE for e in thing.box)]
        graph = [IGNORE] * 3
        if curve:
            term = curve.equation.split()[2]
            graph = [int(curve.form == "parabola"), TERMS.index(term), curve.b + 4]
        cells.append([row, column, *looks, *graph])
    return cells


_TASKS = tuple(TASKS_OF_KIND[kind] for kind in ("digit", "choice", "math", "box", "open"))
