"""Was the comparison fair? Controls by hash and budgets by count, from the runs' own manifests, never from the plan.

A control is compared between the last training stages of two arms, seed by seed, and between their evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from seethink.core.store import hash_json
from seethink.study.folder import Arm, StageRun, Study

# Settings that say where a run stands or how it is computed, not what it learns from or how.
NOT_A_CONTROL = {
    "out", "seed", "data", "model.path", "overwrite", "save_every", "micro_tokens", "rollout_prompts", "batch", "reward",
}  # fmt: skip
DECODING = ("temperature", "max_tokens", "dtype", "base_url", "seed")
UNTRAINED = "the base is untrained"
TOLERANCE = 0.02  # budgets closer than this are called matched
AXES = {
    "prompts": "prompts", "rollouts": "rollouts", "optimiser steps": "optimiser_steps", "trained tokens": "tokens_trained",
    "generated tokens": "tokens_generated", "wall seconds": "seconds", "CPU seconds": "cpu_seconds",
}  # fmt: skip
"""Axis of the budget -> its name in a training run's summary."""


@dataclass(frozen=True, slots=True)
class Control:
    """One thing two arms should share."""

    name: str
    same: bool | None
    """None: not recorded, or there is nothing to compare."""
    detail: str
    """What differs, or the hash that is shared."""


@dataclass(frozen=True, slots=True)
class Budget:
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
    seeds = sorted(set(left.seeds) & set(right.seeds))
    stages = (left.stages[-1:] or ("none",))[0], (right.stages[-1:] or ("none",))[0]
    training = [(left.runs.get((s, stages[0])), right.runs.get((s, stages[1]))) for s in seeds]
    evals = [(left.runs.get((s, "eval")), right.runs.get((s, "eval"))) for s in seeds]
    if stages[0] != stages[1]:
        other = UNTRAINED if "none" in stages else f"{stages[0]} against {stages[1]}"
        trained = [Control(name, None, other) for name in ("data order", "rewards", "schedule")]
    else:
        trained = [
            _control("data order", training, lambda run: run.summary.get("data_order")),
            _control("rewards", training, lambda run: run.config.get("reward")),
            _control("schedule", training, schedule),
        ]
    return [
        *trained,
        _seeds(left, right),
        _control("evaluation prompts", evals, prompts_of),
        _control("decoding", evals, lambda run: _pick(run, DECODING)),
    ]


def schedule(run: StageRun) -> dict[str, Any]:
    """Every setting that decides how a run learns: rates, steps, batches, group, clipping, KL, what is frozen."""
    return {
        key: value
        for key, value in _flat(run.config)
        if key not in NOT_A_CONTROL and key.split(".")[0] not in NOT_A_CONTROL
    }


def prompts_of(run: StageRun) -> dict[str, Any]:
    """What an evaluation asked: board and system prompt by hash where the run recorded them."""
    recorded = {key: run.manifest["inputs"].get(key) for key in ("board", "system")}
    return {**_pick(run, ("system", "limit")), **{key: value for key, value in recorded.items() if value is not None}}


def budgets(study: Study, arm: str, reference: str) -> list[Budget]:
    """What the training of an arm cost, axis by axis, against a reference arm."""
    rows = []
    for axis, key in AXES.items():
        value, base = spent(study, arm, key), spent(study, reference, key)
        rows.append(Budget(axis, value, value / base if value is not None and base else None))
    return rows


def spent(study: Study, arm: str, key: str) -> float | None:
    """Sum of a summary value over an arm's lineage, averaged over seeds; None where any stage did not record it."""
    totals = []
    for seed in study.arms[arm].seeds:
        values = [run.summary.get(key) for run in study.lineage(arm, seed)]
        if not values or None in values:
            return None
        totals.append(sum(values))
    return fmean(totals) if totals else None


def _seeds(left: Arm, right: Arm) -> Control:
    if not (left.stages and right.stages):
        return Control("seeds", None, UNTRAINED)
    same = left.seeds == right.seeds
    return Control("seeds", same, _list(left.seeds) if same else f"{_list(left.seeds)} / {_list(right.seeds)}")


def _control(
    name: str, pairs: list[tuple[StageRun | None, StageRun | None]], read: Callable[[StageRun], Any]
) -> Control:
    """Same in every seed, or what differs in the first seed where it does."""
    both = [(read(x), read(y)) for x, y in pairs if x and y]
    if not both or any(x is None or y is None for x, y in both):
        return Control(name, None, "not recorded")
    for x, y in both:
        if x != y:
            return Control(name, False, ", ".join(_differences(x, y)))
    return Control(name, True, hash_json([x for x, _ in both])[:8])


def _differences(x: Any, y: Any) -> Iterator[str]:
    if not (isinstance(x, dict) and isinstance(y, dict)):
        yield f"{x} / {y}"
        return
    left, right = dict(_flat(x)), dict(_flat(y))
    yield from (
        f"{k} {left.get(k)} / {right.get(k)}" for k in sorted(left.keys() | right.keys()) if left.get(k) != right.get(k)
    )


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _pick(run: StageRun, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: run.config.get(key) for key in keys}


def _list(values: list[int]) -> str:
    return ", ".join(map(str, values))
