"""Which arms may be set against each other: from which base each started, what its training cost, what was asked to match.

The controls themselves are in matched.py; here stands what follows from them for a comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seethink.study.folder import Study
from seethink.study.matched import TOLERANCE, efforts

COMPUTE_TOLERANCE = 0.1  # an exploring arm within this share of another's compute stands for it
BACKWARD = 3  # a trained token costs a forward and a backward pass, a generated one a forward pass
LONGER = {"rounds", "prompts", "save_every", "export_every", "watch"}
"""Settings in which a compute-matched arm may differ."""


def root(study: Study, arm: str) -> str:
    """The untrained model behind an arm; an untrained one is its own."""
    while study.arms[arm].stages and study.arms[arm].start in study.arms:
        arm = study.arms[arm].start
    return arm if not study.arms[arm].stages else study.arms[arm].start


def repeats(study: Study, a: str, b: str) -> list[tuple[str, str, str]]:
    """(base, a there, b there) of every other base from which the study trains the same two arms: what keeps a finding about
    one checkpoint from being one about that checkpoint alone."""
    here, made = root(study, a), {name: _recipe(study, name) for name in study.arms}
    if here != root(study, b):
        return []
    found = []
    for base in (name for name, arm in study.arms.items() if not arm.stages and name != here):
        there = [next((n for n in made if made[n] == made[arm] and root(study, n) == base), "") for arm in (a, b)]
        if all(there):
            found.append((base, *there))
    return found


def unmatched(study: Study, a: str, b: str) -> str:
    """The plan's `matched_on` axes on which two trained arms differ by more than 2 %, or that are not recorded, in words.

    Empty where they are matched, and where an arm is compared with a model that it started from: then the further training
    is the named factor.
    """
    axes = study.plan.get("matched_on") or []
    behind = [_behind(study, arm) for arm in (a, b)]
    if not axes or a in behind[1] or b in behind[0] or not (study.arms[a].stages and study.arms[b].stages):
        return ""
    left, right = _spent(study, a), _spent(study, b)
    off = []
    for axis in axes:
        x, y = left.get(axis), right.get(axis)
        if x is None or y is None:
            off.append(f"{axis} (not recorded)")
        elif abs(x - y) > TOLERANCE * y:
            off.append(f"{axis} ({x:,.0f} against {y:,.0f})")
    return ", ".join(off)


def short_of_compute(study: Study) -> Iterator[tuple[str, str]]:
    """(arm, what there is) for every arm that explores after imitating and has none beside it that spent as much on exploring alone."""
    for name, arm in study.arms.items():
        if arm.stages[-2:] != ("sft", "grpo") or not arm.seeds:
            continue
        alone = [other for other in study.arms if _longer(study, name, other)]
        work = _work(study, name)
        shares = {other: spent / work for other in alone if work and (spent := _work(study, other)) is not None}
        if any(abs(share - 1) <= COMPUTE_TOLERANCE for share in shares.values()):
            continue
        nearest = min(shares, key=lambda other: abs(shares[other] - 1), default="")
        found = f"{nearest} spent {shares[nearest]:.2f} of it" if nearest else "none is measured"
        yield name, found if work else "its own is not recorded"


def _longer(study: Study, arm: str, other: str) -> bool:
    """Whether the other arm only explores, from the same base, and differs in nothing but how long."""
    if study.arms[other].stages != ("grpo",) or not study.arms[other].seeds or root(study, other) != root(study, arm):
        return False
    return _factor(study.plan["arms"][other]) == _factor(study.plan["arms"][arm])


def _factor(spec: dict[str, Any]) -> dict[str, Any]:
    """What an arm's last stage names, apart from its length."""
    own = {key: value for key, value in spec.get("set", {}).items() if key not in LONGER}
    return {"set": own, **{key: spec.get(key, "") for key in ("data", "demos", "teacher")}}


def _recipe(study: Study, arm: str) -> list[dict[str, Any]]:
    """All that made an arm's model of its base, stage by stage; two arms with one recipe differ in their base alone."""
    names = [arm, *_behind(study, arm)]
    specs = [(study.arms[name], study.plan["arms"][name]) for name in names if study.arms[name].stages]
    keys = ("data", "set", "at", "demos", "teacher")
    return [{"stage": arm.stages[-1], **{key: spec.get(key) or None for key in keys}} for arm, spec in specs]


def _behind(study: Study, arm: str) -> list[str]:
    """The arms that an arm's model went through before, the latest first, down to its base."""
    found = []
    while study.arms[arm].stages and (arm := study.arms[arm].start) in study.arms:
        found.append(arm)
    return found


def _spent(study: Study, arm: str) -> dict[str, float | None]:
    return {effort.axis: effort.value for effort in efforts(study, arm, arm)}


def _work(study: Study, arm: str) -> float | None:
    """Tokens through the model over an arm's whole lineage, forward passes; None where one is not recorded."""
    spent = _spent(study, arm)
    generated, trained = spent.get("generated tokens"), spent.get("trained tokens")
    return None if generated is None or trained is None else generated + BACKWARD * trained
