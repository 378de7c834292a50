"""Questions about scenes: drawn, phrased, read back from their text, and answered from a scene.

Reading a question back from its text is what lets the simulated teacher work from the prompt alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

from seethink.core.nouns import Kind
from seethink.pocket.world import COLOURS, HEIGHT, SHAPES, Scene, Thing

LETTERS = "ABCD"
PLURALS = {word: word + ("es" if word.endswith("s") else "s") for word in (*COLOURS, *SHAPES)}
"""What a question counts: reds, crosses. Words of their own, so that the asked word is never taken for a seen one."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question as data. `task` is a section of prompts/questions.txt; `word` what it asks about ("red", "circle",
    "blue cross", "objects"); `cell` a (row, column), of arithmetic its two numbers; `choices` the options."""

    task: str
    word: str = ""
    cell: tuple[int, int] = (0, 0)
    choices: tuple[str, ...] = ()


KIND_OF_TASK: dict[str, Kind] = {
    "count": "digit",
    "subtract": "digit",
    "colour_at": "choice",
    "shape_right": "choice",
    "equation": "math",
    "where": "box",
    "describe": "open",
    "arithmetic": "math",
    "shape_at": "choice",
}
OLD_TASKS = ("arithmetic", "shape_at")
"""What the base has learned and no pool asks for: whoever trains on the pools may forget it."""
TASKS_OF_KIND = {
    kind: tuple(t for t, k in KIND_OF_TASK.items() if k == kind and t not in OLD_TASKS)
    for kind in dict.fromkeys(KIND_OF_TASK.values())
}
"""The kinds that the pools ask, in the order in which they take turns."""


def ask(scene: Scene, task: str, rng: Random) -> Query | None:
    """A question of that task which the scene can answer, or None."""
    if task == "equation":
        return Query(task) if scene.curve else None
    if task == "arithmetic":
        return Query(task, cell=(rng.randint(-HEIGHT, HEIGHT), rng.randint(-HEIGHT, HEIGHT)))
    if scene.curve or not scene.things:
        return None
    thing = rng.choice(scene.things)
    if task in ("count", "subtract"):
        return Query(task, rng.choice((thing.colour, thing.shape)))
    if task in ("colour_at", "shape_at"):
        right, words = (thing.colour, COLOURS) if task == "colour_at" else (thing.shape, SHAPES)
        return Query(task, cell=(thing.row, thing.column), choices=_options(right, words, rng))
    if task == "shape_right":
        pairs = [(t, n) for t in scene.things if (n := right_of(scene, t)) and len(scene.matching(t.name)) == 1]
        if not pairs:
            return None
        thing, beside = rng.choice(pairs)
        return Query(task, thing.name, choices=_options(beside.shape, SHAPES, rng))
    if task == "where":
        words = [w for t in scene.things for w in (t.colour, t.shape, t.name) if len(scene.matching(w)) == 1]
        return Query(task, rng.choice(words)) if words else None
    rows = [t.row for t in scene.things]  # rows with more things are asked for more often
    return Query("describe", cell=(rng.choice(rows), 0))


def answerable(scene: Scene, query: Query) -> bool:
    """Whether the scene holds what the question refers to, once and only once where it names one thing."""
    if query.task == "equation":
        return scene.curve is not None
    if query.task in ("colour_at", "shape_at"):
        thing = scene.at(*query.cell)
        return thing is not None and looks(thing, query) in query.choices
    if query.task in ("where", "shape_right"):
        named = scene.matching(query.word)
        if len(named) != 1 or query.task == "where":
            return len(named) == 1
        beside = right_of(scene, named[0])
        return beside is not None and beside.shape in query.choices
    return query.task in ("count", "subtract", "arithmetic") or bool(scene.row(query.cell[0]))


def answer(scene: Scene, query: Query) -> str:
    """The gold answer. Only for a question that is `answerable`."""
    if query.task == "count":
        return str(len(scene.matching(query.word)))
    if query.task == "subtract":
        return str(len(scene.things) - len(scene.matching(query.word)))
    if query.task == "arithmetic":
        return str(query.cell[0] - query.cell[1])
    if query.task in ("colour_at", "shape_at"):
        return LETTERS[query.choices.index(looks(subject(scene, query), query))]
    if query.task == "shape_right":
        return LETTERS[query.choices.index(neighbour(scene, query).shape)]
    if query.task == "equation" and scene.curve:
        return scene.curve.equation
    if query.task == "where":
        return box_text(subject(scene, query))
    return " ".join(t.name for t in scene.row(query.cell[0]))


def subject(scene: Scene, query: Query) -> Thing:
    """The thing that an answerable question names, by its cell or by its looks."""
    return scene.at(*query.cell) or scene.matching(query.word)[0]


def looks(thing: Thing, query: Query) -> str:
    """What a question about one cell asks of the thing that lies there."""
    return thing.colour if query.task == "colour_at" else thing.shape


def neighbour(scene: Scene, query: Query) -> Thing:
    """The thing right of it, in an answerable question that asks for one."""
    thing = right_of(scene, subject(scene, query))
    assert thing
    return thing


def box_text(thing: Thing) -> str:
    """Four words, one per edge, in the order of Qwen boxes: `(28, 36),( 52, 60)`."""
    return "({}, {}),( {}, {})".format(*thing.box)


def right_of(scene: Scene, thing: Thing) -> Thing | None:
    """The next thing to the right in the same row."""
    return next((t for t in scene.row(thing.row) if t.column > thing.column), None)


def phrase(query: Query, rng: Random, unseen: bool = False) -> str:
    """The question as text, in one of the wordings of its task; an `unseen` one is in no lesson and in no pool."""
    word, (row, column) = query.word, query.cell
    if query.task in ("count", "subtract"):
        word = PLURALS[word]
    elif query.task == "where" and word in COLOURS:
        word = f"{word} object"
    text = rng.choice(sections("unseen" if unseen else "questions")[query.task])
    if query.task == "arithmetic":
        return text.format(row=row, column=column)
    text = text.format(word=word, row=f"row-{row}", column=f"column-{column}")
    options = " ".join(f"{letter}) {choice}" for letter, choice in zip(LETTERS, query.choices, strict=False))
    return f"{text} {options}".strip()


def read(text: str) -> Query | None:
    """The first question found in a text, or None. Inverse of `phrase`."""
    hits = [(m.start(), task, m) for task, pattern in _patterns() if (m := pattern.search(text))]
    if not hits:
        return None
    start, task, match = min(hits, key=lambda hit: hit[0])
    found = match.groupdict()
    options = re.match(r"\s*A\) (\w+) B\) (\w+) C\) (\w+) D\) (\w+)", text[match.end() :])
    cell = (int(found["row"]) if found.get("row") else 0, int(found["column"]) if found.get("column") else 0)
    words = (found.get("word") or "").removesuffix(" object")
    word = next((one for one, plural in PLURALS.items() if plural == words), words)
    return Query(task, word, cell, options.groups() if options else ())


@cache
def sections(name: str) -> dict[str, list[str]]:
    """Lines of prompts/<name>.txt by section: a `# section` line, then one wording a line."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (files("seethink.pocket") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = found.setdefault(line[2:], [])
        elif line:
            lines.append(line)
    return found


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """(task, pattern) of every wording; a pattern ends where the options begin."""
    places = {"row": r"row-(?P<row>\d)", "column": r"column-(?P<column>\d)"}
    numbers = {"row": r"(?P<row>-?\d)", "column": r"(?P<column>-?\d)"}
    slots = {"word": r"(?P<word>[a-z]+(?: [a-z]+)?)"}
    of = {task: slots | (numbers if task == "arithmetic" else places) for task in sections("questions")}
    known = [
        (task, text) for name in ("questions", "unseen") for task, texts in sections(name).items() for text in texts
    ]
    return [
        (task, re.compile(re.sub(r"\\{(\w+)\\}", lambda m, t=task: of[t][m.group(1)], re.escape(template))))
        for task, template in known
    ]


def _options(right: str, words: tuple[str, ...], rng: Random) -> tuple[str, ...]:
    others = rng.sample([w for w in words if w != right], len(LETTERS) - 1)
    return tuple(rng.sample([right, *others], len(LETTERS)))
