"""What a run takes of GPUs, disk and time, said before it starts: the page of `--dry-run`, from the plan of memory.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from seethink.train.config import GRPOConfig, ModelConfig, SFTConfig
from seethink.train.memory import (
    CONTEXT,
    GB,
    MOMENTS,
    SLACK,
    Holding,
    MemoryPlan,
    Shapes,
    fitted,
    memory_plan,
    precision,
    precision_of,
    shapes,
)
from seethink.train.model.policy import FEATURES_LIMIT
from seethink.train.preflight import Longest

Change = tuple[str, Callable[[Any], Any]]

CHANGES: tuple[Change, ...] = (
    ("--micro_tokens 4096", lambda c: c.model_copy(update={"micro_tokens": min(c.micro_tokens, 4096)})),
    ("--rollout_prompts 32", lambda c: c.model_copy(update={"rollout_prompts": 32} if _samples(c) else {})),
    ("--model.checkpoint_layers true", lambda c: _of_model(c, checkpoint_layers=True)),
    ("--gpus 8", lambda c: c.model_copy(update={"gpus": max(c.gpus, 8)})),
    ("--offload true", lambda c: c.model_copy(update={"offload": not _samples(c, "vllm")})),
    ("--optim.moments 8bit", lambda c: c if c.gpus > 1 or c.offload else _of_optim(c, moments="8bit")),
    ("--model.lora_rank 64", lambda c: _of_model(c, lora_rank=c.model.lora_rank or 64)),
)
"""Single settings that make a run smaller, those first that change no result."""


def _samples(config: Any, engine: str = "") -> bool:
    return isinstance(config, GRPOConfig) and engine in ("", config.sampler.engine)


def _of_model(config: Any, **changes: Any) -> Any:
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _of_optim(config: Any, **changes: Any) -> Any:
    return config.model_copy(update={"optim": config.optim.model_copy(update=changes)})


def what_would_fit(config: Any, longest: Longest, precision: str, capacity: float) -> str:
    """The first single setting with which the run fits, the first pair where none does; empty where no pair does."""
    pairs = [(a, b) for i, a in enumerate(CHANGES) for b in CHANGES[i + 1 :]]
    known: dict[int, Shapes] = {}  # of CHANGES only LoRA makes them others
    for changes in (*((change,) for change in CHANGES), *pairs):
        changed = config
        for _, change in changes:
            changed = change(changed)
        rank = changed.model.lora_rank
        of = known[rank] = known.get(rank) or shapes(changed.model, precision)
        if memory_plan(changed, of, longest, precision).needed <= capacity:
            return " ".join(name for name, _ in changes)
    return ""


def reading_in_words(settings: ModelConfig, prompts: int, rows: int, longest: Longest, completion: int) -> str:
    """For a dry run that trains nothing: weights, and what `prompts` prompts computed at once take with `rows` rows that decode.

    Frozen weights are held in the precision of the computation, where that loses nothing.
    """
    kind = precision(settings.dtype)
    of = shapes(settings.model_copy(update={"lora_rank": 1, "freeze_vision": True}), kind)
    number = 2 if kind == "bfloat16" else 4
    tokens = prompts * longest.prompt
    cache = (tokens + rows * completion) * of.layers * 2 * of.keys * number
    passing = max(rows * of.vocabulary * 16, tokens * (of.layer(False, kind) + 4 * of.hidden))
    needed = (of.held + of.frozen_vision + cache + passing) * (1 + SLACK) + CONTEXT
    words = f"weights {(of.held + of.frozen_vision) / GB:.1f}, keys and values {cache / GB:.1f}, a layer or logits {passing / GB:.1f}"
    here = gpu_here()
    fits = "" if not here else f"; it {'fits' if needed <= here * GB else 'does NOT fit'} into the {here:.0f} GB here"
    return f"memory of a GPU, GB: {words}; with the margin {needed / GB:.1f}{fits}"


class Needs(NamedTuple):
    """What a run takes, in gigabytes, and all of it in words."""

    gpu_gb: float
    """Of each GPU."""
    fits: bool | None
    """None where no GPU is known."""
    disk_gb: float
    words: str


def needs(config: SFTConfig | GRPOConfig, longest: Longest, steps: int, generated: int) -> Needs:
    """Memory by part, whether it fits and what would make it fit, disk, tokens and hours; in words it is one page."""
    kind, capacity = precision_of(config), (config.gpu_gb or gpu_here()) * GB
    config = fitted(config, longest, capacity) if capacity else config  # as the run would choose there
    of = shapes(config.model, kind)
    plan = memory_plan(config, of, longest, kind)
    unit, word = (1e9, "billion") if of.parameters >= 1e8 else (1e6, "million")
    size, short = (GB, "GB") if plan.peak[1] >= GB else (1e6, "MB")
    lines = [
        f"memory of each of {max(config.gpus, 1)} GPUs: {of.parameters / unit:.2f} {word} parameters, {of.trained / unit:.2f} of them "
        f"train, {kind}; longest prompt {longest.prompt:,} tokens",
        *(f"  {part.bytes / size:7.1f} {short}  {part.name}{_when(part)}" for part in plan.parts),
        f"  {plan.peak[1] / size:7.1f} {short}  at the most, while {plan.peak[0]}; a GPU needs {plan.needed / GB:.1f} GB "
        f"({SLACK:.0%} for fragments, {CONTEXT / GB:g} GB for CUDA)",
        *(f"  not counted: {what}" for what in plan.unknown),
    ]
    if not capacity:
        lines.append("  whether it fits is not known without a GPU here: say --gpu_gb")
    elif plan.needed <= capacity:
        lines.append(f"  it fits into {capacity / GB:.0f} GB")
    else:
        way = what_would_fit(config, longest, kind, capacity)
        lines.append(
            f"  it does NOT fit into {capacity / GB:.0f} GB; " + (f"it would with {way}" if way else "no setting helps")
        )
    disk, of_disk = on_disk(config, of, steps)
    lines += [host_in_words(config, of, plan), of_disk, hours_in_words(config, generated)]
    fits = plan.needed <= capacity if capacity else None
    return Needs(plan.needed / GB, fits, disk, "\n".join(lines))


def _when(part: Holding) -> str:
    return {"always": "", "host": ", in main memory"}.get(part.phase, f", while {part.phase}")


def gpu_here() -> float:
    """Gigabytes of the smallest GPU of this machine; 0 where there is none."""
    if not torch.cuda.is_available():
        return 0.0
    return min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())) / GB


def host_in_words(config: SFTConfig | GRPOConfig, of: Shapes, plan: MemoryPlan) -> str:
    """Of a machine with all the GPUs; Python and pictures come on top. No process ever reads more than its own weights."""
    gpus, whole = max(config.gpus, 1), 4 * of.parameters
    held, features = gpus * plan.host, gpus * FEATURES_LIMIT if of.frozen_vision else 0
    parts = f"{held / GB:.1f} held, {whole / GB:.1f} to write the model, up to {features / GB:.1f} image features"
    return f"main memory: {(held + whole + features) / GB:.0f} GB ({parts})"


def _gb(size: float) -> str:
    """Gigabytes, of little ones two digits."""
    return f"{size:.0f} GB" if size >= 10 else f"{size:.2g} GB"


def on_disk(config: SFTConfig | GRPOConfig, of: Shapes, steps: int) -> tuple[float, str]:
    """(gigabytes, in words). A checkpoint is replaced only when the next one is complete."""
    checkpoint, model = (4 + MOMENTS[config.optim.moments]) * of.trained / GB, 4 * of.parameters / GB
    exports = steps // config.export_every if config.export_every else 0
    needed = 2 * checkpoint + (1 + exports) * model
    of_exports = f", {exports} exports" if exports else ""
    return (
        needed,
        f"disk: {_gb(needed)} (two checkpoints of {_gb(checkpoint)}, the model {_gb(model)}{of_exports})",
    )


def hours_in_words(config: SFTConfig | GRPOConfig, generated: int) -> str:
    what = f"at most {generated:,} tokens {'to generate' if isinstance(config, GRPOConfig) else 'to compute'}"
    if not config.tokens_per_s:
        return f"{what}; hours are not known: say --tokens_per_s, which every line of metrics.jsonl measures"
    return f"{what}: {generated / config.tokens_per_s / 3600:.1f} hours at {config.tokens_per_s:g} tokens a second"
