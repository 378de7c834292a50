"""Settings of `seethink eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from seethink.ask.prices import find_price
from seethink.core.config import Config, Effect, Seed
from seethink.core.errors import UserError
from seethink.core.url import BaseUrl, KeyName
from seethink.rewards.config import JudgeConfig, RewardConfig
from seethink.train.config import ModelConfig, ModelPath, system_prompt

TASKS = ("rows", "mathvista", "mathvision", "mathverse", "dynamath", "wemath", "logicvista", "geoqa")


class EvalConfig(Config):
    """Evaluate a model folder, an OpenAI-compatible endpoint, or a file of predictions on a board."""

    first: ClassVar[str] = "data task model base_url predictions out max_tokens temperature max_pixels judge.url limit"
    former: ClassVar[dict[str, str]] = {"board": "data"}

    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")
    task: str = Field(
        default="rows",
        description=f"which board: {', '.join(TASKS)} (a JSONL of your own: rows), or one you wrote: my_board.py:BOARD",
    )
    data: Annotated[Path, Effect.INPUT] = Field(description="its published file or folder; of rows, the JSONL")
    model: Annotated[str, Effect.INPUT] = Field(default="", description="model folder, or the model's name at base_url")
    base_url: Annotated[BaseUrl, Effect.PLACE] = Field(
        default="", description="OpenAI-compatible endpoint; empty: run the model folder here"
    )
    predictions: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description='score these answers and ask nobody: JSONL of {"id", "text", "extraction"?}'
    )
    profile: str = Field(
        default="", description="how it is scored: leaderboard, official or strict; empty: the board's first"
    )
    prompt: Annotated[str, Effect.INPUT] = Field(
        default="",
        description="how it is asked: leaderboard, official, direct, reasoning, or @file with {question} and {options}; "
        "empty: the first",
    )
    judge: JudgeConfig = Field(default=JudgeConfig(), description="who reads what rules cannot; no url: nobody")
    accept_failures: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="give a score although answers or judgements are missing; they count as not right"
    )
    images: Literal["own", "blank", "shuffled"] = Field(
        default="own", description="control: blank, or another item's, to see what a score owes to the pictures"
    )
    min_pixels: int | None = Field(default=None, ge=1, description="smaller pictures are enlarged; none: the model's")
    max_pixels: int | None = Field(default=None, ge=1, description="larger pictures are shrunk (paper: 262144)")
    samples: int = Field(default=1, ge=1, description="answers per item; more than one needs a temperature")
    against: Annotated[ModelPath | None, Effect.INPUT] = Field(
        default=None,
        description="model folder, usually the one that training started from: adds entropy and KL(model || it) per token "
        "of the answers",
    )
    api_key_env: Annotated[KeyName, Effect.PLACE] = Field(
        default="OPENAI_API_KEY", description="environment variable that holds the endpoint's key"
    )
    price: Annotated[tuple[float, float] | None, Effect.PLACE] = Field(
        default=None,
        description="of the endpoint: USD per million prompt, completion tokens; none: the list price, where there is one",
    )
    budget: Annotated[float | None, Effect.PLACE] = Field(
        default=None, gt=0, description="USD for the endpoint in all; needs a price"
    )
    system: Annotated[str | None, Effect.INPUT] = Field(
        default=None, description='system prompt, or @file; none: the system.txt of a model folder; "": no prompt'
    )
    chat_template: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="of a model folder: file with the chat template (Jinja); none: the model's own"
    )
    stop: tuple[str, ...] = Field(
        default=(), description="of a model folder: tokens that end an answer besides the model's own"
    )
    temperature: float = Field(default=0.0, ge=0, description="0 is greedy")
    max_tokens: int = Field(
        default=1024, ge=1, description="completion tokens (paper: 800); longer ones are cut and counted"
    )
    tokens_param: Annotated[Literal["max_tokens", "max_completion_tokens"], Effect.PLACE] = Field(
        default="max_tokens", description="name under which the endpoint takes max_tokens"
    )
    batch: Annotated[int, Effect.MANNER] = Field(default=128, ge=1, description="prompts or requests at once")
    engine: Annotated[Literal["local", "vllm"], Effect.MANNER] = Field(
        default="local", description="what runs a model folder: the project's own sampler, or vLLM where installed"
    )
    gpus: Annotated[int, Effect.PLACE] = Field(
        default=1, ge=0, description="processes here, one per GPU, that share the items; 0 or 1: this one"
    )
    device: Annotated[Literal["auto", "cpu"], Effect.PLACE] = Field(
        default="auto", description="auto: a GPU where there is one; cpu: leave GPUs alone"
    )
    limit: int = Field(default=0, ge=0, description="only the first rows of the board; 0: all")
    skip_bad: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="leave items that cannot be used out (drops.parquet) instead of stopping"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="compute precision of a model folder; auto: bfloat16 where the processor has it"
    )
    reward: RewardConfig = RewardConfig()
    seed: Seed = Field(default=0, description="sampling, when temperature > 0, and which pictures are exchanged")
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False,
        description="start afresh where the folder holds a run with other settings, or of another base_url",
    )

    @model_validator(mode="after")
    def _who_answers(self) -> EvalConfig:
        if self.predictions is None and not self.model:
            raise ValueError("nobody answers: give model (and base_url), or predictions")
        if self.predictions is not None and (self.base_url or self.samples > 1 or self.images != "own"):
            raise ValueError("predictions were made elsewhere: leave base_url, samples and images out")
        if self.predictions is not None and (self.min_pixels or self.max_pixels):
            raise ValueError("predictions were made elsewhere: leave min_pixels and max_pixels out")
        if (self.base_url or self.predictions is not None) and (self.gpus > 1 or self.engine == "vllm"):
            raise ValueError("gpus and engine are for a model folder: leave them out")
        if self.gpus > 1 and self.engine == "vllm":
            raise ValueError(
                "engine vllm is for one process: serve the model with vLLM and give base_url, or leave gpus out"
            )
        if self.against is not None and (self.base_url or self.predictions is not None or self.engine == "vllm"):
            raise ValueError("against needs the probabilities of a model folder, by engine local: leave it out")
        if (self.price or self.budget) and not self.base_url:
            raise ValueError("price and budget are for an endpoint: give base_url")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples at temperature 0 are all the same: give a temperature")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is larger than max_pixels")
        return self


class FingerprintConfig(Config):
    """Make a list of hashes by which `data` and `curate` find the items of a benchmark among their rows."""

    task: str = Field(default="rows", description="which board, as in eval; rows: a JSONL of your own")
    data: Path = Field(description="its published file or folder")
    pictures: bool = Field(default=True, description="hash its pictures, where they are there; false: the texts alone")
    out: Annotated[Path, Effect.OUTPUT] = Field(description="list to write, NAME.jsonl")


def check_judge(judge: JudgeConfig) -> None:
    """Raises UserError for half a judge: before responses are made and paid."""
    if judge.url and not judge.model:
        raise UserError("the judge has no model", remedy="Give --judge.model, as the endpoint knows it")
    if judge.url and judge.budget is not None:
        find_price(judge.model, judge.url, judge.price).need(judge.model)


def model_of(config: EvalConfig) -> ModelConfig:
    """The model folder of an evaluation, as trainers name theirs."""
    return ModelConfig(
        path=Path(config.model),
        system=config.system,
        dtype=config.dtype,
        chat_template=config.chat_template,
        stop=config.stop,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
    )


def against_of(config: EvalConfig, path: Path) -> ModelConfig:
    """The model that it is compared with, which reads the prompts that were made for the first."""
    return model_of(config).model_copy(update={"path": path, "system": "", "stop": ()})


def prompt_of(config: EvalConfig) -> str:
    """System prompt: the text itself, @file, or system.txt beside the weights of a local model."""
    if config.predictions or (config.base_url and config.system is None):
        return ""
    return system_prompt(model_of(config))


def prompt_in_words(config: EvalConfig) -> str:
    """Where the system prompt comes from and how it begins."""
    text, of_model = prompt_of(config), config.system is None and not config.base_url
    start = text if len(text) <= 60 else f"{text[:60]}..."
    return f"system prompt{' of the model' if of_model else ''}: {start!r}" if text else "no system prompt"


class CompareConfig(Config):
    """Compare two evaluations of one board item by item: other models, other settings, or other profiles of the same answers."""

    input: Path = Field(description="folder of the first evaluation")
    other: Path = Field(description="folder of the second")
    out: Annotated[Path, Effect.OUTPUT] = Field(
        description="folder for compare.html, compare.md, compare.json, pairs.parquet"
    )
    seed: Seed = Field(default=0, description="of the bootstrap")


class TableConfig(Config):
    """The paper's table of six benchmarks, with published rows beside ours."""

    runs: tuple[Path, ...] = Field(description="evaluation folders, of one model or several")
    out: Annotated[Path, Effect.OUTPUT] = Field(description="folder for table.html, table.md and table.json")


class JudgeCheckConfig(Config):
    """Measure a judge on items with known verdicts: agreement, false positives, kappa, cost."""

    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")
    items: Annotated[Path, Effect.INPUT] = Field(
        description='JSONL of {"question", "gold", "response", "right"} and, where known, "extraction", "choices", "form"; '
        "or scores.parquet of an evaluation, whose decided rows are the items"
    )
    judge: JudgeConfig = Field(default=JudgeConfig(), description="the judge to measure")
    limit: int = Field(default=0, ge=0, description="only the first items; 0: all")
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="start afresh where the folder holds another run"
    )
