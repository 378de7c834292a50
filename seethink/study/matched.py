"""Was the comparison fair? Controls by hash and efforts by count, from the runs' own manifests, never from the plan.

A control is compared between the last training stages of two arms, seed by seed, and between their evaluations. Which
settings are controls follows from what a setting changes (`core.config.Effect`): those of the result are, those of manner
and place are not, and what a run reads is compared by its content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from seethink.core.config import Effect, describe, effects
from seethink.core.store import hash_json
from seethink.study.config import CONFIG_OF
from seethink.study.folder import StageRun, Study

Pairs = Sequence[tuple[StageRun | None, StageRun | None]]
UNTRAINED = "the base is untrained"
TOLERANCE = 0.02  # efforts closer than this are called matched
HELD_OUT = "board outside the data"
ASKED_AS_TAUGHT = "system prompt in training and evaluation"
SEEN_AS_TAUGHT = "pixels in training and evaluation"
PIXELS = ("min_pixels", "max_pixels")
CONTENTS = {
    "data": "the board's items", "pictures": "its pictures", "prompts": "questions and options as asked",
    "chat_template": "chat template", "model.chat_template": "chat template",
}  # fmt: skip
"""What is compared by hash, in words."""
AXES = {
    "prompts": "prompts", "rollouts": "rollouts", "optimiser steps": "optimiser_steps", "trained tokens": "tokens_trained",
    "generated tokens": "tokens_generated", "wall seconds": "seconds", "CPU seconds": "cpu_seconds",
}  # fmt: skip
"""Axis of the effort -> its name in a training run's summary."""
LOGGED = {
    "tokens_trained": ("tokens/trained", "tokens"), "tokens_generated": ("tokens/generated",), "seconds": ("seconds",),
    "cpu_seconds": ("cpu_seconds",),
}  # fmt: skip
"""Of these, what each step or round logs, and under which names; the others grow evenly."""


@dataclass(frozen=True, slots=True)
class Control:
    """One thing two arms should share."""

    name: str
    same: bool | None
    """None: not recorded, or there is nothing to compare."""
    detail: str
    """What differs, or the hash that is shared."""


@dataclass(frozen=True, slots=True)
class Effort:
    """One axis of what an arm's training cost, over its whole lineage, averaged over seeds."""

    axis: str
    value: float | None
    ratio: float | None
    """Against the reference arm."""

    @property
    def matched(self) -> bool | None:
        return None if self.ratio is None else abs(self.ratio - 1) <= TOLERANCE


def controls(study: Study, a: str, b: str) -> list[Control]:
    """What arms `a` and `b` share, checked for every seed both have."""
    left, right = study.arms[a], study.arms[b]
    both = sorted(set(left.seeds) & set(right.seeds))
    last = [arm.stages[-1] if arm.stages else "base" for arm in (left, right)]
    training = [(left.runs.get((s, last[0])), right.runs.get((s, last[1]))) for s in both]
    evals = [(left.runs[s, "eval"], right.runs[s, "eval"]) for s in both]
    if last[0] == last[1]:
        trained = [
            _control("data order", training, lambda run: run.summary.get("data_order"), "other rows, or another order"),
            _control("rewards", training, rewards),
            _control("schedule", training, schedule),
        ]
    else:
        other = UNTRAINED if "base" in last else " against ".join(last)
        trained = [Control(name, None, other) for name in ("data order", "rewards", "schedule")]
    if left.stages and right.stages:
        same = left.seeds == right.seeds
        lists = [", ".join(map(str, arm.seeds)) for arm in (left, right)]
        seeds = Control("seeds", same, lists[0] if same else " / ".join(lists))
    else:
        seeds = Control("seeds", None, UNTRAINED)
    arms = [arm for arm in (left, right) if arm.stages]
    taught = [(arm.runs.get((s, arm.stages[-1])), arm.runs[s, "eval"]) for arm in arms for s in arm.seeds]
    asked = [*(training if "base" not in last else ()), *evals]
    return [
        *trained,
        seeds,
        _control("system prompt", asked, system),
        _control("pixels", asked, lambda run: pixels(study, run)),
        _control("evaluation prompts", evals, prompts),
        _control(ASKED_AS_TAUGHT, taught, system),
        _control(SEEN_AS_TAUGHT, taught, lambda run: pixels(study, run)),
        _control("decoding", evals, decoding),
    ]


def held_out(study: Study, a: str, b: str) -> list[Control]:
    """Whether the board's items are new to two arms; nothing where no data set can be read."""
    names: set[str] = set()
    for arm in (a, b):
        while arm in study.arms and study.arms[arm].stages:
            spec = study.plan["arms"][arm]
            names |= {spec.get("data", ""), *filter(None, [spec.get("demos", "")])}
            arm = study.arms[arm].start
    known = {name: study.board_in_data[name] for name in sorted(names & study.board_in_data.keys())}
    if not study.board_in_data:
        return []
    if any(known.values()):
        seen = ", ".join(f"{n} items in {name}" for name, n in known.items() if n)
        return [Control(HELD_OUT, False, seen)]
    return [
        Control(HELD_OUT, True if set(known) == names else None, "no item" if set(known) == names else "not recorded")
    ]


def schedule(run: StageRun) -> dict[str, Any]:
    """Every setting that decides how a run learns: rates, steps, batches, group, clipping, KL, what is frozen; and by content
    what it reads beside its rows: template, teacher, demonstrations."""
    inputs = run.manifest["inputs"]
    read = {name: inputs[name] for name in ("model.chat_template", "teacher", "demos.data") if inputs.get(name)}
    own = _settings(run, lambda key: not key.startswith("reward.") and key.removeprefix("model.") not in PIXELS)
    return own | read


def system(run: StageRun) -> str | None:
    """The system prompt of a training run, or of an evaluation; None where it was not recorded."""
    inputs = run.manifest["inputs"]
    return inputs.get("model.system", inputs.get("system", run.config.get("system")))


def pixels(study: Study, run: StageRun) -> dict[str, Any]:
    """How small and how large pictures may be. A model that was trained within bounds keeps them until a run names others."""
    before = study.lineage(run.arm, run.seed)
    before = before if run not in before else before[: before.index(run)]
    given = [dict(_flat(one.config)) for one in (run, *reversed(before))]
    return {
        name: next(
            (v for one in given if (v := one.get(f"model.{name}", one.get(name))) is not None), "the model's own"
        )
        for name in PIXELS
    }


def rewards(run: StageRun) -> dict[str, Any] | None:
    """None for a run without any."""
    found = _settings(run, lambda key: key.startswith("reward."))
    return {key.removeprefix("reward."): value for key, value in found.items()} or None


def prompts(run: StageRun) -> dict[str, Any]:
    """What an evaluation asked: board, pictures and prompts by content, and how many rows of the board."""
    inputs = run.manifest["inputs"]
    asked = {key: inputs.get(key) for key in ("pictures", "prompts", "chat_template")}
    asked["data"] = inputs.get("data", inputs.get("board"))  # its name of before
    return {**asked, "limit": run.config.get("limit")}


def decoding(run: StageRun) -> dict[str, Any]:
    """How an evaluation drew its answers."""
    return _settings(run, lambda key: key not in ("limit", *PIXELS) and not key.startswith("reward."))


def efforts(study: Study, arm: str, reference: str) -> list[Effort]:
    """What the training of an arm cost, axis by axis, against a reference arm."""

    def spent(name: str, key: str) -> float | None:
        """Sum over an arm's lineage, averaged over seeds; None where any stage did not record it."""
        behind = [[_up_to(run, key, at) for run, at in _stages(study, name, seed)] for seed in study.arms[name].seeds]
        sums = [sum(v for v in values if v is not None) for values in behind if None not in values]
        return fmean(sums) if behind and len(sums) == len(behind) and all(behind) else None

    values = {axis: (spent(arm, key), spent(reference, key)) for axis, key in AXES.items()}
    return [Effort(axis, v, v / base if v is not None and base else None) for axis, (v, base) in values.items()]


def _stages(study: Study, arm: str, seed: int) -> list[tuple[StageRun, int]]:
    """(training run, step or round up to which it counts; 0: all of it) behind an arm's model."""
    runs = study.lineage(arm, seed)
    ends = [int(study.plan["arms"][run.arm].get("at") or 0) for run in runs[1:]]
    return list(zip(runs, [*ends, 0], strict=True)) if runs else []


def _up_to(run: StageRun, key: str, at: int) -> float | None:
    """What a run spent by a step or round (0: in all); None where it was not recorded."""
    if not at:
        return run.number(key)
    if key in LOGGED:
        logged = next((curve for name in LOGGED[key] if (curve := run.curve(name))), None)
        if logged is None:
            return 0.0 if run.number(key) == 0 else None
        return sum(value for step, value in logged if step <= at)
    steps = run.number("rounds") if run.name == "grpo" else run.number("optimiser_steps")
    total = run.number(key)
    return None if not steps or total is None else total * at / steps


def _settings(run: StageRun, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The wanted settings of the result, by dotted key; a key of older code that no model knows counts as one."""
    known = effects(CONFIG_OF[run.name.partition("-")[0]])

    def effect(key: str) -> Effect:
        """Of the setting that holds this key: a table's keys share its mark."""
        while key and key not in known:
            key = key.rpartition(".")[0]
        return known.get(key, Effect.RESULT)

    return {k: v for k, v in _flat(run.config) if wanted(k) and effect(k) in (Effect.RESULT, Effect.CODE)}


def _control(name: str, pairs: Pairs, read: Callable[[StageRun], Any], otherwise: str = "") -> Control:
    """Same in every seed, or what differs in the first seed where it does; `otherwise` says what another hash means."""
    runs = [(x, y) for x, y in pairs if x and y]
    both = [(read(x), read(y)) for x, y in runs]
    if not both or any(x is None or y is None for x, y in both):
        return Control(name, None, "not recorded")
    for (run, _), (x, y) in zip(runs, both, strict=True):
        if isinstance(x, dict) and x != y:
            keys = sorted(key for key in x.keys() | y.keys() if x.get(key) != y.get(key))
            known = _words(run.name.partition("-")[0])
            told = [f"{k} {x.get(k)} / {y.get(k)}" + (f" ({known[k]})" if known.get(k) else "") for k in keys]
            return Control(name, False, ", ".join(told))
        if x != y:
            return Control(name, False, f"{otherwise} ({x} / {y})" if otherwise else f"{x} / {y}")
    return Control(name, True, hash_json([x for x, _ in both])[:8])


@cache
def _words(verb: str) -> dict[str, str]:
    """Dotted key of a setting, also without the table it stands in -> what it is: the first words of its description."""
    fields = describe(CONFIG_OF[verb])
    words = {key: re.split(r"[:;,(]", text)[0].strip() for key, (_, _, text) in fields}
    return {**{key.partition(".")[2]: text for key, text in words.items() if "." in key}, **words, **CONTENTS}


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
