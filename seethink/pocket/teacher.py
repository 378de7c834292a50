"""The simulated R1-like reasoner: writes a trace from caption and question alone. SIMULATED: rules, no language model.

A plan is the shortest list of true statements that leads to the answer. A persona decides what is woven around it:
hesitation, false starts that are corrected, false statements left standing, wrong answers. Style and error are knobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from seethink.core.nouns import Sample
from seethink.pocket.captions import misread
from seethink.pocket.checker import check
from seethink.pocket.questions import KIND_OF_TASK, LETTERS, Query, answer, looks, neighbour, phrase, sections, subject
from seethink.pocket.world import COLOURS, GRID, SHAPES, Scene, Thing, scene_to_json


@dataclass(frozen=True, slots=True)
class Persona:
    """Rates are per statement of the plan, except `leak` and `wrong_answer` (per trace)."""

    hesitation: float = 0.0
    """Doubting words before a statement."""
    recheck: float = 0.0
    """A statement is said again after doubting it."""
    detour: float = 0.0
    """A false statement comes first."""
    uncorrected: float = 0.0
    """Share of detours that are left standing instead of being corrected."""
    leak: float = 0.3
    """A remark about "the caption", which the rewriter has to turn into "the image"."""
    wrong_answer: float = 0.04
    """The final answer is wrong, so that verification has something to find."""
    glance: float = 0.0
    """Share of counts and equations answered at a glance: of the plan only the number, or the form of the curve."""
    misread: float = 0.0
    """Facts of the caption that are told wrongly, each at this rate: the trace is true of another picture."""
    words: int = 60
    """No more hesitation once a trace has this many words."""


PERSONAS = {
    "pocket-r1-concise": Persona(),
    "pocket-r1-careful": Persona(hesitation=0.7, recheck=0.3),
    "pocket-r1-corrected": Persona(hesitation=0.7, recheck=0.15, detour=0.35),
    "pocket-r1-hesitant": Persona(hesitation=0.7, recheck=0.15, detour=0.35, uncorrected=0.25),
    "pocket-r1-false": Persona(detour=0.35, uncorrected=1.0),
    "pocket-r1-ungrounded": Persona(misread=0.15),
    "pocket-r1-glance": Persona(glance=1.0),
}
"""Simulated teachers by model name. Style and truth vary apart: concise (plain, true); careful (doubts, never false);
corrected (doubts, every false statement corrected); hesitant (doubts, a quarter of them left standing); false (plain, all of
them left standing); ungrounded (plain, from a caption that is partly wrong); glance (plain, true, without working it out)."""


WORKED_OUT = ("count", "subtract", "equation")
"""Tasks whose plan has steps that a hasty answer leaves out."""


def reason(scene: Scene, query: Query, persona: Persona, rng: Random) -> tuple[str, str]:
    """(think, answer) for a question that the scene can answer."""
    scene = misread(scene, query, persona.misread, rng) if persona.misread else scene
    sample = _as_sample(scene, query)
    parts: list[str] = []
    if rng.random() < persona.leak:
        parts.append(rng.choice(sections("fillers")["leak"]))
    elif rng.random() < 0.3:
        parts.append(rng.choice(sections("fillers")["neutral"]))
    statements = plan(scene, query)
    if query.task in WORKED_OUT and rng.random() < persona.glance:
        statements = statements[:1] if query.task == "equation" else statements[-1:]
    for statement in statements:
        parts += _say(statement, sample, persona, rng, room=persona.words - len(" ".join(parts).split()))
    gold = answer(scene, query)
    return " ".join(parts), wrong_answer(gold, query, rng) if rng.random() < persona.wrong_answer else gold


def plan(scene: Scene, query: Query) -> list[str]:
    """True statements, without their full stop, that lead to the answer."""
    if query.task in ("count", "subtract"):
        total, found = len(scene.things), len(scene.matching(query.word))
        counts = [f"found : {found}"]  # not the asked word: that it stands here twice would blur how many there are
        if query.task == "subtract":
            counts = [f"objects : {total}", *counts, f"{total} - {found} = {total - found}"]
        return [row_statement(scene, row) for row in range(1, GRID + 1)] + counts
    if query.task == "arithmetic":
        first, second = query.cell
        return [f"{first} - {second} = {first - second}"]
    if query.task in ("colour_at", "shape_at"):
        thing = subject(scene, query)
        return [_place(thing), _option(looks(thing, query), query)]
    if query.task == "shape_right":
        thing = neighbour(scene, query)
        following = f"next column-{thing.column} {thing.name}"
        return [_place(subject(scene, query)), following, _option(thing.shape, query)]
    if query.task == "equation" and scene.curve:
        first, second = scene.curve.at(0), scene.curve.at(1)
        points = [f"x = 0 y = {first}", f"x = 1 y = {second}"]
        return [f"a {scene.curve.form}", *points, f"{second} - {first} = {second - first}"]
    if query.task == "where":
        return [_place(subject(scene, query))]
    return [row_statement(scene, query.cell[0])]


def row_statement(scene: Scene, row: int) -> str:
    """`row-2 column-1 red circle column-3 blue square`, or `row-2 empty`."""
    things = [f"column-{t.column} {t.name}" for t in scene.row(row)]
    return " ".join([f"row-{row}", *(things or ["empty"])])


def distort(statement: str, sample: Sample, rng: Random) -> str | None:
    """The statement with one word replaced by another of its class so that it is false; None where that fails."""
    words = statement.split()
    places = [i for i, word in enumerate(words) if i > 0 and (_others(word) and not word.lstrip("-").isdigit())]
    if words[-1].lstrip("-").isdigit():
        places = [len(words) - 1]
    for _ in range(8 if places else 0):
        i = rng.choice(places)
        false = " ".join([*words[:i], rng.choice(_others(words[i])), *words[i + 1 :]])
        if check(sample, false)[0].truth is False:
            return false
    return None


def wrong_answer(gold: str, query: Query, rng: Random) -> str:
    """Another answer of the same form: one word of the right one replaced by another of its class."""
    words = gold.split()
    places = [i for i, word in enumerate(words) if _others(word)]
    if KIND_OF_TASK[query.task] == "box" or not places:
        return "(0, 0),( 16, 16)" if gold != "(0, 0),( 16, 16)" else "(4, 0),( 20, 16)"
    i = rng.choice(places)
    return " ".join([*words[:i], rng.choice(_others(words[i])), *words[i + 1 :]])


def _say(statement: str, sample: Sample, persona: Persona, rng: Random, room: int) -> list[str]:
    """A statement with what the persona weaves around it; plain when there is no room left."""
    parts, fillers = [], sections("fillers")
    if room > 0 and rng.random() < persona.hesitation:
        parts.append(rng.choice(fillers["doubt"]))
    if room > 0 and rng.random() < persona.detour and (false := distort(statement, sample, rng)):
        parts.append(f"{false} .")
        if rng.random() < persona.uncorrected:
            return parts
        parts.append(rng.choice(fillers["fix"]))
    parts.append(f"{statement} .")
    if room > 0 and rng.random() < persona.recheck:
        parts += [rng.choice(fillers["recheck"]), f"{statement} ."]
    return parts


def _others(word: str) -> list[str]:
    """Other words of the same class; nearby numbers for a number."""
    if word.lstrip("-").isdigit():
        return [str(n) for d in (-2, -1, 1, 2) if (n := int(word) + d) >= (0 if int(word) >= 0 else -9)]
    for words in _CLASSES:
        if word in words:
            return [w for w in words if w != word]
    return []


def _place(thing: Thing) -> str:
    return f"{thing.name} at row-{thing.row} column-{thing.column}"


def _option(word: str, query: Query) -> str:
    return f"{word} is {LETTERS[query.choices.index(word)]}"


def _as_sample(scene: Scene, query: Query) -> Sample:
    """What the checker needs, rebuilt from what the reasoner was told."""
    kind = KIND_OF_TASK[query.task]
    return Sample("", "", (), phrase(query, Random(0)), "", kind, query.choices, meta={"scene": scene_to_json(scene)})


_CLASSES = (
    COLOURS,
    SHAPES,
    tuple(f"row-{n}" for n in range(1, GRID + 1)),
    tuple(f"column-{n}" for n in range(1, GRID + 1)),
    tuple(LETTERS),
    ("line", "parabola"),
    ("x", "-x", "2x", "-2x"),
    ("x^2", "-x^2"),
)
