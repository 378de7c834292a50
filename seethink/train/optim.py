"""What both trainers share: data order, micro-batches, schedule, precision, checkpoints."""

from __future__ import annotations

import copy
import math
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seethink.core.errors import UserError
from seethink.core.store import hash_text
from seethink.train.config import ModelConfig, OptimConfig
from seethink.train.model import Policy


def data_order(n: int, total: int, seed: int) -> list[int]:
    """Row indices of `total` draws: whole shuffled passes over n rows, the same for every run with this seed."""
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        order += np.random.default_rng((seed, epoch)).permutation(n).tolist()
        epoch += 1
    return order[:total]


def order_hash(ids: list[str]) -> str:
    """Hash of the sample ids in the order a run saw them: equal hashes, equal data order."""
    return hash_text(*ids)


def micro_batches(tokens: list[int], budget: int) -> Iterator[list[int]]:
    """Consecutive indices whose tokens fit the budget; a single item over it travels alone."""
    batch: list[int] = []
    size = 0
    for index, n in enumerate(tokens):
        if batch and size + n > budget:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += n
    if batch:
        yield batch


def learning_rate(step: int, total: int, config: OptimConfig) -> float:
    """Linear warm-up, then cosine from `lr` to `lr_floor`; step counts from 0."""
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    share = (step - warmup) / max(total - warmup - 1, 1)
    return config.lr_floor + (config.lr - config.lr_floor) * (1 + math.cos(math.pi * min(share, 1))) / 2


@dataclass
class Optimiser:
    """AdamW over the trainable parameters, with clipping and the schedule."""

    policy: Policy
    config: OptimConfig
    total_steps: int
    step: int = 0

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.policy.model.parameters() if p.requires_grad]
        # no decay on vectors (norms, biases)
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.999), fused=True)

    def update(self) -> tuple[float, float]:
        """(gradient norm before clipping, learning rate). A gradient that is not finite changes nothing."""
        rate = learning_rate(self.step, self.total_steps, self.config)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if math.isfinite(norm):
            for group in self.adam.param_groups:
                group["lr"] = rate
            self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.step += 1
        return norm, rate

    def state(self) -> dict:
        names = {id(p): n for n, p in self.policy.model.named_parameters()}
        weights = {names[id(p)]: p.detach() for p in self.parameters}
        return {"step": self.step, "adam": self.adam.state_dict(), "weights": weights}

    def state_copy(self) -> dict:
        """A copy that later updates do not touch, for rolling back."""
        return copy.deepcopy(self.state())

    def skip(self) -> None:
        """Spend a step of the schedule without an update."""
        self.adam.zero_grad(set_to_none=True)
        self.step += 1

    def restore(self, state: dict) -> None:
        """Weights, moments and step from `state`."""
        parameters = dict(self.policy.model.named_parameters())
        with torch.no_grad():
            for name, value in state["weights"].items():
                parameters[name].copy_(value)
        self.adam.load_state_dict(state["adam"])
        self.step = state["step"]


def autocast(policy: Policy, config: ModelConfig) -> AbstractContextManager:
    """bfloat16 autocast unless the config asks for float32."""
    if config.dtype == "float32":
        return nullcontext()
    return torch.autocast(policy.device.type, torch.bfloat16)


def save_checkpoint(folder: Path, step: int, state: dict) -> None:
    """checkpoint-<step>.pt, complete or absent; older ones are removed."""
    folder.mkdir(exist_ok=True)
    temporary = folder / ".saving.tmp"
    try:
        with open(temporary, "wb") as f:
            torch.save(state, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, folder / f"checkpoint-{step}.pt")
    except RuntimeError as error:  # torch hides the cause of a failed write
        raise cannot_write(folder, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    for old in folder.glob("checkpoint-*.pt"):
        if _step_of(old) < step:
            old.unlink()


def cannot_write(folder: Path, error: Exception) -> UserError:
    """A full disk, most of the time."""
    free = shutil.disk_usage(folder).free / 2**20
    return UserError(
        f"cannot write ({error}; {free:.0f} MB free)",
        where=folder,
        remedy="Free some space; the same command then continues",
        code=1,
    )


def load_checkpoint(folder: Path, device: torch.device) -> tuple[int, dict] | None:
    """(step, state) of the latest checkpoint, or None."""
    found = sorted(folder.glob("checkpoint-*.pt"), key=_step_of)
    if not found:
        return None
    return _step_of(found[-1]), torch.load(found[-1], map_location=device, weights_only=True)


def remove_checkpoints(folder: Path) -> None:
    """Once the final model is saved, the optimiser state is only weight."""
    shutil.rmtree(folder, ignore_errors=True)


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory of this process: GPU memory on a GPU, resident memory otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _step_of(path: Path) -> int:
    return int(path.stem.rsplit("-", 1)[1])
