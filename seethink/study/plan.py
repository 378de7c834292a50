"""The study: arms that differ in one named factor, run for every seed, in parallel processes, resumable.

    seethink study @study.toml --out runs/study

An arm is one training stage that starts from the base or from another arm's model, so sft -> grpo is an arm `grpo` that
starts from an arm `sft`. Whatever an arm does not name is the same for all arms: data, order, rewards, schedule, decoding.
Every stage is an ordinary run folder made by an ordinary command, which is printed and kept beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.run import git_commit
from seethink.evals.config import EvalConfig
from seethink.study.config import Arm, StudyConfig
from seethink.study.execute import Stage
from seethink.train.config import GRPOConfig, SFTConfig

CONFIG_OF = {"sft": SFTConfig, "grpo": GRPOConfig, "eval": EvalConfig}


def check(config: StudyConfig) -> None:
    """Refuse a plan with unknown arms, data or settings. Raises UserError."""
    for name in ("base", "board"):
        if not getattr(config, name).exists():
            raise UserError(f"{name} {getattr(config, name)} does not exist", remedy=f"Give --{name}")
    for name, arm in config.arms.items():
        if arm.start != "base" and arm.start not in config.arms:
            raise UserError(
                f"arm {name!r} starts from unknown arm {arm.start!r}", remedy=f"Known: base, {', '.join(config.arms)}"
            )
        if data_of(arm) not in config.data:
            raise UserError(
                f"arm {name!r} uses unknown data {data_of(arm)!r}", remedy=f"Known: {', '.join(config.data)}"
            )
    for pair in config.comparisons:
        for name in pair:
            if name != "base" and name not in config.arms:
                raise UserError(
                    f"comparison names unknown arm {name!r}", remedy=f"Known: base, {', '.join(config.arms)}"
                )
    for stage in plan(config):  # a mistyped setting shows now, not after half an hour
        build(CONFIG_OF[stage.verb], stage.settings, where=f"arm {stage.arm}")


def data_of(arm: Arm) -> str:
    return arm.data or "rl"


def plan(config: StudyConfig) -> Iterator[Stage]:
    """All stages: the base's evaluations, then for each arm and seed its training and its evaluation."""
    home = config.out / "arms" / "base" / "seed0"
    shared = {"board": str(config.board), **config.eval, "overwrite": True}
    for style, system in {"": "", **config.base_styles}.items():
        out = home / (f"eval-{style}" if style else "eval")
        settings = {**shared, "out": str(out), "model": str(config.base), **({"system": system} if style else {})}
        yield Stage("base", 0, out.name, "eval", settings, ())
    for seed in config.seeds:
        for name, arm in config.arms.items():
            home = config.out / "arms" / name / f"seed{seed}"
            out, before = home / arm.stage, model_of(config, arm.start, seed)
            settings = merge(
                config.sft if arm.stage == "sft" else config.grpo,
                {
                    "out": str(out),
                    "data": str(config.data[data_of(arm)]),
                    "model": {"path": str(before)},
                    "seed": seed,
                    "overwrite": True,
                },
                arm.set,
            )
            yield Stage(name, seed, arm.stage, arm.stage, settings, () if arm.start == "base" else (before.parent,))
            yield Stage(
                name, seed, "eval", "eval", {**shared, "out": str(home / "eval"), "model": str(out / "model")}, (out,)
            )


def model_of(config: StudyConfig, arm: str, seed: int) -> Path:
    """Folder of the model an arm ends with."""
    if arm == "base":
        return config.base
    return config.out / "arms" / arm / f"seed{seed}" / config.arms[arm].stage / "model"


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

    def lineage(name: str) -> list[str]:
        return [] if name == "base" else [*lineage(config.arms[name].start), config.arms[name].stage]

    def style(name: str) -> str:
        arm = config.arms.get(name)
        return "" if arm is None else arm.data if arm.stage == "sft" else style(arm.start)

    arms = {"base": {"stages": []}}
    for name, arm in config.arms.items():
        arms[name] = {
            "stages": lineage(name),
            "style": style(name),
            "start": arm.start,
            "data": data_of(arm),
            "set": arm.set,
        }
    return {
        "label": config.label,
        "simulated": config.simulated,
        "seeds": config.seeds,
        "arms": arms,
        "comparisons": config.comparisons,
        "board": os.path.relpath(config.board, config.out),
        "data": {name: os.path.relpath(path, config.out) for name, path in config.data.items()},
        "base": str(config.base),
        "base_styles": list(config.base_styles),
        "checker": config.checker,
        "git": git_commit(),
        "commands": [" ".join(stage.command) for stage in stages],
        "config": config.model_dump(mode="json"),
    }
