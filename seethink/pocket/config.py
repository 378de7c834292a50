"""Settings of `seethink pocket build | teach | pretrain`, and of the world of a study (`prepare.settings`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from seethink.core.config import Config, Effect, Seed, where_of
from seethink.core.names import check_names

SIZES = ("sft", "rl", "board", "unseen", "ood", "old")


class PoolSizes(Config):
    """The files of a pocket world."""

    seed: Seed = Field(default=0, description="every stream of scenes derives from it")
    sft: int = Field(default=2000, ge=0, description="samples in sft_pool.jsonl")
    rl: int = Field(default=2000, ge=0, description="samples in rl_pool.jsonl")
    board: int = Field(default=1000, ge=0, description="held-out items drawn like the training pools")
    unseen: int = Field(default=300, ge=0, description="held-out items as hard as these, with new curves and wordings")
    ood: int = Field(default=300, ge=0, description="harder items: more objects, unseen pairs, larger numbers")
    old: int = Field(default=300, ge=0, description="items of old.jsonl: skills of the base that no pool asks for")

    @property
    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in SIZES}


class BuildConfig(PoolSizes):
    """Write the pocket world: pictures, pools, board, and SFT files of each simulated teacher."""

    out: Annotated[Path, Effect.OUTPUT] = Field(description="folder to write")


class TeachConfig(Config):
    """Serve the simulated teacher on loopback until interrupted."""

    world: Path = Field(description="folder made by seethink pocket build")
    port: int = Field(default=8765, ge=0, le=65535, description="0 takes a free one")
    seed: Seed = Field(default=0, description="same request, same seed, same answer")
    minutes: float = Field(default=0.0, ge=0, description="stop after this long; 0 runs until interrupted")
    replay: Path | None = Field(default=None, description="JSON of published records; captions and traces are replayed")
    too_many: float = Field(default=0.0, ge=0, le=1, description="share of requests answered 429")
    server_error: float = Field(default=0.0, ge=0, le=1, description="share of requests answered 500")
    hang: float = Field(default=0.0, ge=0, le=1, description="share of requests left hanging, then dropped")
    cut: float = Field(default=0.0, ge=0, le=1, description="share of replies cut in the middle")
    hang_seconds: float = Field(default=5.0, ge=0, description="how long a hanging request hangs")


class PretrainConfig(Config):
    """Build the base checkpoint of the pocket world from nothing."""

    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder; the checkpoint is in model/")
    seed: Seed = Field(default=0, description="weights, scenes and order of lessons")
    size: Literal["small", "base", "large"] = Field(default="base", description="3, 5 or 8 attention heads")
    threads: int = Field(default=2, ge=1, description="cores; another number gives slightly other weights")
    scenes: int = Field(default=6000, ge=100, description="training pictures, drawn once")
    rows: int = Field(default=36, ge=6, description="pictures of things in a batch, beside half as many of curves")
    see_steps: int = Field(default=500, ge=0, description="steps of the vision stage")
    look_steps: int = Field(default=150, ge=0, description="steps of finding one thing")
    talk_steps: int = Field(default=460, ge=0, description="steps of all kinds, both styles; decides when it stops")
    glance: float = Field(default=0.0, ge=0, le=1, description="share of concise counts and equations without steps")
    hurry_steps: int = Field(default=60, ge=0, description="last steps, in which that share is another")
    hurry: float = Field(default=0.75, ge=0, le=1, description="this one")
    start: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="go on from this model; none: nothing"
    )
    lr: float = Field(default=2e-3, gt=0, description="peak learning rate of every stage")
    trial: int = Field(default=200, ge=5, description="questions of an exam in between")
    exam: int = Field(default=1000, ge=5, description="questions of the final exam, per style")


class World(PoolSizes):
    """What the pocket study is made of: `prepare.settings` of its plan."""

    sft: int = Field(default=800, ge=1, description="questions given to the teachers")
    examples: int = Field(default=600, ge=1, description="SFT examples of each style, out of those all styles kept")
    teachers: dict[str, str] = Field(default={}, description="style: model name of the simulated teacher; empty: none")
    shared: bool = Field(
        default=False, description="world and traces lie beside the study, for others made of the same"
    )

    @field_validator("teachers")
    @classmethod
    def _folders(cls, named: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        """Styles become folders. Raises UserError."""
        check_names(named, "teachers", where_of(info))
        return {style: model for style, model in named.items() if model}
