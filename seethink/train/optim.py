"""What both trainers share: run folder, data order, micro-batches, schedule, precision, checkpoints."""

from __future__ import annotations

import math
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seethink.core.run import Run
from seethink.core.store import hash_file, hash_folder, hash_text
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig, SFTConfig, system_prompt
from seethink.train.dist import Ranks, cannot_write, copied, like, load_shards, whole
from seethink.train.model.policy import Policy


def open_run(config: SFTConfig | GRPOConfig, verb: str) -> Run:
    """The run folder, which refuses to go on with another model, data set or system prompt."""
    inputs = {
        "model.path": hash_folder(config.model.path),
        "data": hash_file(config.data),
        "model.system": system_prompt(config.model),
    }
    unit = "round" if verb == "grpo" else "step"
    return Run.open(config.out, verb, config, inputs, unit=unit, overwrite=config.overwrite)


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
        norm = float(whole(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)))
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

    def blank(self) -> dict:
        """A state of the right names and shapes, to be filled from a checkpoint; its weights are those of the model."""
        moments = [
            {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for group in self.adam.param_groups
            for p in group["params"]
        ]
        adam = {**self.adam.state_dict(), "state": dict(enumerate(moments))}
        return {**self.state(), "adam": adam}

    def state_copy(self) -> dict:
        """A copy that later updates do not touch, for rolling back; in CPU memory unless it is sharded."""
        return copied(self.state())

    def skip(self) -> None:
        """Spend a step of the schedule without an update."""
        self.adam.zero_grad(set_to_none=True)
        self.step += 1

    def restore(self, state: dict) -> None:
        """Weights, moments and step from `state`."""
        parameters = dict(self.policy.model.named_parameters())
        with torch.no_grad():
            for name, value in state["weights"].items():
                parameters[name].copy_(like(value, parameters[name]))
        ordered = [p for group in self.adam.param_groups for p in group["params"]]
        moments = {
            i: {k: v if k == "step" else like(v, ordered[i]) for k, v in s.items()}
            for i, s in copied(state["adam"]["state"]).items()  # AdamW works in place on what it is given
        }
        self.adam.load_state_dict({**state["adam"], "state": moments})
        self.step = state["step"]


def compute_dtype(config: ModelConfig) -> torch.dtype:
    return torch.float32 if config.dtype == "float32" else torch.bfloat16


def autocast(policy: Policy, config: ModelConfig) -> AbstractContextManager:
    """bfloat16 autocast unless the config asks for float32."""
    if config.dtype == "float32":
        return nullcontext()
    return torch.autocast(policy.device.type, torch.bfloat16)


def save_checkpoint(folder: Path, step: int, state: dict, ranks: Ranks) -> None:
    """checkpoint-<step>.pt, or on several ranks a folder checkpoint-<step>, complete or absent; older ones are removed."""
    with ranks.together():
        folder.mkdir(exist_ok=True)
        if ranks.mesh:
            ranks.save(folder / f"checkpoint-{step}", state)
        else:
            _write(folder / f"checkpoint-{step}.pt", state)
    for old in folder.glob("checkpoint-*") if ranks.first else ():
        if _step_of(old) < step:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def _write(path: Path, state: dict) -> None:
    temporary = path.with_name(".saving.tmp")
    try:
        with open(temporary, "wb") as f:
            torch.save(state, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except RuntimeError as error:  # torch hides the cause of a failed write
        raise cannot_write(path.parent, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, device: torch.device, blank: Callable[[], dict]) -> tuple[int, dict] | None:
    """(step, state) of the latest checkpoint, or None. `blank` makes a state to fill, for one that several ranks wrote."""
    found = sorted(folder.glob("checkpoint-*"), key=_step_of)
    if not found:
        return None
    latest = found[-1]
    if latest.is_dir():
        return _step_of(latest), load_shards(latest, blank())
    return _step_of(latest), torch.load(latest, map_location=device, weights_only=True)


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
