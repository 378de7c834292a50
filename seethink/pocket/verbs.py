"""`seethink pocket build | teach | pretrain`: one function each. Nothing heavy is imported until a verb runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pydantic import Field

from seethink.core.config import Config


class BuildConfig(Config):
    """Write the pocket world: pictures, pools, board, and SFT files of each simulated teacher."""

    out: Path = Field(description="folder to write")
    seed: int = Field(0, description="every stream of scenes derives from it")
    sft: int = Field(2000, ge=0, description="samples in sft_pool.jsonl")
    rl: int = Field(2000, ge=0, description="samples in rl_pool.jsonl")
    board: int = Field(1000, ge=0, description="held-out items drawn like the training pools")
    ood: int = Field(300, ge=0, description="harder items: more objects, unseen pairs, larger numbers")


def run_build(config: BuildConfig, dry_run: bool = False) -> dict[str, Any]:
    from seethink.pocket.build import build

    return build(config.out, config.seed, config.sft, config.rl, config.board, config.ood, dry_run)


class TeachConfig(Config):
    """Serve the simulated teacher on loopback until interrupted."""

    world: Path = Field(description="folder made by seethink pocket build")
    port: int = Field(8765, ge=0, le=65535, description="0 takes a free one")
    seed: int = Field(0, description="same request, same seed, same answer")
    minutes: float = Field(0.0, ge=0, description="stop after this long; 0 runs until interrupted")
    replay: Path | None = Field(None, description="JSON of published records whose captions and traces are replayed")
    too_many: float = Field(0.0, ge=0, le=1, description="share of requests answered 429")
    server_error: float = Field(0.0, ge=0, le=1, description="share of requests answered 500")
    hang: float = Field(0.0, ge=0, le=1, description="share of requests left hanging, then dropped")
    cut: float = Field(0.0, ge=0, le=1, description="share of replies cut in the middle")
    hang_seconds: float = Field(5.0, ge=0, description="how long a hanging request hangs")


def run_teach(config: TeachConfig, dry_run: bool = False) -> dict[str, Any]:
    from seethink.pocket.server import MODELS, Faults, Teacher

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


class PretrainConfig(Config):
    """Build the base checkpoint of the pocket world from nothing."""

    out: Path = Field(description="run folder; the checkpoint is in model/")
    seed: int = Field(0, description="weights, scenes and order of lessons")
    threads: int = Field(2, ge=1, description="cores; another number gives slightly other weights")
    scenes: int = Field(6000, ge=100, description="training pictures, drawn once")
    rows: int = Field(10, ge=4, description="pictures of things in a batch")
    curves: int = Field(4, ge=1, description="pictures of curves in a row; a third as many rows hold curves")
    see_steps: int = Field(600, ge=1, description="steps of the vision stage")
    look_steps: int = Field(350, ge=1, description="steps of finding one thing")
    talk_steps: int = Field(360, ge=1, description="steps of all kinds in both styles; decides how early it stops")
    hurry_steps: int = Field(60, ge=1, description="steps in which most concise answers skip their steps")
    hasty: float = Field(0.5, ge=0, le=1, description="share of concise answers that do so")
    lr: float = Field(2e-3, gt=0, description="peak learning rate of every stage")
    trial: int = Field(200, ge=5, description="questions of an exam in between")
    exam: int = Field(1000, ge=5, description="questions of the final exam, per style")


def run_pretrain(config: PretrainConfig, dry_run: bool = False) -> dict[str, Any]:
    from seethink.pocket.pretrain import run

    return config.model_dump(mode="json") if dry_run else run(config)


VERBS = {
    "build": (BuildConfig, run_build),
    "teach": (TeachConfig, run_teach),
    "pretrain": (PretrainConfig, run_pretrain),
}
