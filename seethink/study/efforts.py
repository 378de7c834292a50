"""What a plan's training will take, as far as the plan says it: prompts, rollouts and optimiser steps of every arm."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.study.config import StudyConfig
from seethink.study.plan import data_of, lineage, merge, settings_of
from seethink.train.config import GRPOConfig, SFTConfig


def efforts_of(config: StudyConfig, name: str) -> dict[str, int | None]:
    """Axis of effort -> amount over an arm's lineage; None where it depends on rows that are not there yet."""
    stages = lineage(config, name)
    total: dict[str, int | None] = dict.fromkeys(("prompts", "rollouts", "optimiser steps"), 0)
    for stage, later in zip(stages, [*stages[1:], None], strict=True):
        settings = merge(settings_of(config, stage), {"out": "-", "data": "-", "model": {"path": "-"}})
        rows = rows_of(config.data.get(data_of(stage)))
        spent = stage_effort(stage.stage, settings, rows, later.at if later else 0)
        pairs = ((axis, total[axis], n) for axis, n in spent.items())
        total = {axis: None if so_far is None or n is None else so_far + n for axis, so_far, n in pairs}
    return total


def stage_effort(verb: str, settings: dict[str, Any], rows: int | None, at: int = 0) -> dict[str, int | None]:
    """Of one stage, up to step or round `at` (0: all of it); `rows` of its data, None where nobody knows."""
    if verb == "grpo":
        config = build(GRPOConfig, settings)
        rounds = at or config.rounds
        prompts = rounds * config.prompts
        steps = rounds * math.ceil(config.prompts / config.update_prompts)
        return {"prompts": prompts, "rollouts": prompts * config.group, "optimiser steps": steps}
    config = build(SFTConfig, settings)
    if at:
        return {"prompts": at * config.batch_size, "rollouts": 0, "optimiser steps": at}
    if rows is None or config.limit or settings.get("kinds"):
        return {"prompts": None, "rollouts": 0, "optimiser steps": None}
    trained = config.epochs * (rows - round(config.eval_share * rows))
    return {"prompts": math.ceil(trained), "rollouts": 0, "optimiser steps": math.ceil(trained / config.batch_size)}


@cache
def _lines(path: Path, changed: int) -> int:
    with open(path, "rb") as file:
        return sum(1 for line in file if line.strip())


def rows_of(path: Path | None) -> int | None:
    """Rows of a JSONL file; None where there is none."""
    return _lines(path, path.stat().st_mtime_ns) if path and path.is_file() else None
