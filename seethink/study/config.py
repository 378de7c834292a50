"""Settings of `seethink study`: the plan, as its TOML file states it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from seethink.core.config import Config


class Arm(Config):
    """One training stage; everything else is shared with the other arms."""

    stage: Literal["sft", "grpo"] = Field(description="how it trains")
    start: str = Field("base", description="base, or the arm whose model it starts from")
    data: str = Field("", description="name of its data set; empty: rl for grpo")
    set: dict[str, Any] = Field({}, description="settings that differ from the shared ones: the named factor")


class Prepare(Config):
    """What makes the files that a plan names, before it runs."""

    function: str = Field(description="module:function that takes the plan and returns it with its files")
    settings: dict[str, Any] = Field({}, description="settings of that function, which it checks itself")


class StudyConfig(Config):
    """Run all arms with matched controls and write report.html."""

    out: Path = Field(Path("runs/study"), description="study folder")
    prepare: Prepare | None = Field(None, description="what makes the files of the plan first; none: they are there")
    label: str = Field("", description="shown with every result, e.g. the world and the teacher")
    simulated: bool = Field(False, description="true when the teacher is simulated")
    base: Path = Field(Path(""), description="model folder all arms start from")
    board: Path = Field(Path(""), description="JSONL of held-out samples")
    data: dict[str, Path] = Field({}, description="data sets by name; rl is the default of grpo arms")
    arms: dict[str, Arm] = Field({}, description="arms by name")
    comparisons: list[tuple[str, str]] = Field([], description="pairs of arms whose difference is reported")
    seeds: list[int] = Field([0, 1, 2], description="every arm runs once per seed")
    sft: dict[str, Any] = Field({}, description="shared settings of all sft stages")
    grpo: dict[str, Any] = Field({}, description="shared settings of all grpo stages")
    eval: dict[str, Any] = Field({}, description="shared settings of all evaluations")
    base_styles: dict[str, str] = Field(
        {}, description="style: system prompt under which the base is evaluated as well"
    )
    checker: str = Field("", description="module:function that checks the steps of a trace; empty: none")
    workers: int = Field(0, ge=0, description="stages at once; 0: one per GPU, or one per core without a GPU")
