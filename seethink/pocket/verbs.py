"""`seethink pocket build | teach | pretrain`: one function each. Nothing heavy is imported until a verb runs."""

from __future__ import annotations

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
