"""The optimiser's state: a copy stays as it was, however often a run rolls back to it."""

from __future__ import annotations

import torch

from seethink.train.config import ModelConfig, OptimConfig
from seethink.train.model.policy import make_trainable
from seethink.train.optimiser import Optimiser
from tests.tiny import tiny_policy


def test_rolling_back_twice_gives_the_same_state():
    policy, _ = tiny_policy()
    make_trainable(policy, ModelConfig(path="."))
    optimiser = Optimiser(policy, OptimConfig(lr=1e-2), 10)

    def update(seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in optimiser.parameters:
            parameter.grad = torch.randn_like(parameter)
        optimiser.update()

    def flat() -> list[torch.Tensor]:
        state = optimiser.state()
        moments = [value for entry in state["adam"]["state"].values() for value in entry.values()]
        return [x.clone() for x in (*state["weights"].values(), *moments)]

    update(0)
    good, expected = optimiser.state_copy(), flat()
    for seed in (1, 2):
        update(seed)
        assert not all(a.equal(b) for a, b in zip(flat(), expected, strict=True))
        optimiser.restore(good)
        assert all(a.equal(b) for a, b in zip(flat(), expected, strict=True)) and optimiser.step == 1
