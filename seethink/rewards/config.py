"""Settings of the rewards and of `seethink reward score | check | audit | serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from seethink.core.config import Config, Effect
from seethink.core.nouns import KINDS
from seethink.core.url import BaseUrl, KeyName


class BoxConfig(Config):
    """How boxes are paid."""

    measure: Literal["iou", "giou"] = Field(default="iou", description="overlap; giou also tells near misses apart")
    threshold: float | None = Field(default=None, ge=0, le=1, description="pay 1 from this overlap and 0 below it")
    correct: float = Field(default=0.5, description="overlap from which a box counts as correct in accuracy")


class JudgeConfig(Config):
    """The model behind an endpoint that scorer `judge` asks."""

    url: Annotated[BaseUrl, Effect.PLACE] = Field(
        default="", description="OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1"
    )
    model: str = Field(default="", description="model name as the endpoint knows it")
    key_env: Annotated[KeyName, Effect.PLACE] = Field(
        default="OPENAI_API_KEY", description="environment variable with the key"
    )
    price: Annotated[tuple[float, float] | None, Effect.PLACE] = Field(
        default=None, description="USD per million prompt, completion tokens; none: the list price, where there is one"
    )
    budget: Annotated[float | None, Effect.PLACE] = Field(default=None, gt=0, description="USD in all; needs a price")
    max_tokens: int = Field(default=200, ge=1, description="longest reply; a reply that is cut is no grade")
    tokens_param: Annotated[Literal["max_tokens", "max_completion_tokens"], Effect.PLACE] = Field(
        default="max_tokens", description="name under which the endpoint takes max_tokens"
    )
    in_flight: Annotated[int, Effect.PLACE] = Field(default=32, ge=1, description="calls in flight")
    seconds: float = Field(default=120.0, gt=0, description="wall clock per answer, retries included")


class RemoteConfig(Config):
    """Where a reward server scores open answers."""

    url: str = Field(default="", description="address of `seethink reward serve`, for scorer remote")
    token_env: Annotated[KeyName, Effect.PLACE] = Field(
        default="SEETHINK_REWARD_TOKEN", description="environment variable with its token"
    )
    seconds: Annotated[float, Effect.PLACE] = Field(default=600.0, gt=0, description="longest wait for a reply")


class OpenConfig(Config):
    """How open answers are scored, and how a score becomes a reward."""

    scorer: Literal["lexical", "embedding", "model", "chat_model", "judge", "remote"] = Field(
        default="lexical",
        description="token F1, a sentence encoder, a reward model, one with its own code, a judge, or a reward server",
    )
    path: str = Field(default="", description="folder or name of the reward model or sentence encoder")
    revision: str = Field(default="", description="pinned commit of a model that brings its own code")
    cache: Annotated[Path | None, Effect.OUTPUT] = Field(
        default=None, description="SQLite file for scores; none: the run's own"
    )
    mode: Literal["auto", "plain", "vlaa", "shifted", "sigmoid", "calibrated"] = Field(
        default="auto",
        description="formula; auto: the paper's vlaa for reward models, plain for scorers with values in [0, 1]",
    )
    beta: float = Field(default=0.2, gt=0, description="steepness (ScoreRS, whose formula the paper takes, uses 0.2)")
    margin: float = Field(default=1.0, ge=0, description="what mode shifted adds to the difference")
    calibration: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="differences of right and wrong answers for mode calibrated"
    )
    correct: float = Field(default=0.8, description="reward from which an open answer counts as correct in accuracy")
    max_failures: float = Field(default=0.05, ge=0, le=1, description="larger share of missing scores stops the run")
    judge: JudgeConfig = JudgeConfig()
    remote: RemoteConfig = RemoteConfig()


class SymbolicConfig(Config):
    """math-verify, which decides what the own parser cannot read."""

    on: bool = Field(default=True, description="ask it at all")
    workers: Annotated[int, Effect.PLACE] = Field(default=2, ge=1, description="processes")
    item_seconds: float = Field(default=10.0, gt=0, description="wall clock per comparison")
    batch_seconds: float = Field(default=60.0, gt=0, description="wall clock for all comparisons of a batch")


class RewardConfig(Config):
    """What a reward depends on besides the sample and the response."""

    extraction: Literal["strict", "prefilled", "lenient"] = Field(
        default="strict", description="how the tags are read; lenient for evaluation only"
    )
    max_answer_chars: int = Field(default=2000, ge=1, description="longer answers are too_long")
    kind_scale: dict[str, float] = Field(default={}, description="factor in [0, 1] per kind, for ablations; default 1")
    format_bonus: float = Field(default=0.0, ge=0, le=1, description="share of the reward paid for the format alone")
    placebo: Literal["", "none", "format", "random"] = Field(
        default="",
        description="control: rewards without a look at the answer: always 0, for the format alone, or a coin",
    )
    custom: Annotated[str, Effect.CODE] = Field(
        default="", description="module:function or file.py:function that scores instead of our rules; empty: none"
    )
    correct: float | None = Field(
        default=None, ge=0, le=1, description="reward from which an answer counts as right; none: as its kind has it"
    )
    box: BoxConfig = BoxConfig()
    open: OpenConfig = OpenConfig()
    symbolic: SymbolicConfig = SymbolicConfig()

    @model_validator(mode="after")
    def _one_reward(self) -> RewardConfig:
        if other := self.kind_scale.keys() - set(KINDS):
            raise ValueError(f"kind_scale has {min(other)!r}, which is no kind: use {', '.join(KINDS)}")
        if self.placebo and (self.kind_scale or self.format_bonus):
            raise ValueError("a placebo is not scaled: leave kind_scale and format_bonus out")
        if self.placebo and self.custom:
            raise ValueError("give a placebo or a custom reward, not both")
        return self


class ScoreConfig(Config):
    """Score every response of a file."""

    input: Path = Field(description="JSONL of sample rows with a response")
    out: Annotated[Path, Effect.OUTPUT] = Field(
        description="JSONL to write: id, reward (null: undecided), status, answer, detail"
    )
    reward: RewardConfig = RewardConfig()


class CheckConfig(Config):
    """Check the golds of a file before training on it."""

    input: Path = Field(description="JSONL of sample rows")
    out: Annotated[Path | None, Effect.OUTPUT] = Field(default=None, description="JSONL of the bad golds")
    reward: RewardConfig = RewardConfig()


class AuditConfig(Config):
    """Look for rewards that can be had without the right answer."""

    input: Path = Field(description="JSONL of sample rows; with responses more can be said")
    out: Annotated[Path | None, Effect.OUTPUT] = Field(default=None, description="JSON of all findings")
    second: Literal["none", "math-verify"] = Field(
        default="none", description="compare mathematical verdicts with a peer's"
    )
    examples: int = Field(default=20, ge=0, description="disagreements with the peer that are written out")
    calibration: Annotated[Path | None, Effect.OUTPUT] = Field(
        default=None, description="file to write for mode calibrated"
    )
    reward: RewardConfig = RewardConfig()


class ServeConfig(Config):
    """Serve rewards over HTTP."""

    host: str = Field(default="127.0.0.1", description="address to listen on; any other than loopback needs a token")
    port: int = Field(default=8011, ge=0, le=65535, description="0: any free port, which is printed")
    token_env: str = Field(default="SEETHINK_REWARD_TOKEN", description="environment variable with the token")
    seconds: float = Field(default=0.0, ge=0, description="stop by itself after this time; 0: when interrupted")
    reward: RewardConfig = RewardConfig()
