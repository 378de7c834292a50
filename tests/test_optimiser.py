"""The optimiser's state: a copy stays as it was, however often a run rolls back to it; moments in 8 bits are what they claim."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from seethink.core.errors import UserError
from seethink.train.config import ModelConfig, OptimConfig, SFTConfig
from seethink.train.dist import Ranks
from seethink.train.memory import MOMENTS
from seethink.train.model.policy import make_trainable
from seethink.train.optimiser import Optimiser, refuse_moments
from tests.tiny import tiny_policy

IN_8_BITS = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.mark.parametrize("moments", ["float32", pytest.param("8bit", marks=IN_8_BITS)])
def test_rolling_back_twice_gives_the_same_state(moments):
    policy, _ = tiny_policy()
    make_trainable(policy, ModelConfig(path="."))
    optimiser = Optimiser(policy, OptimConfig(lr=1e-2, moments=moments), 10)

    def update(seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in optimiser.parameters:
            parameter.grad = torch.randn_like(parameter)
        optimiser.update()

    def flat() -> list[torch.Tensor]:
        held = [torch.as_tensor(value) for entry in optimiser.adam.state.values() for value in entry.values()]
        return [x.clone() for x in (*optimiser.state()["weights"].values(), *held)]

    update(0)
    good, expected = optimiser.state_copy(), flat()
    for seed in (1, 2):
        update(seed)
        assert not all(a.equal(b) for a, b in zip(flat(), expected, strict=True))
        optimiser.restore(good)
        assert all(a.equal(b) for a, b in zip(flat(), expected, strict=True)) and optimiser.step == 1


def wide() -> SimpleNamespace:
    """A layer with a million weights, in the place of a policy."""
    torch.manual_seed(0)
    return SimpleNamespace(model=nn.Linear(1024, 1024))


def learn(optimiser: Optimiser, steps: range) -> None:
    for step in steps:
        for parameter in optimiser.parameters:
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimiser.update()


@IN_8_BITS
def test_moments_in_8_bits_take_what_the_plan_says_and_lead_where_those_in_fp32_lead():
    config = OptimConfig(lr=1e-3, warmup=0, moments="8bit")
    ours, theirs = (Optimiser(wide(), c, 10) for c in (config, config.model_copy(update={"moments": "float32"})))
    begun = [p.detach().clone() for p in ours.parameters]
    for optimiser in (ours, theirs):
        learn(optimiser, range(6))
    moved = [torch.cat([(p - b).flatten() for p, b in zip(o.parameters, begun, strict=True)]) for o in (ours, theirs)]
    assert 0 < (moved[0] - moved[1]).norm() < 0.05 * moved[1].norm()
    held = sum(v.nbytes for s in ours.adam.state.values() for v in s.values() if isinstance(v, torch.Tensor))
    trained = sum(p.numel() for p in ours.parameters)
    assert held == pytest.approx(MOMENTS["8bit"] * trained, rel=0.01)


@IN_8_BITS
def test_moments_in_8_bits_go_on_exactly_from_a_file():
    config = OptimConfig(lr=1e-3, moments="8bit")
    whole, first, second = (Optimiser(wide(), config, 10) for _ in range(3))
    learn(whole, range(6))
    learn(first, range(3))
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second.restore(torch.load(file, map_location="cpu", weights_only=True))  # as a checkpoint is read
    learn(second, range(3, 6))
    assert all(a.equal(b) for a, b in zip(second.parameters, whole.parameters, strict=True))


@pytest.mark.parametrize(("gpus", "missing", "said"), [(2, False, "one process"), (1, True, r"seethink\[8bit\]")])
def test_moments_in_8_bits_are_refused_where_they_cannot_be(gpus, missing, said, monkeypatch):
    if missing:
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    asked = {"optim": {"moments": "8bit"}, "gpus": gpus}
    with pytest.raises(UserError, match=said):
        refuse_moments(SFTConfig(out="x", data="x", model={"path": "."}, **asked), Ranks())
