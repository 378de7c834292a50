"""Settings of `sft`, `grpo` and `select`; no torch here, so that help and --dry-run answer at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from seethink.core.config import Config, Effect, Seed, whole
from seethink.core.errors import UserError
from seethink.core.fields import refuse_tokens
from seethink.core.hub import HUB_NAME
from seethink.core.nouns import kind_of
from seethink.core.shipped import here_or_shipped
from seethink.core.store import read_text
from seethink.core.url import OpenUrls
from seethink.rewards.config import RewardConfig

PACKAGE = Path(__file__).parents[1]  # pocket/base in it is a model
LORA_LR = 1e-4  # adapters hardly move at the rates of full training


def local_model(path: Path) -> Path:
    """The folder; of a model on the Hub (org/name) that was fetched, its folder in the cache; of `pocket/base`, the shipped one."""
    if not HUB_NAME.fullmatch(str(path)) or path.exists():
        return path
    if (shipped := PACKAGE / path).joinpath("config.json").is_file():
        return shipped
    try:
        from huggingface_hub import snapshot_download  # here: it comes with torch, and is slow to import
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return path
    try:
        return Path(snapshot_download(str(path), local_files_only=True))
    except (FileNotFoundError, HFValidationError):
        return path


ModelPath = Annotated[Path, AfterValidator(whole), AfterValidator(local_model)]
"""A folder, or org/name of a model that huggingface_hub has in its cache."""


class ModelConfig(Config):
    """The model, its prompt, and which of its weights train."""

    path: Annotated[ModelPath, Effect.INPUT] = Field(
        description="folder, or fetched Hub model (org/name), of Qwen2-VL, Qwen2.5-VL or Qwen3-VL; pocket/base: the shipped one"
    )
    system: Annotated[str | None, Effect.INPUT] = Field(
        default=None, description='system prompt, or @file; none: the system.txt of the model folder; "": no prompt'
    )
    chat_template: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="file with the chat template (Jinja); none: the model's own, which base models lack"
    )
    stop: tuple[str, ...] = Field(
        default=(), description="tokens that end a completion besides the model's own; the first one ends every turn"
    )
    min_pixels: int | None = Field(default=None, ge=1, description="smaller pictures are enlarged; none: the model's")
    max_pixels: int | None = Field(default=None, ge=1, description="larger pictures are shrunk; none: the model's")
    freeze_vision: bool = Field(default=True, description="keep the vision tower as it is (paper: yes)")
    freeze_projector: bool = Field(default=True, description="keep the projector between vision and language as it is")
    lora_rank: int = Field(
        default=0, ge=0, strict=True, description="rank of LoRA on the language layers; 0: train all weights"
    )
    lora_alpha: float = Field(default=32.0, gt=0, description="LoRA scale: updates are multiplied by alpha / rank")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="compute precision: bfloat16 autocast, or float32; auto: bfloat16 where the processor has it",
    )
    checkpoint_layers: Annotated[bool, Effect.MANNER] = Field(
        default=False,
        description="compute language layers again in the backward pass instead of keeping their activations",
    )
    max_prompt_tokens: Annotated[int, Effect.PLACE] = Field(
        default=8192, ge=1, description="longer prompts are refused at load, never cut"
    )


class OptimConfig(Config):
    """AdamW and its learning rate."""

    lr: float = Field(default=1e-6, gt=0, description=f"peak learning rate; where not given, {LORA_LR:g} with LoRA")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="learning rate after warm-up: down a cosine to lr_floor (paper), or constant"
    )
    lr_floor: float = Field(default=5e-7, ge=0, description="the cosine schedule ends here (paper: 5e-7)")
    decay_steps: int = Field(
        default=0,
        ge=0,
        description="optimiser steps that warm-up and cosine are laid out over, after which the rate stays; 0: those of the run",
    )
    warmup: float = Field(default=0.03, ge=0, le=1, description="share of steps with rising rate (paper: 3 %)")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the mean gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="AdamW's decay of its square")
    moments: Literal["float32", "8bit"] = Field(
        default="float32",
        description="how AdamW's two means are held; 8bit: 2 bytes a weight in place of 8, by bitsandbytes, on one process",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, allow_inf_nan=True, description="gradient norm is clipped to this; inf: never"
    )


def known_kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    """Canonical names, each once. Raises UserError for an unknown one."""
    return tuple(sorted({kind_of(name, "kinds") for name in names}))


class JobConfig(Config):
    """What every verb shares that computes with a model."""

    out: Annotated[Path, Effect.OUTPUT, AfterValidator(whole)] = Field(description="run folder")
    data: Annotated[Path, Effect.INPUT] = Field(description="JSONL of samples: with completions, for grpo with golds")
    limit: int = Field(default=0, ge=0, description="use only this many rows; 0: all")
    micro_tokens: Annotated[int, Effect.MANNER] = Field(
        default=16384,
        ge=1,
        description="tokens computed at once, at least a prompt with one completion; memory, not results, depend on it",
    )
    skip_bad: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="leave rows that cannot be used out (drops.parquet) instead of stopping"
    )
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="start afresh where the folder holds a run with other settings"
    )
    gpus: Annotated[int, Effect.PLACE] = Field(
        default=1, ge=0, description="processes here, one per GPU, that share the work; 0 or 1: this one"
    )
    device: Annotated[Literal["auto", "cpu"], Effect.PLACE] = Field(
        default="auto", description="auto: a GPU where there is one; cpu: leave GPUs alone"
    )


class WatchConfig(Config):
    """Held-out accuracy while a model trains; training does not notice."""

    data: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="JSONL of held-out samples, asked with their own pictures; none: not watched"
    )
    every: Annotated[int, Effect.MANNER] = Field(
        default=10, ge=1, description="steps, or rounds, between evaluations; also before the first and after the last"
    )
    limit: Annotated[int, Effect.MANNER] = Field(
        default=0, ge=0, description="only so many of them, the same ones in every run; 0: all"
    )
    max_tokens: Annotated[int | None, Effect.MANNER] = Field(
        default=None, ge=1, description="tokens of an answer; none: those of the rollouts, in sft 1024"
    )
    rows: Annotated[int, Effect.MANNER] = Field(default=128, ge=1, description="answers decoded at once")


class ScoredWatchConfig(WatchConfig):
    """The same where training itself has no rewards."""

    reward: RewardConfig = RewardConfig()


class TrainingConfig(JobConfig):
    """What both trainers share."""

    model: ModelConfig
    optim: OptimConfig = OptimConfig()
    watch: WatchConfig = WatchConfig()
    export_every: Annotated[int, Effect.MANNER] = Field(
        default=0, ge=0, description="steps, or rounds, between plain model folders under exports/; 0: none"
    )
    images: Literal["own", "blank", "shuffled"] = Field(
        default="own", description="control: train on blank pictures, or another row's, to see what is learned without"
    )
    kinds: Annotated[tuple[str, ...], AfterValidator(known_kinds)] = Field(
        default=(), description="use only rows of these reward kinds; empty: all"
    )
    save_every: Annotated[int, Effect.MANNER] = Field(
        default=10, ge=1, description="steps, or rounds, between checkpoints"
    )
    keep_state: Annotated[bool, Effect.PLACE] = Field(
        default=False,
        description="keep checkpoint and logs of a finished run, so that it can go on when it is made longer",
    )
    seed: Seed = Field(default=0, description="data order and sampling")
    replicas: Annotated[int, Effect.PLACE] = Field(
        default=1, ge=1, description="whole copies of the weights, each sharded over its part of the GPUs (HSDP)"
    )
    offload: Annotated[bool, Effect.PLACE] = Field(
        default=False,
        description="keep weights, gradients and moments in the host's memory: far less GPU memory, slower",
    )
    workers: Annotated[int | None, Effect.PLACE] = Field(
        default=None, ge=0, description="threads that prepare the next round's pictures; none: 8 beside a GPU, else 0"
    )
    track: Annotated[Literal["none", "trackio", "wandb", "tensorboard"], Effect.PLACE] = Field(
        default="none", description="tracker that metrics are mirrored to; metrics.jsonl holds them in any case"
    )
    gpu_gb: Annotated[float, Effect.PLACE] = Field(
        default=0.0, ge=0, description="memory of a GPU that --dry-run plans for; 0: that of this machine"
    )
    tokens_per_s: Annotated[float, Effect.PLACE] = Field(
        default=0.0, ge=0, description="speed that --dry-run plans with, as metrics.jsonl measures it; 0: not known"
    )

    @model_validator(mode="after")
    def _whole_replicas(self) -> Self:
        if self.gpus > 1 and self.gpus % self.replicas:  # of processes that torchrun started, `join` knows the number
            raise ValueError(f"replicas {self.replicas} does not divide gpus {self.gpus}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _rate_of_lora(cls, values: Any) -> Any:
        """LORA_LR in place of the verb's default rate where adapters train and no rate is given."""
        model, optim = (values.get(name, {}) for name in ("model", "optim")) if isinstance(values, dict) else ({}, None)
        adapted = model.get("lora_rank") if isinstance(model, dict) else getattr(model, "lora_rank", 0)
        return {**values, "optim": {"lr": LORA_LR, **optim}} if adapted and isinstance(optim, dict) else values


class SFTConfig(TrainingConfig):
    """Imitate: supervised fine-tuning on traces, loss on completions only."""

    first: ClassVar[str] = (
        "data model.path out epochs batch_size optim.lr model.lora_rank model.max_pixels watch.data gpus limit"
    )
    optim: OptimConfig = OptimConfig(lr=1e-5, lr_floor=0.0)
    watch: ScoredWatchConfig = ScoredWatchConfig()
    epochs: float = Field(default=1.0, gt=0, description="passes over the data")
    batch_size: int = Field(default=128, ge=1, description="completions per optimiser step (paper: 128)")
    eval_share: float = Field(default=0.02, ge=0, lt=1, description="share of the data held out for eval_loss")
    spike_factor: float = Field(default=2.0, gt=1, description="a loss this many times its recent median is taken back")
    save_every: Annotated[int, Effect.MANNER] = Field(default=20, ge=1, description="steps between checkpoints")


class SamplerConfig(Config):
    """What samples completions."""

    engine: Literal["local", "vllm", "vllm-server"] = Field(
        default="local",
        description="what samples: the policy itself, vLLM started here (beside every process, on its GPU), or running vLLM servers",
    )
    memory: Annotated[float, Effect.PLACE] = Field(
        default=0.4, gt=0, lt=1, description="share of GPU memory for vLLM started here, free in updates"
    )
    python: Annotated[Path | None, Effect.PLACE] = Field(
        default=None, description="Python of the environment that has vLLM, to start it there; none: this one"
    )
    url: Annotated[OpenUrls, Effect.PLACE] = Field(
        default="http://127.0.0.1:8000", description="address of the vLLM server; several with commas between"
    )
    transfer: Annotated[Literal["auto", "native", "disk"], Effect.PLACE] = Field(
        default="auto",
        description="how servers take weights: over NCCL from GPU to GPU (native), or through a folder; auto: native where it can",
    )
    weights: Annotated[Path | None, Effect.PLACE] = Field(
        default=None, description="folder through which servers take weights, seen by both; none: the run folder"
    )
    tolerance: Annotated[float, Effect.PLACE] = Field(
        default=0.0, ge=0, description="largest log-probability difference allowed; 0: 1e-3 in float32, 0.5 in bfloat16"
    )
    importance_cap: float = Field(default=2.0, gt=0, description="importance weights of vLLM's tokens are cut off here")

    @model_validator(mode="after")
    def _transfer_to_whom(self) -> SamplerConfig:
        if self.transfer != "auto" and self.engine != "vllm-server":
            raise ValueError("sampler.transfer is for --sampler.engine vllm-server: leave it out")
        if self.transfer == "native" and self.weights is not None:
            raise ValueError("sampler.weights is the folder of --sampler.transfer disk: leave one of them out")
        if self.python is not None and self.engine != "vllm":
            raise ValueError("sampler.python is for --sampler.engine vllm: leave it out")
        return self


def subset_file(choose: str, size: int) -> str:
    """Where in its run folder `select` writes the subset of a size."""
    return f"{choose}-{size}.jsonl"


class SelectConfig(JobConfig):
    """Select SFT examples by the perplexity of their completions under one or more models, and cut subsets."""

    models: Annotated[tuple[ModelPath, ...], Effect.INPUT] = Field(
        min_length=1, description="Hugging Face folders; perplexities are averaged over them (paper: two)"
    )
    sizes: tuple[PositiveInt, ...] = Field(default=(), description="examples in each subset (paper: 25000 10000 5000)")
    choose: Literal["highest", "lowest", "middle"] = Field(
        default="highest",
        description="which perplexities a subset takes; smaller subsets lie inside larger ones (paper: highest)",
    )
    system: Annotated[str | None, Effect.INPUT] = Field(
        default=None, description='system prompt, or @file; none: the system.txt of each model folder; "": no prompt'
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="compute precision: bfloat16 autocast, or float32; auto: bfloat16 where the processor has it",
    )
    max_prompt_tokens: Annotated[int, Effect.PLACE] = Field(
        default=8192, ge=1, description="longer prompts are refused, never cut"
    )


class DemosConfig(Config):
    """Demonstrations to imitate between exploring: SFT mixed into GRPO, or interleaved with it."""

    data: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="JSONL of samples with completions; none: no demonstrations"
    )
    weight: float = Field(default=1.0, gt=0, description="of the SFT loss beside the loss of GRPO in an optimiser step")
    every: int = Field(default=1, ge=1, description="rounds from one with demonstrations to the next")
    batch: int = Field(default=16, ge=1, description="demonstrations of such an optimiser step")
    apart: bool = Field(
        default=False,
        description="imitate in an optimiser step of its own, after those of the round, not in each of them",
    )

    @model_validator(mode="after")
    def _weight_beside_what(self) -> DemosConfig:
        if self.apart and self.weight != 1:
            raise ValueError("demonstrations apart have no other loss to be weighed against: leave demos.weight out")
        return self


class GRPOConfig(TrainingConfig):
    """Explore: group-relative policy optimisation with the mixed reward (paper sections 4 and 5)."""

    first: ClassVar[str] = "data model.path out rounds prompts group max_tokens optim.lr model.lora_rank gpus"
    former: ClassVar[dict[str, str]] = {"steps": "rounds"}

    reward: RewardConfig = RewardConfig()
    sampler: SamplerConfig = SamplerConfig()
    demos: DemosConfig = DemosConfig()
    teacher: Annotated[ModelPath | None, Effect.INPUT] = Field(
        default=None,
        description="model to distil from on the policy's own rollouts: its opinion of every token is the advantage, rewards are "
        "only logged; none: rewards are what is learned from",
    )
    rounds: int = Field(default=49, ge=1, description="rounds of sampling and updating (paper: 49)")
    prompts: int = Field(default=512, ge=1, description="prompts of a round (paper: 512)")
    group: int = Field(default=4, ge=2, description="completions per prompt (paper: 4)")
    update_prompts: int = Field(
        default=256, ge=1, description="prompts per optimiser step (the paper's 256 names no unit; ours are prompts)"
    )
    temperature: float = Field(default=0.8, gt=0, description="sampling temperature (paper: 0.8)")
    max_tokens: int = Field(default=1024, ge=1, description="completion tokens; longer ones are cut and counted")
    mask_cut: bool = Field(
        default=False,
        description="completions cut at max_tokens do not train; their rewards still count in their group",
    )
    std_norm: bool = Field(default=True, description="divide advantages of rewards by the group's standard deviation")
    normalisation: Literal["grpo", "dr_grpo", "dapo"] = Field(
        default="grpo", description="how token losses are averaged; grpo: the paper's"
    )
    clip_low: float = Field(default=0.2, ge=0, description="ratio is clipped below at 1 - this")
    clip_high: float = Field(default=0.2, ge=0, description="ratio is clipped above at 1 + this")
    kl: float = Field(default=1e-3, ge=0, description="initial KL coefficient; 0: no reference model (paper: 1e-3)")
    kl_target: float = Field(default=5e-4, ge=0, description="adaptive KL target per token; 0: fixed (paper: 5e-4)")
    kl_horizon: int = Field(default=10_000, ge=1, description="completions over which the KL coefficient adapts")
    rollout_prompts: Annotated[int, Effect.MANNER] = Field(
        default=128, ge=1, description="prompts decoded at once; others wait and enter as rows finish"
    )
    reuse_prefill: Annotated[bool, Effect.MANNER] = Field(
        default=True,
        description="train the first update of a round through the prompts as the rollout computed them, as many as fit into "
        "micro_tokens with their completions: less work, more memory while decoding; not with checkpoint_layers, several processes, "
        "offload or vLLM",
    )

    @model_validator(mode="after")
    def _weights_for_vllm(self) -> GRPOConfig:
        if self.offload and self.sampler.engine == "vllm":  # which takes weights from the GPU that they are on
            raise ValueError("offload does not go with sampler.engine vllm: take vllm-server or local")
        return self


def rate_in_words(config: TrainingConfig) -> str:
    """For a dry run: the learning rate that counts, and of what."""
    lora = f" of LoRA, rank {config.model.lora_rank}" if config.model.lora_rank else ""
    return f"learning rate {config.optim.lr:g}{lora}"


def controls_in_words(config: TrainingConfig) -> str:
    """For a dry run: what is not as usual, each after a semicolon."""
    images = f"; images {config.images}" if config.images != "own" else ""
    kinds = f"; only {', '.join(config.kinds)}" if config.kinds else ""
    watch = f"; watched on {config.watch.data} every {config.watch.every}" if config.watch.data else ""
    return images + kinds + watch + (f"; exported every {config.export_every}" if config.export_every else "")


def system_prompt(model: ModelConfig) -> str:
    """System prompt from the config, from @file, or from system.txt beside the weights. Raises UserError if it is no text to a model."""
    given, beside = model.system, model.path / "system.txt"
    if given is None:
        file = beside if beside.is_file() else None
    else:
        file = here_or_shipped(Path(given[1:])) if given.startswith("@") else None
    text = read_text(file) if file else (given or "").strip()
    refuse_tokens((text,), file or "the system prompt")
    if "\0" in text:
        raise UserError("this is no text (it holds NUL)", where=file or "the system prompt", remedy="Give another one")
    return text
