"""AdamW over what trains, with clipping, schedule, and a state that can be saved, copied and restored."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from seethink.core.errors import UserError
from seethink.train.config import OptimConfig, TrainingConfig
from seethink.train.dist import Ranks, copied, like, whole
from seethink.train.model.policy import Policy


def learning_rate(step: int, total: int, config: OptimConfig) -> float:
    """Linear warm-up, then `lr`, or a cosine from `lr` to `lr_floor`, where it stays; step counts from 0, `total` are the run's."""
    total = config.decay_steps or total
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    share = (step - warmup) / max(total - warmup - 1, 1)
    return config.lr_floor + (config.lr - config.lr_floor) * (1 + math.cos(math.pi * min(share, 1))) / 2


def refuse_moments(config: TrainingConfig, ranks: Ranks) -> None:
    """Raises UserError for moments in 8 bits on several processes, or without the library that holds them."""
    if config.optim.moments == "float32":
        return
    if max(config.gpus, ranks.world) > 1 or config.offload:
        what, remedy = "8bit is for one process whose weights are on its GPU", "Leave it out, or gpus and offload"
        raise UserError(what, where="optim.moments", remedy=remedy)
    if find_spec("bitsandbytes") is None:
        raise UserError("8bit needs bitsandbytes", where="optim.moments", remedy="pip install 'seethink[8bit]'")


def adamw(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW whose moments are fp32, or 8 bits with a scale for every 256 of them; those of small tensors stay fp32."""
    betas = (config.beta1, config.beta2)
    if config.moments == "float32":
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=True)
    library: Any = importlib.import_module("bitsandbytes.optim")  # an extra
    return library.AdamW8bit(groups, lr=config.lr, betas=betas)


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
        self.adam = adamw(groups, self.config)

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
