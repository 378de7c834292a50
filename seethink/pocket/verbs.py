"""`seethink pocket build | teach`: one function each."""

from __future__ import annotations

import threading
from typing import Any

from seethink.pocket.build import build
from seethink.pocket.config import BuildConfig, TeachConfig
from seethink.pocket.server import MODELS, Faults, Teacher


def run_build(config: BuildConfig, dry_run: bool = False) -> dict[str, Any]:
    return build(config.out, config.seed, config.sft, config.rl, config.board, config.ood, dry_run)


def run_teach(config: TeachConfig, dry_run: bool = False) -> dict[str, Any]:
    faults = Faults(config.too_many, config.server_error, config.hang, config.cut, config.hang_seconds)
    teacher = Teacher(config.world, config.port, config.seed, faults, config.replay)
    plan = {"base_url": teacher.base_url, "models": list(MODELS), "simulated": True}
    if dry_run:
        teacher.close()
        return plan
    with teacher:
        print(f"simulated teacher at {teacher.base_url} with {', '.join(MODELS)}; Ctrl-C stops it", flush=True)
        try:
            threading.Event().wait(config.minutes * 60 or None)
        except KeyboardInterrupt:
            print("stopped")
    return {**plan, "requests": teacher.requests}
