"""Settings of `seethink report | findings | view | watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from seethink.core.config import Config, Effect


class ReportConfig(Config):
    """Render report.html and report.md of a study, or report.html and the card of a data run."""

    study: Path = Field(description="folder that `seethink study` or `seethink data` wrote")
    out: Path | None = Field(default=None, description="folder for the report; the run's own when not given")
    checker: str = Field(default="", description="module:function to judge statements by; it runs only if named here")
    gallery: int = Field(default=10, ge=0, description="samples shown side by side")


class FindingsConfig(Config):
    """Render one page of findings, with pictures beside it, from several studies."""

    runs: list[Path] = Field(min_length=1, description="folders that `seethink study` wrote, one per question")
    out: Annotated[Path, Effect.OUTPUT] = Field(
        default=Path("docs/findings.md"), description="the page; its pictures go into a folder of its name beside it"
    )


class ViewConfig(Config):
    """Render static pages to look at samples and traces."""

    input: Path = Field(description="study, evaluation, GRPO run, data folder or JSONL file")
    other: Path | None = Field(default=None, description="a second evaluation on the same board, beside the first")
    out: Annotated[Path | None, Effect.OUTPUT] = Field(
        default=None, description="folder of pages; view/ in the run, <name>-view/ beside a file"
    )
    samples: Path | None = Field(default=None, description="JSONL of the samples, where the run does not name it")
    arms: str = Field(default="", description="arms of a study, comma-separated; empty: those of its first comparison")
    seed: int = Field(default=0, description="seed of a study to show")
    checker: str = Field(default="", description="module:function to colour statements by; it runs only if named here")
    limit: int = Field(default=0, ge=0, description="only the first items; 0: all")


class LiveConfig(Config):
    """Look at a training run, or a study, in the terminal while it is written."""

    input: Path = Field(description="run folder of sft or grpo, or a study")
    every: float = Field(default=2.0, ge=0.2, description="seconds between looks")
    once: bool = Field(default=False, description="one look instead of many")
    width: int = Field(default=0, ge=0, description="columns of a single look; 0: as wide as the terminal")
