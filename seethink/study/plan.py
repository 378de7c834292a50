"""The study: arms that differ in one named factor, run for every seed, in parallel processes, resumable.

    seethink study @study.toml --out runs/study

An arm is one training stage that starts from the base or from another arm's model, so sft -> grpo is an arm `grpo` that
starts from an arm `sft`. Whatever an arm does not name is the same for all arms: data, order, rewards, schedule, decoding.
Every stage is an ordinary run folder made by an ordinary command, which is printed and kept beside it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.names import inside
from seethink.core.run import git_commit
from seethink.core.url import secret_addresses
from seethink.study.config import CONFIG_OF, Arm, StudyConfig
from seethink.study.execute import Stage
from seethink.train.model.folder import check_folder

OURS = {
    **dict.fromkeys(("sft", "grpo", "arms"), ("out", "overwrite", "data", "seed", "model.path")),
    "eval": ("out", "overwrite", "model", "data", "base_url"),
}
"""Settings of a stage that follow from the plan and stand nowhere else in it: where, on what, from where, against what."""


def check(config: StudyConfig, files: bool = True) -> None:
    """Refuse a plan with unknown arms, data, comparisons or settings, or (`files`) without its files. Raises UserError."""
    for name in ("base", "board") if files else ():
        path = getattr(config, name)
        if path == Path() or (name == "board" and not path.exists()):
            what = f"the plan names no {name}" if path == Path() else f"{name} {path} does not exist"
            raise UserError(what, remedy=f"Give --{name}")
    known = f"Known: {', '.join(['base', *config.arms])}"
    named = [("the reference names", config.reference)]
    named += [(f"arm {name!r} starts from", arm.start) for name, arm in config.arms.items()]
    named += [("comparison names", name) for pair in config.comparisons for name in pair]
    for what, name in named:
        if name != "base" and name not in config.arms:
            raise UserError(f"{what} unknown arm {name!r}", remedy=known)
    for a, b in config.comparisons:
        if a == b:
            raise UserError(f"comparison of {a!r} with itself", remedy="Name two arms")
    for name, arm in config.arms.items():
        lineage(config, name)
        if data_of(arm) not in config.data:
            what = f"arm {name!r} uses unknown data {data_of(arm)!r}"
            raise UserError(what, remedy=f"Known: {', '.join(config.data)}")
        if files and not (path := config.data[data_of(arm)]).exists():
            raise UserError(f"data {data_of(arm)} {path} does not exist", remedy=f"Give --data.{data_of(arm)}")
    if min(config.seeds, default=-1) < 0 or len(set(config.seeds)) < len(config.seeds):
        raise UserError(f"seeds = {config.seeds}", remedy="Give at least one, each once, none of them negative")
    planned = comparisons(config)
    for pair in config.question.comparisons:
        if pair not in planned:
            listed = ", ".join(f"{a} - {b}" for a, b in planned)
            raise UserError(f"question.comparisons: {pair[0]} - {pair[1]} is not planned", remedy=f"Planned: {listed}")
    tables = {"sft": config.sft, "grpo": config.grpo, "eval": config.eval}
    tables |= {f"arms.{name}.set": arm.set for name, arm in config.arms.items()}
    for table, settings in tables.items():
        for key in OURS[table.partition(".")[0]]:
            if key in settings or key == "model.path" and key[6:] in (settings.get("model") or ()):
                remedy = "Leave it out: it follows from out, base, board, seeds and the arm's start and data"
                raise UserError(f"{table}.{key} is not the plan's to say", remedy=remedy)
    for stage in plan(config):  # a mistyped setting shows now, not after half an hour
        build(CONFIG_OF[stage.verb], stage.settings, where=f"arm {stage.arm}")
        for address in secret_addresses(stage.settings):
            remedy = "Name an environment variable with the key instead"
            raise UserError(f"a study writes down what {address} hides", where=f"arm {stage.arm}", remedy=remedy)
        inside(config.out, stage.out)
    if files:
        check_folder(config.base)


def lineage(config: StudyConfig, arm: str) -> list[Arm]:
    """The arms behind a model, from the base on, itself included. Raises UserError where an arm starts from itself."""
    names: list[str] = []
    while arm != "base":
        if arm in names:
            raise UserError(f"arm {arm!r} starts from itself", remedy="Let one of its arms start from base")
        names.insert(0, arm)
        arm = config.arms[arm].start
    return [config.arms[name] for name in names]


def comparisons(config: StudyConfig) -> list[tuple[str, str]]:
    """The planned comparisons: those of the plan, else every arm against the reference."""
    return config.comparisons or [(name, config.reference) for name in config.arms if name != config.reference]


def data_of(arm: Arm) -> str:
    return arm.data or "rl"


def plan(config: StudyConfig) -> Iterator[Stage]:
    """All stages: the base's evaluations, then for each arm and seed its training and its evaluation."""
    home = config.out / "arms" / "base" / "seed0"
    shared = {"data": str(config.board), **config.eval, "overwrite": True}
    for style, further in {"": None, **config.evals}.items():
        out = home / (f"eval-{style}" if style else "eval")
        settings = {**shared, "out": str(out), "model": str(config.base), **(further.set if further else {})}
        yield Stage("base", 0, out.name, "eval", settings, ())
    for seed in config.seeds:
        for name, arm in config.arms.items():
            home = config.out / "arms" / name / f"seed{seed}"
            out, before = home / arm.stage, config.base
            if arm.start != "base":
                before = config.out / "arms" / arm.start / f"seed{seed}" / config.arms[arm.start].stage / "model"
            own = {"out": str(out), "data": str(config.data[data_of(arm)]), "model": {"path": str(before)}}
            own |= {"seed": seed, "overwrite": True}
            settings = merge(config.sft if arm.stage == "sft" else config.grpo, own, arm.set)
            yield Stage(name, seed, arm.stage, arm.stage, settings, () if arm.start == "base" else (before.parent,))
            settings = {**shared, "out": str(home / "eval"), "model": str(out / "model")}
            yield Stage(name, seed, "eval", "eval", settings, (out,))


def merge(*settings: dict[str, Any]) -> dict[str, Any]:
    """Nested dicts merged, later ones win."""
    result: dict[str, Any] = {}
    for layer in settings:
        for key, value in layer.items():
            nested = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merge(result[key], value) if nested else value
    return result


def describe(config: StudyConfig, stages: list[Stage]) -> dict[str, Any]:
    """study.json: what the report needs to know of the plan."""
    arms: dict[str, Any] = {"base": {"stages": []}}
    for name, arm in config.arms.items():
        behind = lineage(config, name)
        arms[name] = {
            "stages": [a.stage for a in behind],
            "style": next((a.data for a in reversed(behind) if a.stage == "sft"), ""),
            "start": arm.start,
            "data": data_of(arm),
            "set": arm.set,
        }
    planned = comparisons(config)
    return {
        "label": config.label,
        "simulated": config.simulated,
        "seeds": config.seeds,
        "arms": arms,
        "reference": config.reference,
        "comparisons": planned,
        "question": {**config.question.model_dump(), "comparisons": config.question.comparisons or planned[:1]},
        "board": os.path.relpath(config.board, config.out),
        "data": {name: os.path.relpath(path, config.out) for name, path in config.data.items()},
        "base": str(config.base),
        "evals": {name: further.model_dump() for name, further in config.evals.items()},
        "checker": config.checker,
        "git": git_commit(),
        "commands": [shlex.join(stage.command) for stage in stages],
        "config": config.model_dump(mode="json"),
    }
