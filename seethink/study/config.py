"""Settings of `seethink study`: the plan, as its TOML file states it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from seethink.core.config import Config, Effect, where_of
from seethink.core.names import check_names
from seethink.data.config import CurateConfig
from seethink.evals.config import EvalConfig
from seethink.train.config import GRPOConfig, ModelPath, SelectConfig, SFTConfig

CONFIG_OF = {"sft": SFTConfig, "grpo": GRPOConfig, "eval": EvalConfig, "select": SelectConfig, "curate": CurateConfig}
"""Verb of a stage -> its settings."""


class Arm(Config):
    """One training stage; everything else is shared with the other arms."""

    stage: Literal["sft", "grpo"] = Field(description="how it trains")
    start: str = Field(default="base", description="base, a name of bases, or the arm whose model it starts from")
    at: int = Field(default=0, ge=0, description="step or round of that arm whose export it starts from; 0: the end")
    data: str = Field(default="", description="name of its data or set; empty: rl for grpo")
    demos: str = Field(default="", description="of grpo: name of demonstrations that are imitated beside it")
    teacher: str = Field(default="", description="of grpo: arm or base whose probabilities take the rewards' place")
    title: str = Field(default="", description="its name in the report; empty: its stages in words")
    set: dict[str, Any] = Field(default={}, description="settings that differ from the shared ones: the named factor")


class MadeSet(Config):
    """A data set that the study makes itself, by a verb, before the stages that read it."""

    verb: Literal["curate", "select", "eval"] = Field(description="what makes it; eval: scored answers, for `curate`")
    of: str = Field(description="name of the data or set that it reads")
    model: str = Field(
        default="", description="of select and eval: base, a name of bases, or an arm (once per seed); empty: base"
    )
    set: dict[str, Any] = Field(
        default={}, description="settings of the verb; of curate, `scores` may name a set that eval makes"
    )


class FurtherEval(Config):
    """One more evaluation of models that are evaluated anyway, in the stage `eval-<name>`."""

    arms: list[str] = Field(default=[], description="arms and bases it is made of; empty: all")
    board: str = Field(default="", description="name of data; empty: the study's board")
    set: dict[str, Any] = Field(default={}, description="settings that differ from the shared ones")


class Throughput(Config):
    """What `--dry-run` prices a study with, where it cannot be measured or counted here. None: unknown, and said so."""

    sampled_tokens_per_s: float | None = Field(default=None, gt=0, description="completion tokens a GPU samples")
    trained_tokens_per_s: float | None = Field(
        default=None, gt=0, description="completion tokens a GPU trains on, passes of references and teachers included"
    )
    gpus: int | None = Field(default=None, ge=1, description="GPUs that work at once")
    usd_per_gpu_hour: float | None = Field(default=None, ge=0, description="price")
    billion_parameters: float | None = Field(default=None, gt=0, description="of a model that is not here")
    completion_tokens: int | None = Field(default=None, ge=1, description="mean of an SFT completion")
    rows: dict[str, int] = Field(default={}, description="rows of data (of the board: board) that is not here")
    source: str = Field(default="", description="where these figures come from")


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
    at: int = 0
    style: str = ""
    data: str = ""
    demos: str = ""
    teacher: str = ""
    title: str = ""


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
    sets: dict[str, MadeSet] = {}
    evals: dict[str, FurtherEval] = {}
    matched_on: list[str] = []
    accept_unmatched: bool = False
    equivalent_within: float = 0.0
    pair_seeds: bool = False
    handicapped: list[str] | Literal["auto"] = []
    published: str = ""
    commands: list[str] = []
    label: str = ""
    checker: str = ""
    git: str | None = None


class StudyConfig(Config):
    """Run all arms with matched controls and write report.html."""

    first: ClassVar[str] = "out base bases data arms only comparisons seeds sft grpo evals reuse"
    out: Annotated[Path, Effect.OUTPUT] = Field(default=Path("runs/study"), description="study folder")
    prepare: Prepare = Prepare()
    label: str = Field(default="", description="shown with every result, e.g. the world and the teacher")
    simulated: bool = Field(default=False, description="true when the teacher is simulated")
    base: ModelPath = Field(default=Path(""), description="model folder, or fetched Hub model, all arms start from")
    board: Path = Field(default=Path(""), description="JSONL of held-out samples")
    bases: dict[str, ModelPath] = Field(default={}, description="further models by name, each evaluated untrained")
    data: dict[str, Path] = Field(default={}, description="data sets by name; rl is the default of grpo arms")
    sets: dict[str, MadeSet] = Field(default={}, description="data sets that the study makes, by name")
    arms: dict[str, Arm] = Field(default={}, description="arms by name")
    only: list[str] = Field(default=[], description="arms that run, and those that they need; empty: all")
    reference: str = Field(default="base", description="the arm that the others are measured against")
    comparisons: list[tuple[str, str]] = Field(
        default=[], description="pairs of arms whose difference is reported; empty: every arm against the reference"
    )
    question: Question = Question()
    seeds: list[int] = Field(default=[0, 1, 2], description="every arm runs once per seed")
    sft: dict[str, Any] = Field(default={}, description="shared settings of all sft stages")
    grpo: dict[str, Any] = Field(default={}, description="shared settings of all grpo stages")
    eval: dict[str, Any] = Field(default={}, description="shared settings of all evaluations")
    evals: dict[str, FurtherEval] = Field(default={}, description="further evaluations by name")
    matched_on: list[str] = Field(
        default=[], description="axes of effort on which compared trained arms agree within 2 %; else `not matched`"
    )
    accept_unmatched: bool = Field(default=False, description="compare such arms all the same, and label it")
    equivalent_within: float = Field(
        default=2.0, ge=0, description="points; indistinguishable arms closer than this are `equivalent`; 0: not tested"
    )
    pair_seeds: bool = Field(
        default=False, description="count two runs of one seed as a pair: only where a shared seed makes runs alike"
    )
    handicapped: list[str] | Literal["auto"] = Field(
        default=[], description="kinds on which the base is held back by design: the headline stands without them too"
    )
    published: str = Field(default="", description="file#table of published numbers to stand beside ours")
    throughput: Throughput = Throughput()
    checker: str = Field(default="", description="module:function that checks the steps of a trace; empty: none")
    reuse: Annotated[tuple[Path, ...], Effect.PLACE] = Field(
        default=(),
        description="other study folders: stages that they finished with equal settings and inputs are copied",
    )
    workers: int = Field(default=0, ge=0, description="stages at once; 0: one per GPU, or one per core without a GPU")

    @field_validator("arms", "bases", "data", "sets", "evals")
    @classmethod
    def _folders(cls, named: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Names become folders. Raises UserError."""
        taken = ["base"] if info.field_name in ("arms", "bases") else []
        check_names(named, str(info.field_name), where_of(info), taken)
        return named

    @model_validator(mode="after")
    def _one_meaning_per_name(self) -> StudyConfig:
        for first, second in (("arms", "bases"), ("data", "sets")):
            if both := getattr(self, first).keys() & getattr(self, second).keys():
                raise ValueError(f"{min(both)} is a name of {first} and of {second}")
        return self
