"""Captions: a scene as machine-readable English, and back. The text-only reasoner sees nothing else of the image."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

from seethink.pocket.questions import Query, answerable, box_text
from seethink.pocket.world import COLOURS, HEIGHT, SHAPES, Curve, Scene, Thing

_THING = re.compile(
    rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) at row-(\d) column-(\d) with box \((\d+), (\d+)\),\( ?(\d+), (\d+)\)"
)
_CURVE = re.compile(
    rf"({'|'.join(COLOURS)}) (line|parabola) on axes passes through \((-?\d+), (-?\d+)\) and \((-?\d+), (-?\d+)\)"
)


def write_caption(scene: Scene) -> str:
    """Every fact of the scene in plain sentences."""
    count = len(scene.things)
    sentences = [f"The image shows {count} object{'s' * (count != 1)} on a grid of 4 rows and 4 columns."]
    for t in scene.things:
        where = f"at row-{t.row} column-{t.column} with box {box_text(t)}"
        sentences.append(f"There is {_article(t.colour)} {t.name} {where}.")
    if curve := scene.curve:
        points = " and ".join(f"({x}, {curve.at(x)})" for x in (0, 1))
        looks = f"{_article(curve.colour).capitalize()} {curve.colour} {curve.form}"
        sentences.append(f"{looks} on axes passes through {points}.")
    return " ".join(sentences)


def read_caption(text: str) -> Scene | None:
    """The scene that a text describes, or None where it describes none. Repeated facts count once."""
    curve = None
    if m := _CURVE.search(text):
        curve = Curve(m[2], int(m[6]) - int(m[4]), int(m[4]), m[1])
    things = {
        Thing(m[1], m[2], int(m[3]), int(m[4]), (int(m[5]), int(m[6]), int(m[7]), int(m[8])))
        for m in _THING.finditer(text)
    }
    if not things and not curve:
        return None
    return Scene(tuple(sorted(things, key=lambda t: (t.row, t.column))), curve)


def misread(scene: Scene, query: Query, rate: float, rng: Random) -> Scene:
    """The scene as an unfaithful caption would tell it: each thing keeps its colour and its shape, and a curve each of its
    two numbers, with probability 1 - rate. The question can still be answered, though perhaps not rightly."""
    for _ in range(8):
        things = tuple(
            replace(t, colour=_other(t.colour, COLOURS, rate, rng), shape=_other(t.shape, SHAPES, rate, rng))
            for t in scene.things
        )
        curve = scene.curve
        if curve:
            a, b = ((n + rng.choice((-1, 1)) if rng.random() < rate else n) for n in (curve.a, curve.b))
            curve = replace(curve, a=a or 1, b=max(-HEIGHT, min(HEIGHT, b)))
        told = Scene(things, curve)
        if answerable(told, query):
            return told
    return scene


def _other(word: str, words: tuple[str, ...], rate: float, rng: Random) -> str:
    return rng.choice([w for w in words if w != word]) if rng.random() < rate else word


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
