"""Truth of every statement of a trace, against the scene that the sample carries.

A trace is read statement by statement, each ended by ` .`. A statement outside the grammar has truth None: it is
counted, never called false. `check` is the door that `seethink traces --checker seethink.pocket.checker:check` names.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from seethink.core.nouns import Sample
from seethink.pocket.questions import LETTERS, read, right_of
from seethink.pocket.world import COLOURS, SHAPES, Scene, scene_from_json
from seethink.traces.steps import Step

_NAME = rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
_WORD = "|".join((*COLOURS, *SHAPES, "objects"))
_NUMBER = r"-?\d{1,3}"

Truth = Callable[[Sample, Scene, re.Match[str]], bool | None]


def check(sample: Sample, think: str) -> list[Step]:
    """Steps of a trace in order. Raises KeyError if the sample carries no scene."""
    scene = scene_from_json(sample.meta["scene"])
    statements = map(str.strip, re.split(r"(?:^|\s)\.(?=\s|$)", think))
    return [_step(sample, scene, text) for text in statements if text]


def _step(sample: Sample, scene: Scene, text: str) -> Step:
    for kind, (pattern, slot, truth) in _GRAMMAR.items():
        if found := pattern.fullmatch(text):
            return Step(text, truth(sample, scene, found), kind, slot.format(**found.groupdict()))
    return Step(text, None, "other", "")


def _row(_: Sample, scene: Scene, m: re.Match[str]) -> bool:
    things = scene.row(int(m["row"]))
    said = re.findall(rf"column-(\d) ({_NAME})", m["things"])
    return said == [(str(t.column), t.name) for t in things]


def _place(_: Sample, scene: Scene, m: re.Match[str]) -> bool:
    thing = scene.at(int(m["row"]), int(m["column"]))
    return thing is not None and thing.name == m["name"]


def _next(sample: Sample, scene: Scene, m: re.Match[str]) -> bool | None:
    query = read(sample.question)
    named = scene.matching(query.word) if query and query.task == "shape_right" else ()
    if len(named) != 1:
        return None
    thing = right_of(scene, named[0])
    return thing is not None and (thing.name, thing.column) == (m["name"], int(m["column"]))


def _count(_: Sample, scene: Scene, m: re.Match[str]) -> bool:
    return len(scene.matching(m["word"])) == int(m["n"])


def _found(sample: Sample, scene: Scene, m: re.Match[str]) -> bool | None:
    """Of what the question asks for; unknown where it asks for no number."""
    query = read(sample.question)
    asked = query.word if query and query.task in ("count", "subtract") else ""
    return len(scene.matching(asked)) == int(m["n"]) if asked else None


def _difference(_: Sample, __: Scene, m: re.Match[str]) -> bool:
    return int(m["a"]) - int(m["b"]) == int(m["n"])


def _form(_: Sample, scene: Scene, m: re.Match[str]) -> bool:
    return scene.curve is not None and scene.curve.form == m["form"]


def _point(_: Sample, scene: Scene, m: re.Match[str]) -> bool:
    return scene.curve is not None and scene.curve.at(int(m["x"])) == int(m["y"])


def _option(sample: Sample, _: Scene, m: re.Match[str]) -> bool:
    index = LETTERS.index(m["letter"])
    return index < len(sample.choices) and sample.choices[index] == m["word"]


_GRAMMAR: dict[str, tuple[re.Pattern[str], str, Truth]] = {
    "row": (re.compile(rf"row-(?P<row>\d)(?P<things>(?: column-\d {_NAME})+| empty)"), "row-{row}", _row),
    "place": (re.compile(rf"(?P<name>{_NAME}) at row-(?P<row>\d) column-(?P<column>\d)"), "place", _place),
    "next": (re.compile(rf"next column-(?P<column>\d) (?P<name>{_NAME})"), "next", _next),
    "count": (re.compile(rf"(?P<word>{_WORD}) : (?P<n>\d{{1,3}})"), "count {word}", _count),
    "found": (re.compile(r"found : (?P<n>\d{1,3})"), "found", _found),
    "difference": (re.compile(rf"(?P<a>{_NUMBER}) - (?P<b>{_NUMBER}) = (?P<n>{_NUMBER})"), "difference", _difference),
    "form": (re.compile(r"a (?P<form>line|parabola)"), "form", _form),
    "point": (re.compile(rf"x = (?P<x>{_NUMBER}) y = (?P<y>{_NUMBER})"), "y at {x}", _point),
    "option": (re.compile(rf"(?P<word>{_WORD}) is (?P<letter>[{LETTERS}])"), "option", _option),
}
"""Kind of statement -> (its form, what it is about, whether it is true)."""
