"""What the base is taught: pre-rendered scenes, questions about them in both styles, and batches as tensors.

Styles are told apart by the system prompt alone. Concise lessons come under the neutral prompt; careful ones (doubt,
rechecks, corrected false starts, always about the picture at hand) under the careful prompt; a few have no thinking.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seethink.core.tags import compose
from seethink.pocket.questions import PLURALS, ask, phrase
from seethink.pocket.render import render
from seethink.pocket.teacher import Persona, plan, reason
from seethink.pocket.tokens import COLUMN_WORDS, EDGE_WORDS, LETTER_WORDS, NUMBERS, ROW_WORDS, prompt
from seethink.pocket.world import (
    COLOURS,
    GRID,
    HEIGHT,
    LATTICE,
    LESSONS,
    SHAPES,
    SIZE,
    Hardness,
    Scene,
    draw_curve,
    draw_things,
)

IMAGE_TOKENS, IGNORE = GRID * GRID, -100
STYLES = {"concise": "system", "careful": "system_careful"}
"""Style of thinking -> prompt file that asks for it."""
TEACHERS = {
    "concise": Persona(leak=0.0, wrong_answer=0.0),
    "careful": Persona(hesitation=0.7, recheck=0.2, detour=0.2, leak=0.0, wrong_answer=0.0),
}
HEIGHTS = tuple(str(n) for n in range(-HEIGHT, HEIGHT + 1))
WORD_GROUPS = (ROW_WORDS, COLUMN_WORDS, (*COLOURS, "empty"), SHAPES, *EDGE_WORDS, ("line", "parabola"), HEIGHTS)
"""Words an image token should resemble, one of each group: row, column, colour, shape, four edges; of a curve its form and
its height, left of the middle that at x = 0, right of it that at x = 1: no token has to carry two."""
DRAWN = ("equation", "arithmetic", "arithmetic")
"""Questions about a picture of a curve."""
NUMBER_WEIGHT = 5.0
"""In the loss, of a number that is counted or worked out: there are few of them, and they decide whether working out pays."""
SINK = 4.0
"""Weight of "nothing" beside every thing that is counted: attention then falls on n of them by n / (n + SINK), which tells
six from five."""


@dataclass(frozen=True)
class Lesson:
    """One batch of teaching.

    rows    documents about things; half as many are about curves
    tasks   what is asked about pictures of things, in turn
    room    tokens from which on a document asks nothing more: short, since attention costs the square of a row
    bare    share of answers without thinking
    glance  share of concise counts and equations that skip their steps
    """

    style: str
    rows: int = 36
    tasks: tuple[str, ...] = ("where", "where", "colour_at", "shape_right", "count", "subtract", "describe")
    room: int = 90
    bare: float = 0.03
    glance: float = 0.0


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
class LessonBatch:
    """Rows, each a document: a system prompt with one picture, then several questions with their answers.

    Every question sees its document's picture and itself, never the other questions: one picture, many lessons.

    ids       [B, T]
    positions [3, B, T] M-RoPE positions, restarting after the picture for each question
    mask      [B, 1, T, T] added to attention scores
    labels    [B, T] IGNORE outside completions
    weight    [B, T] of a completion token in the loss
    look      [B, T] place in the row of what a completion token is about (an image token, an option), or IGNORE
    letter    [B, T] for the word of an option the place of its letter, else IGNORE
    match     [B, T] for the word of a seen thing the place of the asked word where it is that, of "nothing" where not
    tally     [B, T, T] for the sign before a count how attention should lie: on what is counted, and on "nothing"
    scene     [B] index in the gallery
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    weight: Tensor
    look: Tensor
    letter: Tensor
    match: Tensor
    tally: Tensor
    scene: Tensor


@dataclass
class TokenRow:
    """A row under construction: one entry per token."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    look: list[int] = field(default_factory=list)
    letter: list[int] = field(default_factory=list)
    match: list[int] = field(default_factory=list)
    tally: dict[int, dict[int, float]] = field(default_factory=dict)
    positions: list[tuple[int, ...]] = field(default_factory=list)
    question: list[int] = field(default_factory=list)
    """0 for the shared beginning of the document."""

    def add(
        self,
        ids: list[int],
        positions: list[tuple[int, ...]],
        question: int = 0,
        look: Sequence[int] = (),
        letter: Sequence[int] = (),
    ) -> None:
        """Append tokens; the last `len(look)` of them are learnt, the first have letters."""
        before = len(ids) - len(look)
        self.ids += ids
        self.labels += [IGNORE] * before + (ids[before:] if look else [])
        self.weight += [0.0] * before + [1.0] * len(look)
        self.look += [IGNORE] * before + list(look)
        self.letter += list(letter) + [IGNORE] * (len(ids) - len(letter))
        self.match += [IGNORE] * len(ids)
        self.positions += positions
        self.question += [question] * len(ids)


def draw_gallery(rng: Random, count: int, hardness: Hardness = LESSONS, curves: float = 0.2) -> Gallery:
    """`count` scenes, a share of them with curves."""
    scenes = [draw_curve(rng, hardness) if rng.random() < curves else draw_things(rng, hardness) for _ in range(count)]
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


def draw_batch(gallery: Gallery, tokenizer: PreTrainedTokenizerBase, rng: Random, lesson: Lesson) -> LessonBatch:
    """Questions about random scenes of the gallery, all in the lesson's style."""
    things = [i for i, s in enumerate(gallery.scenes) if not s.curve]
    curves = [i for i, s in enumerate(gallery.scenes) if s.curve]
    turns = cycle(rng.sample(lesson.tasks, len(lesson.tasks)))
    asked = [(rng.choice(things), turns) for _ in range(lesson.rows)]
    asked += [(rng.choice(curves), cycle(DRAWN)) for _ in range(lesson.rows // 2)] if curves else []
    rows = [TokenRow() for _ in asked]
    for row, (scene, tasks) in zip(rows, asked, strict=True):
        _add_document(row, gallery.scenes[scene], lesson, tasks, tokenizer, rng)
    scenes = [scene for scene, _ in asked]
    padding: Any = tokenizer.pad_token_id  # transformers declares no type of its ids
    return _collate(rows, scenes, padding)


def prompt_ids(question: str, style: str, tokenizer: PreTrainedTokenizerBase, beginning: bool = False) -> list[int]:
    """Chat-templated prompt with one id per image token; only the part before the question for a `beginning`."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "system", "content": prompt(STYLES[style])}, {"role": "user", "content": content}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if beginning:
        text = text.removesuffix(_TURN)
    return tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * IMAGE_TOKENS))["input_ids"]


def pad(rows: Sequence[Sequence[float]], value: float, left: bool = False) -> Tensor:
    """[B, longest] of ragged rows."""
    longest = max(map(len, rows))
    fill = [[value] * (longest - len(row)) for row in rows]
    return torch.tensor([[*f, *r] if left else [*r, *f] for r, f in zip(rows, fill, strict=True)])


def _add_document(
    row: TokenRow, scene: Scene, lesson: Lesson, tasks: Iterator[str], tokenizer: PreTrainedTokenizerBase, rng: Random
) -> None:
    start = prompt_ids("", lesson.style, tokenizer, beginning=True)
    image: Any = tokenizer.convert_tokens_to_ids("<|image_pad|>")  # one word gives one id
    first = start.index(image)
    places = _positions(len(start), first)
    row.add(start, places)
    after = max(max(p) for p in places) + 1
    teacher = replace(TEACHERS[lesson.style], glance=lesson.glance if lesson.style == "concise" else 0.0)
    for number, task in enumerate(tasks, 1):
        if len(row.ids) > lesson.room:
            return
        if query := ask(scene, task, rng):
            think, text = reason(scene, query, teacher, rng)
            think = "" if rng.random() < lesson.bare else think
            asked = tokenizer(phrase(query, rng) + _TURN)["input_ids"]
            answer = tokenizer(compose(think, text))["input_ids"] + [tokenizer.eos_token_id]
            here, words = len(row.ids), list(tokenizer.convert_ids_to_tokens(asked))
            topics = _topics(think, text, set(plan(scene, query)))
            look = [_place(about, first, here, words) for about in topics]
            letter = [here + i if word in LETTER_WORDS else IGNORE for i, word in enumerate(["", *words[:-1]], -1)]
            row.add(asked + answer, [(after + i,) * 3 for i in range(len(asked) + len(answer))], number, look, letter)
            said = list(tokenizer.convert_ids_to_tokens(answer))
            for i in range(1, len(said) - 1):
                if said[i] == "=" and said[i - 1] in NUMBERS:
                    row.weight[here + len(words) + i + 1] = NUMBER_WEIGHT
            if task in ("count", "subtract"):
                _count(row, here, words, said, query.word)


def _count(row: TokenRow, here: int, asked: list[str], said: list[str], word: str) -> None:
    """Where to look while counting, in a question of a row: which seen words are the asked one, and what adds up."""
    at = here + len(asked)  # of the think tag, which stands for "nothing"
    question = here + asked.index(PLURALS[word])
    seen: dict[str, list[int]] = {"found": [], "objects": []}
    for i, token in enumerate(said):
        if token in COLUMN_WORDS and i + 2 < len(said):
            seen["objects"].append(at + i)
            for k in (i + 1, i + 2):
                row.match[at + k] = question if said[k] == word else at
                seen["found"] += [at + k] if said[k] == word else []
        elif token == ":" and said[i + 1] == str(len(seen.get(said[i - 1], ""))):  # not where rows were said twice
            share = 1 / (len(seen[said[i - 1]]) + SINK)
            row.tally[at + i] = {at: SINK * share, **dict.fromkeys(seen[said[i - 1]], share)}
            row.weight[at + i + 1] = NUMBER_WEIGHT


def _place(about: int | str | None, image: int, question: int, words: list[str]) -> int:
    """Place in the row of what a token is about: a cell of the picture or the last such word of the question."""
    if about is None:
        return IGNORE
    return image + about if isinstance(about, int) else question + len(words) - 1 - words[::-1].index(about)


def _topics(think: str, answer: str, true: set[str]) -> list[int | str | None]:
    """What each completion token, tags and end included, speaks of: a cell, the word of an option, or nothing.

    Only true statements have a topic: there is nothing to see of a false one.
    """
    topics: list[int | str | None] = [None]
    row, place = 0, None
    for statement in re.findall(r"[^.]*\.", think):
        words = statement.split()
        about: list[int | str | None] = [None] * len(words)
        if statement.strip(" .") not in true:
            topics += about
            continue
        if at := re.search(r" at row-(\d) column-(\d)", statement):
            row = int(at[1])
            place = (row - 1) * GRID + int(at[2]) - 1
            about[:-1] = [place] * (len(words) - 1)
        elif words[1] == "is":
            about[2] = words[0]
        elif at := re.match(r" ?x = ([01]) y", statement):
            about[3:6] = [GRID + GRID // 2 - 1 + int(at[1])] * 3  # a cell left of the middle, or right of it
        else:
            row = int(words[0][-1]) if words[0] in ROW_WORDS else row
            for i, word in enumerate(words):
                if word in COLUMN_WORDS:
                    about[i : i + 3] = [(row - 1) * GRID + int(word[-1]) - 1] * 3
        topics += about
    edges = place if answer.startswith("(") else None
    return [*topics, None, None, *[edges] * len(answer.split()), None, None]


def _positions(length: int, first: int) -> list[tuple[int, ...]]:
    """M-RoPE positions of a beginning with one picture: the picture spans rows and columns, its end follows both."""
    picture = [(first, first + k // GRID, first + k % GRID) for k in range(IMAGE_TOKENS)]
    rest = [(first + GRID + k,) * 3 for k in range(length - first - IMAGE_TOKENS)]
    return [*((k,) * 3 for k in range(first)), *picture, *rest]


def _collate(rows: list[TokenRow], scenes: list[int], padding: int) -> LessonBatch:
    length = max(len(row.ids) for row in rows)
    ids = pad([row.ids for row in rows], padding)
    labels, weight = pad([row.labels for row in rows], IGNORE), pad([row.weight for row in rows], 0.0)
    look, letter = pad([row.look for row in rows], IGNORE), pad([row.letter for row in rows], IGNORE)
    match, tally = pad([row.match for row in rows], IGNORE), torch.zeros(len(rows), length, length)
    for of, row in enumerate(rows):
        for at, shares in row.tally.items():
            tally[of, at, list(shares)] = torch.tensor(list(shares.values()))
    question = pad([row.question for row in rows], IGNORE)
    positions = torch.stack([pad([[p[axis] for p in row.positions] for row in rows], 0) for axis in range(3)])
    shared = (question[:, None, :] == 0) | (question[:, :, None] == question[:, None, :])
    allowed = shared & torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[:, None]
    return LessonBatch(ids, positions, mask, labels, weight, look, letter, match, tally, torch.tensor(scenes))


def _words(scene: Scene) -> list[list[int]]:
    """[16][groups] word indices of every cell."""
    cells = []
    for cell in range(IMAGE_TOKENS):
        row, column = divmod(cell, GRID)
        thing, curve = scene.at(row + 1, column + 1), scene.curve
        looks = [len(COLOURS), IGNORE, *[IGNORE] * 4]
        if thing:
            looks = [COLOURS.index(thing.colour), SHAPES.index(thing.shape), *(e // LATTICE for e in thing.box)]
        graph = [IGNORE] * 2
        if curve:
            graph = [int(curve.form == "parabola"), HEIGHTS.index(str(curve.at(int(column >= GRID // 2))))]
        cells.append([row, column, *looks, *graph])
    return cells


_TURN = "<|im_end|>\n<|im_start|>assistant\n"
