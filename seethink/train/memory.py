"""What a training run takes of a GPU's memory, of the disk and of time, known before it starts.

Bytes are counted, not guessed: weights from the model of the folder, built without its values; activations from what each layer
keeps for its backward pass (KEPT, measured by `tests/rehearsal.py`); the rest from shapes. `tests/test_memory.py` holds the sum
to what torch itself tracks. What depends on the allocator and the driver is a margin, and is named.

Shape letters: L language layers, V vocabulary, P prompt tokens, T completion tokens, G completions a prompt.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from seethink.train.again import open_settings, with_memory
from seethink.train.config import GRPOConfig, ModelConfig, SFTConfig
from seethink.train.dist import Ranks
from seethink.train.loss import GPU_ROWS
from seethink.train.model.parts import reading
from seethink.train.model.policy import Policy, make_trainable
from seethink.train.preflight import Longest

GB = 1e9
CONTEXT, SLACK = 1.5 * GB, 0.05
"""CUDA context and kernels; share that the allocator loses to fragments."""

MOMENTS = {"float32": 8, "8bit": 2 + 2 * 4 / 256}  # bytes per trained weight; 8bit: with a scale for every 256
KEPT = {  # (family, LoRA, precision): bytes per token and layer, for each unit of hidden, query, key and MLP width
    ("qwen2", False, "bfloat16"): (26, 0, 4, 8), ("qwen2", True, "bfloat16"): (18, 0, 4, 8),
    ("qwen3", False, "bfloat16"): (20, 12, 10, 8), ("qwen3", True, "bfloat16"): (12, 10, 8, 8),
    ("qwen2", False, "float32"): (36, 0, 8, 16), ("qwen2", True, "float32"): (28, 0, 8, 16),
    ("qwen3", False, "float32"): (24, 20, 16, 16), ("qwen3", True, "float32"): (16, 16, 12, 16),
}  # fmt: skip


class Holding(NamedTuple):
    """Bytes of one process, and when its GPU has them: always, while sampling, or while updating; or that the host has them."""

    name: str
    bytes: float
    phase: str = "always"


@dataclass(frozen=True)
class Shapes:
    """Sizes of a model, and how many bytes its weights take. `frozen_vision` stays whole on every rank."""

    family: str
    hidden: int
    queries: int
    keys: int
    mlp: int
    layers: int
    vocabulary: int
    parameters: int
    trained: int
    copied: int
    """Trained weights of linear layers: autocast keeps them in bf16 too while a pass lasts."""
    held: int
    frozen_vision: int
    reference: int
    """Bytes of a frozen copy that shares the frozen vision tower; with LoRA there is none."""
    head_trains: bool
    stack: int
    """Weights of the language layers."""
    root: int
    """Bytes of embedding and head, which are whole on every rank while it computes."""
    head_cast: bool
    """Whether the head is held in fp32, and copied for products in bf16."""

    def layer(self, lora: bool, precision: str) -> int:
        """Bytes that a layer keeps for backward, per token."""
        widths = (self.hidden, self.queries, self.keys, self.mlp)
        kept = KEPT["qwen3" if self.family == "qwen3_vl" else "qwen2", lora, precision]
        return sum(each * width for each, width in zip(kept, widths, strict=True))


def shapes(settings: ModelConfig, precision: str) -> Shapes:
    """Of a model folder as it would be trained. Raises UserError for a folder that transformers cannot read."""
    with reading("the model cannot be read", settings.path):
        config = AutoConfig.from_pretrained(settings.path, local_files_only=True, trust_remote_code=False)
        return shapes_of(config, settings, precision)


def shapes_of(config: Any, settings: ModelConfig, precision: str) -> Shapes:
    """Of a transformers config, whose `dtype` is that of its checkpoint."""
    dtype, stored, nothing = getattr(torch, precision), config.dtype or torch.float32, cast(Any, None)
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    policy = Policy(model, nothing, nothing, settings.path, dtype=dtype, stored=stored)
    make_trainable(policy, settings)
    text, weights = config.get_text_config(), dict(model.named_parameters())
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    vision = [p for name, p in weights.items() if ".visual." in name]
    frozen_vision = 0 if any(p.requires_grad for p in vision) else _bytes(vision)
    trained = [p for p in weights.values() if p.requires_grad]
    halved = 2 if dtype == torch.bfloat16 == stored else 4
    shared = {id(p) for p in vision} if frozen_vision else set()
    rest = [p for p in weights.values() if id(p) not in shared]
    embedding = id(model.get_input_embeddings().weight)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shapes(
        family=config.model_type,
        hidden=text.hidden_size,
        queries=head * text.num_attention_heads,
        keys=head * text.num_key_value_heads,
        mlp=text.intermediate_size,
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        parameters=sum(p.numel() for name, p in weights.items() if "lora_" not in name),
        trained=sum(p.numel() for p in trained),
        copied=sum(p.numel() for p in trained if id(p) in linear),
        held=_bytes(weights.values()) - frozen_vision,
        frozen_vision=frozen_vision,
        reference=sum(p.numel() * (halved if id(p) in linear and id(p) != embedding else 4) for p in rest),
        head_trains=model.lm_head.weight.requires_grad,
        stack=sum(p.numel() for name, p in weights.items() if ".layers." in name and ".visual." not in name),
        root=_bytes({id(p): p for p in (model.get_input_embeddings().weight, model.lm_head.weight)}.values()),
        head_cast=model.lm_head.weight.dtype != dtype,
    )


def _bytes(weights: Any) -> int:
    return sum(p.numel() * p.element_size() for p in weights)


@dataclass(frozen=True)
class MemoryPlan:
    """Parts of one GPU's memory, and what its process holds on the host."""

    parts: list[Holding]
    tokens: int
    """Computed at once in an update."""
    unknown: list[str] = field(default_factory=list)

    def phase(self, name: str) -> float:
        """Bytes that are taken while a phase lasts."""
        return sum(part.bytes for part in self.parts if part.phase in ("always", name))

    @property
    def host(self) -> float:
        """Bytes in main memory, of one process."""
        return sum(part.bytes for part in self.parts if part.phase == "host")

    @property
    def peak(self) -> tuple[str, float]:
        """(phase, bytes) at the worst moment."""
        return max(((name, self.phase(name)) for name in ("sampling", "updating")), key=lambda pair: pair[1])

    @property
    def needed(self) -> float:
        """Bytes that a GPU must have for it, with the margin."""
        return self.peak[1] * (1 + SLACK) + CONTEXT


def memory_plan(config: SFTConfig | GRPOConfig, of: Shapes, longest: Longest, precision: str) -> MemoryPlan:
    """On one of the run's GPUs. Sharded weights are split over those that share a copy; what is computed is not."""
    gpus, lora, number = max(config.gpus, 1), config.model.lora_rank > 0, 2 if precision == "bfloat16" else 4
    grpo = config if isinstance(config, GRPOConfig) else None
    sharded, shards, rest = gpus > 1 or config.offload, gpus / config.replicas, "host" if config.offload else "always"
    moments = MOMENTS[config.optim.moments]
    parts = [
        Holding("weights", of.held / shards, rest),
        *([Holding("frozen vision tower", of.frozen_vision)] if of.frozen_vision else []),
        Holding("AdamW's moments", moments * of.trained / shards, rest),
    ]
    if grpo and grpo.kl > 0 and not lora:
        parts.append(Holding("reference", of.reference / shards, rest))
    if not grpo:
        parts.append(
            Holding("a copy to roll back to", (4 + moments) * of.trained / shards, rest if sharded else "host")
        )
    least, largest, of_step = longest.row, longest.row, getattr(config, "batch_size", 0)
    if grpo:  # a group over `micro_tokens` is computed in turns
        least, largest = longest.prompt + grpo.max_tokens, longest.prompt + grpo.group * grpo.max_tokens
        of_step = grpo.update_prompts
    tokens = max(least, min(config.micro_tokens, of_step * largest))
    layer = of.layer(lora, precision)
    parts += [
        Holding("gradients", 4 * of.trained / shards, "host" if config.offload else "updating"),
        *computing(config.model, of, layer, tokens, number),
    ]
    casts = 2 * of.copied
    if tokens < largest:
        # cut off, their gradients, and beside a turn's own
        thrice = 3 * 2 * of.keys * number * of.layers * longest.prompt
        parts.append(Holding(f"keys and values shared by turns of a group of {largest:,} tokens", thrice, "updating"))
        casts *= 1 if config.model.checkpoint_layers else 2  # the prompt's graph has its own
    if sharded:
        width = number + (4 / shards if config.offload else 0)  # from the host comes fp32
        parts.append(Holding("layers gathered", 2 * width * of.stack / of.layers + of.root, "updating"))
    elif number == 2:
        parts.append(Holding("weights in bf16, for the products", casts, "updating"))
    if grpo and grpo.sampler.engine == "local":
        parts += sampling(grpo, of, longest, layer, number)
        if number == 2 and not sharded:
            head = number * of.vocabulary * of.hidden if of.head_cast else 0
            parts.append(Holding("weights in bf16, for a rollout's products", 2 * of.copied + head, "sampling"))
    if grpo and sharded:
        parts.append(Holding("layers gathered", number * of.stack + of.root, "sampling"))
    unknown = [] if of.frozen_vision else ["activations of the vision tower, which trains"]
    if grpo and grpo.teacher:
        unknown.append("the teacher")
    if grpo and grpo.reward.open.scorer in ("model", "chat_model"):
        unknown.append("the reward model, which visits between sampling and updating")
    if grpo and grpo.sampler.engine == "vllm":
        unknown.append(f"vLLM: {grpo.sampler.memory:.0%} of the GPU while sampling")
    return MemoryPlan(parts, tokens, unknown)


def computing(model: ModelConfig, of: Shapes, layer: int, tokens: int, number: int) -> list[Holding]:
    """What a pass holds: activations (the residual stream is fp32), logits of a chunk, the gradient of the head.

    Checkpointed layers keep their inputs; what one of them computes again has gone before there are logits, and comes after.
    """
    stream, weight, rows = 4 * of.hidden * tokens, of.vocabulary * of.hidden, min(GPU_ROWS, tokens)
    logits = rows * of.vocabulary * (4 + number) + (number * weight if of.head_cast else 0)
    logits += number * weight if of.head_trains else 0  # of one chunk, before it is added up
    gradient = [Holding("gradient of the head", 4 * weight, "updating")] if of.head_trains else []
    if not model.checkpoint_layers:
        kept = Holding(f"activations of {tokens:,} tokens", tokens * layer * of.layers + 3 * stream, "updating")
        return [kept, Holding("logits of a chunk, and the head in their precision", logits, "updating"), *gradient]
    again = tokens * (layer + 6 * of.mlp)
    larger = ("logits of a chunk, and the head in their precision", logits), ("a layer computed again", again)
    name = f"inputs of layers, and all of the last one, {tokens:,} tokens"
    return [
        Holding(name, stream * (of.layers + 2) + tokens * layer, "updating"),
        Holding(*max(larger, key=lambda pair: pair[1]), "updating"),
        *gradient,
    ]


def sampling(config: GRPOConfig, of: Shapes, longest: Longest, layer: int, number: int) -> list[Holding]:
    """What the local sampler holds: keys and values of prompts and completions, logits, and what is kept of prompts to train on."""
    rows = min(config.rollout_prompts, config.prompts) * config.group
    tokens = rows * config.max_tokens + rows // config.group * longest.prompt
    parts = [
        Holding(f"keys and values of {tokens:,} tokens", tokens * of.layers * 2 * of.keys * number, "sampling"),
        Holding("logits", rows * of.vocabulary * 16, "sampling"),
    ]
    if config.gpus <= 1 and not config.offload and config.reuse_prefill and not config.model.checkpoint_layers:
        largest = longest.prompt + config.group * config.max_tokens
        kept = max(1, min(config.update_prompts, config.micro_tokens // largest)) * longest.prompt
        parts.append(Holding(f"prompts kept to train on, {kept:,} tokens", kept * layer * of.layers, "sampling"))
    return parts


# ---------------------------------------------------------------------------------------------------------- fitted to a GPU


def fitted(config: Any, longest: Longest, capacity: float) -> Any:
    """The settings with `checkpoint_layers` and `micro_tokens` as they fit into a GPU of so many bytes, unless they were set.

    They change time and memory, not results. Where nothing fits, the smallest are taken.
    """
    free = open_settings(config)
    if not any(free):
        return config
    kind, found = precision_of(config), config
    of = shapes(config.model, kind)  # the same whichever are chosen
    for again, tokens in ((False, 16384), (False, 8192), (True, 16384), (True, 8192), (True, 4096)):
        found = with_memory(
            config, tokens if free[0] else config.micro_tokens, again if free[1] else config.model.checkpoint_layers
        )
        if memory_plan(found, of, longest, kind).needed <= capacity:
            break
    return found


def fit_here(config: Any, longest: Longest, ranks: Ranks) -> Any:
    """`fitted` to this rank's GPU, alike on all ranks, and said; on a CPU the settings as they are."""
    capacity = capacity_of(ranks)
    if not capacity:
        return config
    longest, shared = ranks.of_first(longest), config.model_copy(update={"gpus": ranks.world})
    found = fitted(shared, longest, capacity)
    if ranks.first:
        again = "computed again" if found.model.checkpoint_layers else "kept"
        print(f"memory: {found.micro_tokens} tokens at once, activations of layers {again}", file=sys.stderr)
        kind = precision_of(found)
        needed = memory_plan(found, shapes(found.model, kind), longest, kind).needed
        if needed > capacity:
            here = f"a GPU here has {capacity / GB:.0f}"
            print(f"  ! planned are {needed / GB:.0f} GB, {here}: --dry-run says what would fit", file=sys.stderr)
    return found.model_copy(update={"gpus": config.gpus})


def capacity_of(ranks: Ranks) -> float:
    """Bytes of the smallest GPU of the run, alike on all ranks; 0 on CPUs."""
    if ranks.device.type != "cuda":
        return 0.0
    return min(ranks.gather([float(torch.cuda.get_device_properties(ranks.device).total_memory)]))


def precision_of(config: SFTConfig | GRPOConfig) -> str:
    """As a GPU would compute it, whatever this machine has."""
    return precision(config.model.dtype)


def precision(name: str) -> str:
    return "bfloat16" if name == "auto" else name
