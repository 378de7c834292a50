"""Scenes of the pocket world: things on a 4 x 4 grid, or one curve on axes, in a 112 x 112 picture.

A cell is 28 pixels, one image token of the model. Positions sit on a 4-pixel lattice, so every box edge is a multiple
of 4 and can be a word. Everything is a pure function of the random generator passed in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import Any

SIZE, CELL, LATTICE = 112, 28, 4
GRID = SIZE // CELL
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "cross")
RADII = (8, 10, 12)
HEIGHT = 4
"""Axes reach from minus this to this; so do a curve's heights at x = 0 and x = 1."""
UNSEEN = frozenset({("purple", "circle"), ("orange", "square"), ("green", "triangle"), ("blue", "cross")})
"""Pairs that no training scene shows; the out-of-distribution part does."""
UNSEEN_CURVES = frozenset({(2, 1), (-1, 2), (1, -3), (-2, -1)})
"""(a, b) of curves that no training scene shows, though none is harder than those that do; the part `unseen` asks for them."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. Rows and columns count from 1, top and left first; box is (x1, y1, x2, y2) in pixels."""

    colour: str
    shape: str
    row: int
    column: int
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Curve:
    """y = a x + b (form "line") or y = a x^2 + b (form "parabola") on axes from -4 to 4."""

    form: str
    a: int
    b: int
    colour: str

    def at(self, x: float) -> float:
        return self.a * (x if self.form == "line" else x * x) + self.b

    @property
    def equation(self) -> str:
        """For example `y = -2x + 1`."""
        factor = {1: "", -1: "-"}.get(self.a, str(self.a))
        term = factor + ("x" if self.form == "line" else "x^2")
        return f"y = {term}" + (f" {'+' if self.b > 0 else '-'} {abs(self.b)}" if self.b else "")


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in reading order; or a curve, with one thing beside it so that no two pictures are alike."""

    things: tuple[Thing, ...] = ()
    curve: Curve | None = None

    def row(self, row: int) -> tuple[Thing, ...]:
        return tuple(t for t in self.things if t.row == row)

    def matching(self, word: str) -> tuple[Thing, ...]:
        """Things of that colour, shape or "colour shape"; all of them for "objects"."""
        if word == "objects":
            return self.things
        return tuple(t for t in self.things if word in (t.colour, t.shape, t.name))

    def at(self, row: int, column: int) -> Thing | None:
        return next((t for t in self.things if (t.row, t.column) == (row, column)), None)


@dataclass(frozen=True, slots=True)
class Hardness:
    """How hard scenes are: fewest and most things, whether unseen pairs occur, and bounds on |a| + |b|, |a| and |b| of curves;
    whether these, and the wording of the question, are ones that training never shows; whose curves are left out."""

    things: tuple[int, int]
    unseen_pairs: bool
    coefficients: tuple[int, int]
    unseen: bool = False
    steepest: int = 3
    highest: int = 3
    but: Hardness | None = None

    def fits(self, curve: Curve) -> bool:
        """Whether such a curve may be drawn."""
        a, b = abs(curve.a), abs(curve.b)
        least, most = self.coefficients
        inside = a <= self.steepest and b <= self.highest and least <= a + b <= most and abs(curve.at(1)) <= HEIGHT
        known = ((curve.a, curve.b) in UNSEEN_CURVES) == self.unseen
        return inside and known and not (self.but and self.but.fits(curve))


IID = Hardness((3, 6), False, (0, 4))
OOD = Hardness((7, 9), True, (5, 6))
UNSEEN_AS_HARD = Hardness(IID.things, False, IID.coefficients, unseen=True)
"""As hard as training, but other curves and other words."""
LESSONS = Hardness(IID.things, False, (0, 10), steepest=6, highest=4, but=OOD)
"""Pretraining: all curves that fit the axes but those held out. Shown those of the pools alone, it learns them by heart."""
SMALL = Hardness((2, 3), False, IID.coefficients)
"""The first lessons of pretraining."""


def draw_things(rng: Random, hardness: Hardness = IID) -> Scene:
    """A scene of things. Few colours and shapes each, so that there is something to count."""
    colours, shapes = rng.sample(COLOURS, 3), rng.sample(SHAPES, 3)
    pairs = [(c, s) for c in colours for s in shapes if hardness.unseen_pairs or (c, s) not in UNSEEN]
    count = rng.randint(*hardness.things)
    cells = sorted(rng.sample(range(GRID * GRID), count))
    chosen = [rng.choice(pairs) for _ in cells]
    if hardness.unseen_pairs:
        unseen = [p for p in UNSEEN if p[0] in colours]
        chosen[rng.randrange(count)] = rng.choice(sorted(unseen)) if unseen else rng.choice(sorted(UNSEEN))
    return Scene(tuple(_thing(rng, cell, *pair) for cell, pair in zip(cells, chosen, strict=True)))


def draw_curve(rng: Random, hardness: Hardness = IID) -> Scene:
    """A scene with a line, or a parabola one time in four; its points at x = 0 and x = 1 are in the picture."""
    pairs = [(c, s) for c in COLOURS for s in SHAPES if hardness.unseen_pairs or (c, s) not in UNSEEN]
    beside = _thing(rng, rng.randrange(GRID * GRID), *rng.choice(pairs))
    slopes = [a for a in range(-hardness.steepest, hardness.steepest + 1) if a]
    while True:
        form = "parabola" if rng.random() < 0.25 else "line"
        curve = Curve(form, rng.choice(slopes), rng.randint(-hardness.highest, hardness.highest), rng.choice(COLOURS))
        if hardness.fits(curve):
            return Scene((beside,), curve)


def _thing(rng: Random, cell: int, colour: str, shape: str) -> Thing:
    row, column = divmod(cell, GRID)
    radius = rng.choice(RADII)
    steps = (CELL - 2 * radius) // LATTICE
    x = column * CELL + LATTICE * rng.randint(0, steps)
    y = row * CELL + LATTICE * rng.randint(0, steps)
    return Thing(colour, shape, row + 1, column + 1, (x, y, x + 2 * radius, y + 2 * radius))


def scene_to_json(scene: Scene) -> dict[str, Any]:
    """What a sample carries in meta["scene"]."""
    value: dict[str, Any] = {"things": [{**asdict(t), "box": list(t.box)} for t in scene.things]}
    return {**value, "curve": asdict(scene.curve)} if scene.curve else value


def scene_from_json(value: dict[str, Any]) -> Scene:
    curve = Curve(**value["curve"]) if value.get("curve") else None
    return Scene(tuple(Thing(**{**t, "box": tuple(t["box"])}) for t in value["things"]), curve)
