"""Was the comparison fair? Controls by hash and efforts by count, from the runs' own manifests, never from the plan.

A control is compared between the last training stages of two arms, seed by seed, and between their evaluations. Which
settings are controls follows from what a setting changes (`core.config.Effect`): those of the result are, those of manner
and place are not, and what a run reads is compared by its content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from seethink.core.config import Effect, effects
from seethink.core.store import hash_json
from seethink.study.config import CONFIG_OF
from seethink.study.folder import StageRun, Study

Pairs = Sequence[tuple[StageRun | None, StageRun | None]]
UNTRAINED = "the base is untrained"
TOLERANCE = 0.02  # efforts closer than this are called matched
HELD_OUT = "board outside the data"
ASKED_AS_TAUGHT = "system prompt in training and evaluation"
AXES = {
    "prompts": "prompts", "rollouts": "rollouts", "optimiser steps": "optimiser_steps", "trained tokens": "tokens_trained",
    "generated tokens": "tokens_generated", "wall seconds": "seconds", "CPU seconds": "cpu_seconds",
}  # fmt: skip
"""Axis of the effort -> its name in a training run's summary."""


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
            _control("data order", training, lambda run: run.summary.get("data_order")),
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
    return [
        *trained,
        seeds,
        _control("evaluation prompts", evals, prompts),
        _control(ASKED_AS_TAUGHT, taught, system),
        _control("decoding", evals, decoding),
    ]


def held_out(study: Study, a: str, b: str) -> list[Control]:
    """Whether the board's items are new to two arms; nothing where no data set can be read."""
    names: set[str] = set()
    for arm in (a, b):
        while arm in study.arms and study.arms[arm].stages:
            names.add(study.plan["arms"][arm].get("data", ""))
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
    """Every setting that decides how a run learns: rates, steps, batches, group, clipping, KL, what is frozen."""
    inputs = run.manifest["inputs"]
    asked = {key: inputs[f"model.{key}"] for key in ("system", "chat_template") if inputs.get(f"model.{key}")}
    return {**_settings(run, lambda key: not key.startswith("reward.")), **asked}


def system(run: StageRun) -> str | None:
    """The system prompt of a training run, or of an evaluation; None where it was not recorded."""
    inputs = run.manifest["inputs"]
    return inputs.get("model.system", inputs.get("system", run.config.get("system")))


def rewards(run: StageRun) -> dict[str, Any] | None:
    """None for a run without any."""
    found = _settings(run, lambda key: key.startswith("reward."))
    return {key.removeprefix("reward."): value for key, value in found.items()} or None


def prompts(run: StageRun) -> dict[str, Any]:
    """What an evaluation asked: board, pictures and prompts by content, and how many rows of the board."""
    inputs = run.manifest["inputs"]
    asked = {key: inputs.get(key) for key in ("pictures", "prompts", "chat_template")}
    asked["data"] = inputs.get("data", inputs.get("board"))  # its name of before
    return {**asked, "system": inputs.get("system", run.config.get("system")), "limit": run.config.get("limit")}


def decoding(run: StageRun) -> dict[str, Any]:
    """How an evaluation drew its answers."""
    return _settings(run, lambda key: key != "limit" and not key.startswith("reward."))


def efforts(study: Study, arm: str, reference: str) -> list[Effort]:
    """What the training of an arm cost, axis by axis, against a reference arm."""

    def spent(name: str, key: str) -> float | None:
        """Sum over an arm's lineage, averaged over seeds; None where any stage did not record it."""
        runs = [study.lineage(name, seed) for seed in study.arms[name].seeds]
        behind: list[list[Any]] = [[run.number(key) for run in stages] for stages in runs]
        known = behind and all(values and None not in values for values in behind)
        return fmean(sum(values) for values in behind) if known else None

    values = {axis: (spent(arm, key), spent(reference, key)) for axis, key in AXES.items()}
    return [Effort(axis, v, v / base if v is not None and base else None) for axis, (v, base) in values.items()]


def _settings(run: StageRun, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The wanted settings of the result, by dotted key; a key of older code that no model knows counts as one."""
    known = effects(CONFIG_OF[run.name.partition("-")[0]])

    def effect(key: str) -> Effect:
        """Of the setting that holds this key: a table's keys share its mark."""
        while key and key not in known:
            key = key.rpartition(".")[0]
        return known.get(key, Effect.RESULT)

    return {k: v for k, v in _flat(run.config) if wanted(k) and effect(k) is Effect.RESULT}


def _control(name: str, pairs: Pairs, read: Callable[[StageRun], Any]) -> Control:
    """Same in every seed, or what differs in the first seed where it does."""
    both = [(read(x), read(y)) for x, y in pairs if x and y]
    if not both or any(x is None or y is None for x, y in both):
        return Control(name, None, "not recorded")
    for x, y in both:
        if isinstance(x, dict) and x != y:
            keys = sorted(key for key in x.keys() | y.keys() if x.get(key) != y.get(key))
            return Control(name, False, ", ".join(f"{key} {x.get(key)} / {y.get(key)}" for key in keys))
        if x != y:
            return Control(name, False, f"{x} / {y}")
    return Control(name, True, hash_json([x for x, _ in both])[:8])


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
