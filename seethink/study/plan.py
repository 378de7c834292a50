"""The study: arms that differ in one named factor, run for every seed, in parallel processes, resumable.

    seethink study @study.toml --out runs/study

An arm is one training stage that starts from a base or from another arm's model, so sft -> grpo is an arm `grpo` that
starts from an arm `sft`. Whatever an arm does not name is the same for all arms: data, order, rewards, schedule, decoding.
Data sets that the study makes itself are stages too. Every stage is an ordinary run folder made by an ordinary command,
which is printed and kept beside it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.run import EXPORTS, git_commit
from seethink.study.config import Arm, StudyConfig
from seethink.study.execute import Stage
from seethink.study.sets import NAMING, made_file

EXPORT = {"sft": "step", "grpo": "round"}
"""Verb -> what its exports are counted in."""
NAMED = {**NAMING, "sft": ("watch.data",), "grpo": ("watch.data",), "eval": ("against",)}
"""Settings of a verb that may be names of the plan: of data or sets, of the board, or of a base."""

PlanPart = tuple[str, str]
"""(`arms` or `sets`, name): what a study makes."""


class Planner:
    """The stages of a study, each after those that it needs."""

    def __init__(self, config: StudyConfig):
        self.config = config
        self.stages: dict[Path, Stage] = {}
        """Run folder -> stage, in order of dependence."""
        self.names: dict[Path, str] = {config.board: "board"}
        """File -> its name in the plan."""

    def evaluate(self, name: str, seed: int) -> None:
        """The evaluations of an arm, which is trained before, or of a base."""
        config = self.config
        path, after = self.model(name, seed)
        for kind, further in {"": None, **config.evals}.items():
            if further and further.arms and name not in further.arms:
                continue
            out = config.out / "arms" / name / f"seed{seed}" / (f"eval-{kind}" if kind else "eval")
            board, made = self.file(further.board, seed) if further and further.board else (config.board, ())
            own = {"out": str(out), "data": str(board), "model": str(path), "overwrite": True}
            settings = self.filled("eval", merge(config.eval, further.set if further else {}, own), seed)[0]
            self.add(Stage(name, seed, out.name, "eval", settings, (*after, *made)))

    def train(self, name: str, seed: int) -> Path:
        """The run folder of an arm; itself and what it needs are among the stages then."""
        config, arm = self.config, self.config.arms[name]
        out = config.out / "arms" / name / f"seed{seed}" / arm.stage
        if out in self.stages:
            return out
        path, after = self.model(arm.start, seed, arm.at)
        data, made = self.file(data_of(arm), seed)
        own = {"out": str(out), "data": str(data), "model": {"path": str(path)}, "seed": seed, "overwrite": True}
        needs = [*after, *made]
        if arm.demos:
            demos, made = self.file(arm.demos, seed)
            own, needs = {**own, "demos": {"data": str(demos)}}, [*needs, *made]
        if arm.teacher:
            teacher, made = self.model(arm.teacher, seed)
            own, needs = {**own, "teacher": str(teacher)}, [*needs, *made]
        settings = merge(settings_of(config, arm), own)
        if (starts := exported(config, name)) and not settings.get("export_every"):
            settings["export_every"] = reduce(gcd, starts)
        settings, made = self.filled(arm.stage, settings, seed)
        return self.add(Stage(name, seed, arm.stage, arm.stage, settings, tuple(dict.fromkeys([*needs, *made]))))

    def make(self, name: str, seed: int) -> Path:
        """The run folder of a set: one for all seeds, unless an arm's model is behind it."""
        config, made = self.config, self.config.sets[name]
        own_seed = seed if any(kind == "arms" for kind, _ in behind(config, ("sets", name))) else None
        out = config.out / "sets" / name / ("" if own_seed is None else f"seed{seed}") / made.verb
        if out in self.stages:
            return out
        data, needs = self.file(made.of, seed)
        own: dict[str, Any] = {"out": str(out), "data": str(data), "overwrite": True}
        if asks_model(made.verb, made.set):
            path, after = self.model(made.model or "base", seed)
            own |= {"models": [str(path)]} if made.verb == "select" else {"model": str(path)}
            needs = (*needs, *after)
        shared = config.eval if made.verb == "eval" else {}
        settings, after = self.filled(made.verb, merge(shared, made.set, own), seed)
        return self.add(Stage(f"set {name}", own_seed, made.verb, made.verb, settings, (*needs, *after)))

    def model(self, name: str, seed: int, at: int = 0) -> tuple[Path, tuple[Path, ...]]:
        """(folder of a model, run folders that must be done first); `at`: as it was exported after that step or round."""
        if name not in self.config.arms:
            return (self.config.base if name == "base" else self.config.bases[name]), ()
        run = self.train(name, seed)
        return run / (f"{EXPORTS}/{EXPORT[self.config.arms[name].stage]}-{at:06d}" if at else "model"), (run,)

    def file(self, name: str, seed: int) -> tuple[Path, tuple[Path, ...]]:
        """(file of data or of a set, run folders that must be done first)."""
        if name not in self.config.sets:
            path, after = self.config.data[name], ()
        else:
            made = self.config.sets[name]
            run = self.make(name, seed)
            path, after = made_file(made.verb, run, made.set), (run,)
        self.names[path] = name
        return path, after

    def filled(self, verb: str, settings: dict[str, Any], seed: int) -> tuple[dict[str, Any], tuple[Path, ...]]:
        """(settings with paths in the place of the plan's names, run folders that must be done first)."""
        config, needs = self.config, []

        def path(name: Any) -> Any:
            if name == "board":
                return str(config.board)
            if name == "base" or name in config.bases:
                return str(self.model(name, seed)[0])
            if name in config.data or name in config.sets:
                found, after = self.file(name, seed)
                needs.extend(after)
                return str(found)
            return name

        for key in NAMED.get(verb, ()):
            given = value_at(settings, key)
            if given is not None:
                value = [path(one) for one in given] if isinstance(given, list | tuple) else path(given)
                settings = merge(settings, nested(key, value))
        return settings, tuple(needs)

    def add(self, stage: Stage) -> Path:
        self.stages[stage.out] = stage
        return stage.out


def planned(config: StudyConfig) -> Planner:
    """All stages: the evaluations of the bases, then for each seed and arm its training and its evaluations."""
    planner = Planner(config)
    for name in ("base", *config.bases):
        planner.evaluate(name, 0)
    for seed in config.seeds:
        for name in config.arms:
            planner.evaluate(name, seed)
    return planner


def plan(config: StudyConfig) -> list[Stage]:
    """The stages, in order of dependence."""
    return list(planned(config).stages.values())


def narrowed(config: StudyConfig) -> StudyConfig:
    """The plan with the arms of `only`, the reference, and what they need. Raises UserError for an unknown arm."""
    if not config.only:
        return config
    known = {"base", *config.arms, *config.bases}
    if unknown := [name for name in config.only if name not in known]:
        raise UserError(
            f"unknown arm {unknown[0]!r}", where=config.place("only"), remedy=f"Known: {', '.join(sorted(known))}"
        )
    kept = {config.reference, *config.only}
    for name in [*kept]:
        kept |= {other for kind, other in behind(config, ("arms", name)) if kind == "arms"}
    kept |= {"base", *config.bases}
    return config.model_copy(
        update={
            "arms": {name: arm for name, arm in config.arms.items() if name in kept},
            "evals": {
                name: further.model_copy(update={"arms": [arm for arm in further.arms if arm in kept]})
                for name, further in config.evals.items()
                if not further.arms or kept & set(further.arms)
            },
            "comparisons": [pair for pair in comparisons(config) if set(pair) <= kept],
            "question": config.question.model_copy(
                update={"comparisons": [pair for pair in config.question.comparisons if set(pair) <= kept]}
            ),
        }
    )


def needed(config: StudyConfig, node: PlanPart) -> list[PlanPart]:
    """Arms and sets that an arm or a set reads."""
    kind, name = node
    if kind == "arms":
        arm = config.arms.get(name)
        models = [arm.start, arm.teacher] if arm else []
        files = [data_of(arm), arm.demos, value_at(settings_of(config, arm), "watch.data")] if arm else []
    else:
        made = config.sets[name]
        models, files = [made.model], [made.of]
        for key in NAMED.get(made.verb, ()):
            given = value_at(made.set, key)
            files += given if isinstance(given, list | tuple) else [given]
    found = [("arms", model) for model in models if model in config.arms]
    return found + [("sets", file) for file in files if file in config.sets]


def behind(config: StudyConfig, node: PlanPart, below: tuple[PlanPart, ...] = ()) -> list[PlanPart]:
    """All that an arm or a set needs, and what that needs. Raises UserError where something needs itself."""
    if node in below:
        kind, name = node
        what = f"arm {name!r} starts from itself" if kind == "arms" else f"set {name!r} is made of itself"
        raise UserError(
            what, remedy="Let one of its arms start from base" if kind == "arms" else "Name data as its `of`"
        )
    first = needed(config, node)
    return [*first, *(deeper for other in first for deeper in behind(config, other, (*below, node)))]


def lineage(config: StudyConfig, arm: str) -> list[Arm]:
    """The arms behind a model, from a base on, itself included. Raises UserError where an arm starts from itself."""
    names: list[str] = []
    while arm in config.arms:
        if arm in names:
            raise UserError(f"arm {arm!r} starts from itself", remedy="Let one of its arms start from base")
        names.insert(0, arm)
        arm = config.arms[arm].start
    return [config.arms[name] for name in names]


def exported(config: StudyConfig, name: str) -> list[int]:
    """Steps or rounds of an arm at which other arms start."""
    return sorted({arm.at for arm in config.arms.values() if arm.at and arm.start == name})


def comparisons(config: StudyConfig) -> list[tuple[str, str]]:
    """The planned comparisons: those of the plan, else every arm against the reference."""
    return config.comparisons or [(name, config.reference) for name in config.arms if name != config.reference]


def data_of(arm: Arm) -> str:
    return arm.data or "rl"


def settings_of(config: StudyConfig, arm: Arm) -> dict[str, Any]:
    """What is shared by all arms of its stage, and over it what the arm names."""
    return merge(config.sft if arm.stage == "sft" else config.grpo, arm.set)


def source_of(config: StudyConfig, name: str) -> str:
    """The data that data or a set comes from in the end."""
    while name in config.sets:
        name = config.sets[name].of
    return name


def asks_model(verb: str, settings: dict[str, Any]) -> bool:
    """Whether a set is made with a model of the plan: not with those that its settings name, nor with an endpoint."""
    return (verb == "select" and "models" not in settings) or (verb == "eval" and "base_url" not in settings)


def merge(*settings: dict[str, Any]) -> dict[str, Any]:
    """Nested dicts merged, later ones win."""
    result: dict[str, Any] = {}
    for layer in settings:
        for key, value in layer.items():
            nested = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merge(result[key], value) if nested else value
    return result


def value_at(settings: dict[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    found: Any = settings
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def describe(config: StudyConfig, stages: Iterable[Stage]) -> dict[str, Any]:
    """study.json: what the report needs to know of the plan."""
    arms: dict[str, Any] = {name: {"stages": []} for name in ("base", *config.bases)}
    for name, arm in config.arms.items():
        before = lineage(config, name)
        arms[name] = {
            "stages": [a.stage for a in before],
            "style": next((a.data for a in reversed(before) if a.stage == "sft"), ""),
            **arm.model_dump(exclude={"stage"}),
            "data": data_of(arm),
        }
    planned = comparisons(config)
    as_is = ("label", "simulated", "seeds", "reference", "matched_on", "accept_unmatched", "equivalent_within")
    as_is += ("pair_seeds", "handicapped", "published", "checker")
    return {
        **{name: getattr(config, name) for name in as_is},
        "arms": arms,
        "comparisons": planned,
        "question": {**config.question.model_dump(), "comparisons": config.question.comparisons or planned[:1]},
        "board": os.path.relpath(config.board, config.out),
        "data": {name: os.path.relpath(path, config.out) for name, path in config.data.items()},
        "sets": {name: made.model_dump() for name, made in config.sets.items()},
        "evals": {name: further.model_dump() for name, further in config.evals.items()},
        "base": str(config.base),
        "bases": {name: str(path) for name, path in config.bases.items()},
        "git": git_commit(),
        "commands": [shlex.join(stage.command) for stage in stages],
        "config": config.model_dump(mode="json"),
    }
