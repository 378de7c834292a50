"""Settings of `seethink traces`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from seethink.core.config import Config, Effect
from seethink.traces.lexicon import PRESETS


class TracesConfig(Config):
    """Analyse hesitation, length and step truth of traces."""

    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")
    input: Annotated[Path, Effect.INPUT] = Field(
        description="rollouts.parquet, scores.parquet, or JSONL with `text` or `completion`"
    )
    samples: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="JSONL of the samples the traces answer; for claims and step truth"
    )
    checker: Annotated[str, Effect.CODE] = Field(
        default="", description="module:function that checks the statements of a trace; empty: none"
    )
    lexicons: Annotated[tuple[str, ...], Effect.INPUT] = Field(
        default=PRESETS, description="presets or TOML files whose markers are counted"
    )
    right_from: float = Field(
        default=1.0, description="reward from which a rollout counts as right; scores carry a verdict"
    )
    limit: int = Field(default=0, ge=0, description="only the first traces; 0: all")
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="start afresh where the folder holds a run with other settings"
    )
