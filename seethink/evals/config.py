"""Settings of `seethink eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from seethink.core.config import Config, Effect, Seed
from seethink.core.url import BaseUrl, KeyName
from seethink.rewards.config import RewardConfig
from seethink.train.config import ModelConfig, system_prompt


class EvalConfig(Config):
    """Evaluate a model folder, or an OpenAI-compatible endpoint, on a board."""

    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")
    model: Annotated[str, Effect.INPUT] = Field(description="model folder, or the model's name at base_url")
    board: Annotated[Path, Effect.INPUT] = Field(description="JSONL of samples with golds; meta.part names the part")
    base_url: Annotated[BaseUrl, Effect.PLACE] = Field(
        default="", description="OpenAI-compatible endpoint; empty: run the model folder here"
    )
    api_key_env: Annotated[KeyName, Effect.PLACE] = Field(
        default="OPENAI_API_KEY", description="environment variable that holds the endpoint's key"
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
    max_tokens: int = Field(default=1024, ge=1, description="completion tokens; longer ones are cut and counted")
    tokens_param: Annotated[Literal["max_tokens", "max_completion_tokens"], Effect.PLACE] = Field(
        default="max_tokens", description="name under which the endpoint takes max_tokens"
    )
    batch: Annotated[int, Effect.MANNER] = Field(default=128, ge=1, description="prompts or requests at once")
    limit: int = Field(default=0, ge=0, description="only the first rows of the board; 0: all")
    skip_bad: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="leave items that cannot be used out (drops.parquet) instead of stopping"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="compute precision of a model folder; auto: bfloat16"
    )
    reward: RewardConfig = RewardConfig()
    seed: Seed = Field(default=0, description="sampling, when temperature > 0")
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False,
        description="start afresh where the folder holds a run with other settings, or of another base_url",
    )


def model_of(config: EvalConfig) -> ModelConfig:
    """The model folder of an evaluation, as trainers name theirs."""
    return ModelConfig(
        path=Path(config.model),
        system=config.system,
        dtype=config.dtype,
        chat_template=config.chat_template,
        stop=config.stop,
    )


def prompt_of(config: EvalConfig) -> str:
    """System prompt: the text itself, @file, or system.txt beside the weights of a local model."""
    if config.base_url and config.system is None:
        return ""
    return system_prompt(model_of(config))


def prompt_in_words(config: EvalConfig) -> str:
    """Where the system prompt comes from and how it begins."""
    text, of_model = prompt_of(config), config.system is None and not config.base_url
    start = text if len(text) <= 60 else f"{text[:60]}..."
    return f"system prompt{' of the model' if of_model else ''}: {start!r}" if text else "no system prompt"
