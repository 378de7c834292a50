"""Settings of `seethink study`: the plan, as its TOML file states it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from seethink.core.config import Config, Effect, where_of
from seethink.core.names import check_names
from seethink.evals.config import EvalConfig
from seethink.train.config import GRPOConfig, ModelPath, SFTConfig

CONFIG_OF = {"sft": SFTConfig, "grpo": GRPOConfig, "eval": EvalConfig}
"""Verb of a stage -> its settings."""


class Arm(Config):
    """One training stage; everything else is shared with the other arms."""

    stage: Literal["sft", "grpo"] = Field(description="how it trains")
    start: str = Field(default="base", description="base, or the arm whose model it starts from")
    data: str = Field(default="", description="name of its data set; empty: rl for grpo")
    set: dict[str, Any] = Field(default={}, description="settings that differ from the shared ones: the named factor")


class Prepare(Config):
    """What makes the files that a plan names, before it runs."""

    function: str = Field(default="", description="module:function that makes the plan's files; empty: they exist")
    settings: dict[str, Any] = Field(default={}, description="settings of that function, which it checks itself")


class Question(Config):
    """What a study asks, which comparisons answer, and the answer in words for each way they can come out."""

    text: str = Field(default="Does it make a difference?", description="the title of the report")
    comparisons: list[tuple[str, str]] = Field(default=[], description="planned pairs that answer it; empty: the first")
    better: str = Field(default="Better.", description="when all of them are better")
    never_worse: str = Field(default="Sometimes better, never worse.", description="when some are better, none worse")
    worse: str = Field(default="Worse.", description="when all of them are worse")
    never_better: str = Field(default="Sometimes worse, never better.", description="when some are worse, none better")
    mixed: str = Field(default="It depends.", description="when some are better and some worse")
    same: str = Field(default="No difference can be seen.", description="when none can be distinguished")
    not_shown: str = Field(
        default="", description="what the answer leaves open, however it comes out; for the findings"
    )


class RanArm(Config):
    """An arm in study.json."""

    model_config = ConfigDict(extra="ignore")
    stages: list[Literal["sft", "grpo"]]
    start: str = ""
    style: str = ""
    data: str = ""


class RanStudy(Config):
    """What readers need of study.json: a stranger's file is checked before it is believed."""

    model_config = ConfigDict(extra="ignore")
    arms: dict[str, RanArm]
    comparisons: list[tuple[str, str]]
    board: str
    reference: str = "base"
    question: dict[str, Any] = {}
    data: dict[str, str] = {}
    board_in_data: dict[str, int] = {}
    commands: list[str] = []
    label: str = ""
    checker: str = ""
    git: str | None = None


class StudyConfig(Config):
    """Run all arms with matched controls and write report.html."""

    out: Annotated[Path, Effect.OUTPUT] = Field(default=Path("runs/study"), description="study folder")
    prepare: Prepare = Prepare()
    label: str = Field(default="", description="shown with every result, e.g. the world and the teacher")
    simulated: bool = Field(default=False, description="true when the teacher is simulated")
    base: ModelPath = Field(default=Path(""), description="model folder, or fetched Hub model, all arms start from")
    board: Path = Field(default=Path(""), description="JSONL of held-out samples")
    data: dict[str, Path] = Field(default={}, description="data sets by name; rl is the default of grpo arms")
    arms: dict[str, Arm] = Field(default={}, description="arms by name")
    reference: str = Field(default="base", description="the arm that the others are measured against")
    comparisons: list[tuple[str, str]] = Field(
        default=[], description="pairs of arms whose difference is reported; empty: every arm against the reference"
    )
    question: Question = Question()
    seeds: list[int] = Field(default=[0, 1, 2], description="every arm runs once per seed")
    sft: dict[str, Any] = Field(default={}, description="shared settings of all sft stages")
    grpo: dict[str, Any] = Field(default={}, description="shared settings of all grpo stages")
    eval: dict[str, Any] = Field(default={}, description="shared settings of all evaluations")
    base_styles: dict[str, str] = Field(
        default={}, description="style: system prompt of another evaluation of the base"
    )
    checker: str = Field(default="", description="module:function that checks the steps of a trace; empty: none")
    workers: int = Field(default=0, ge=0, description="stages at once; 0: one per GPU, or one per core without a GPU")

    @field_validator("arms", "base_styles")
    @classmethod
    def _folders(cls, named: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Names of arms and styles become folders. Raises UserError."""
        check_names(named, str(info.field_name), where_of(info), ["base"] if info.field_name == "arms" else [])
        return named
