"""A group computed in turns on its prompt has the gradients and metrics of one pass, and the memory of its prompt and one turn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from kills import build_world, settings

from seethink.core.run import read_log
from seethink.train import grpo
from seethink.train.config import GRPOConfig, ModelConfig
from seethink.train.grpo import reference_model, update
from seethink.train.model import turns
from seethink.train.model.pack import pack
from seethink.train.model.policy import image_features, make_trainable
from seethink.train.model.prefix import prefill
from seethink.train.model.rescore import rescore
from seethink.train.rollout.sampler import Completion
from tests.test_grpo_demos import Recorder
from tests.tiny import IMAGE, tiny_group, tiny_learner, tiny_policy, tiny_prompt

LENGTHS = (5, 1, 9, 2, 12)
ADVANTAGES = ([1.0, -0.4, 0.3, None, -0.9], [None] * 5, [0.2, -0.2, 0.5, 0.1, -0.6], [-1.0, 0.7, 0.3, None, None])
PROMPTS = ((4, 2), (6, 1), (9, 0), (5, 1))  # text tokens, images
UPDATE = 2  # prompts of an optimiser step: the second one is off-policy
ONE_PASS = 10_000


@dataclass
class Rolled:
    """In a sampler's place, with what a rollout leaves."""

    exact: bool
    kept: list = field(default_factory=list)


def learned(budget: int, family: str, exact: bool = True, kept: int = 0, **model):
    """(gradients of every optimiser step, metrics, completions computed on a prefix at once) of a round within a budget.

    `kept`: the first so many prompts come with the graph of their rollout.
    """
    policy, _ = tiny_policy(family)
    config = GRPOConfig(
        out=".", data=".", model=ModelConfig(path=".", dtype="float32", **model), prompts=4, group=5, update_prompts=UPDATE,
        kl=0.1, temperature=0.7, micro_tokens=budget,
    )  # fmt: skip
    make_trainable(policy, config.model)
    reference = reference_model(policy)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():  # else nothing lies between policy and reference, and LoRA's gradients are half zeros
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=g)
    groups = []
    for place, (size, advantages) in enumerate(zip(PROMPTS, ADVANTAGES, strict=True)):
        ids = [torch.randint(3, 100, (n,), generator=g) for n in LENGTHS]
        members = [Completion(x, -3 * torch.rand(len(x), generator=g), torch.zeros(len(x)), "stop") for x in ids]
        groups.append(tiny_group(tiny_prompt(policy, *size), members, advantages, place))
    sampler, recorder = Rolled(exact), Recorder(policy)
    if kept:
        prompts = [group.prompt for group in groups[:kept]]
        packed = pack(prompts, [[]] * kept, IMAGE)
        sampler.kept.append(prefill(policy.model, packed, image_features(policy, prompts)))
    at_once = []
    plain = turns.continued_states
    with pytest.MonkeyPatch.context() as patch:
        spy = lambda m, prefix, ids_BG: at_once.append(sum(map(len, ids_BG))) or plain(m, prefix, ids_BG)  # noqa: E731
        patch.setattr(turns, "continued_states", spy)
        metrics = update(tiny_learner(policy, config, reference, recorder, sampler, beta=0.1), groups)
    return recorder.seen, metrics, at_once


FULL = {"freeze_vision": False, "freeze_projector": False}
LORA = {"lora_rank": 4}
AGAIN = {"checkpoint_layers": True}


@pytest.mark.parametrize(
    ("family", "exact", "kept", "model"),
    [
        ("2", True, 0, FULL),
        ("2.5", True, 0, FULL),
        ("3", True, 0, FULL),
        ("3", False, 0, LORA),
        ("2.5", False, 0, LORA),
        ("2.5", True, 1, FULL),
        ("3", True, 2, LORA),
        ("2.5", True, 0, FULL | AGAIN),
        ("3", False, 0, LORA | AGAIN),
        ("2", True, 1, {}),
    ],
)
def test_turns_have_the_gradients_and_the_metrics_of_one_pass(family, exact, kept, model):
    whole, expected, _ = learned(ONE_PASS, family, exact, **model)
    assert len(whole) == 2 and all(any(g.norm() > 0 for g in step.values()) for step in whole)
    for budget in (1, 50):
        steps, metrics, at_once = learned(budget, family, exact, kept, **model)
        most = Counter(at_once)
        assert set(most) == {1} if budget == 1 else 1 < max(most) < 4, at_once
        expected["tokens/reused"] = metrics["tokens/reused"]
        assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-7)
        assert (metrics["tokens/reused"] > 0) is (kept > 0)
        for step, (ours, theirs) in enumerate(zip(steps, whole, strict=True)):
            assert set(ours) == set(theirs)
            for name, gradient in ours.items():
                assert (gradient - theirs[name]).norm() <= 1e-5 * theirs[name].norm(), f"step {step} {name}"


def test_log_probabilities_are_those_of_one_pass():
    policy, _ = tiny_policy("3")
    prompts = [tiny_prompt(policy, *size) for size in PROMPTS]
    g = torch.Generator().manual_seed(2)
    groups = [[torch.randint(3, 100, (n,), generator=g) for n in LENGTHS[: 2 + i]] for i in range(4)]
    whole = rescore(policy, prompts, groups, 0.7, ONE_PASS)
    for budget in (1, 30, 60):
        parts = rescore(policy, prompts, groups, 0.7, budget)
        assert [len(x) for x in parts] == [len(x) for x in whole]
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(parts, whole, strict=True))


def gradient(dtype: str, budget: int) -> torch.Tensor:
    """All gradients [n] of a group of 16, computed in a precision."""
    policy, _ = tiny_policy()
    policy.dtype = getattr(torch, dtype)
    model = ModelConfig(path=".", dtype=dtype, **FULL)
    config = GRPOConfig(
        out=".", data=".", model=model, prompts=1, group=16, update_prompts=1, kl=0, micro_tokens=budget
    )
    make_trainable(policy, model)
    nothing, recorder = torch.zeros(6), Recorder(policy)
    members = [Completion(torch.arange(3 + g, 9 + g), nothing, nothing, "stop") for g in range(16)]
    group = tiny_group(tiny_prompt(policy, 30, 2), members, [1.0, -0.5, 0.2, -0.7] * 4, 0)
    update(tiny_learner(policy, config, None, recorder), [group])
    return torch.cat([g.flatten() for g in recorder.seen[0].values()])


def test_in_bfloat16_turns_round_no_worse_than_one_pass():
    exact = gradient("float32", ONE_PASS)
    whole, turned = ((gradient("bfloat16", b) - exact).norm() / exact.norm() for b in (ONE_PASS, 1))
    assert 0 < turned < 1.2 * whole < 0.2


@dataclass
class Saved:
    """Bytes that autograd keeps for backward, weights left out: now, and at the most."""

    weights: set[int]
    now: int = 0
    most: int = 0
    holders: Counter = field(default_factory=Counter)

    def keep(self, x: torch.Tensor) -> Kept:
        return Kept(self, x)


class Kept:
    """One saved tensor: what it shares memory with is counted once."""

    def __init__(self, saved: Saved, x: torch.Tensor):
        self.saved, self.x, storage = saved, x, x.untyped_storage()
        self.key, self.bytes = storage._cdata, 0 if storage._cdata in saved.weights else storage.nbytes()
        saved.holders[self.key] += 1
        saved.now += self.bytes if saved.holders[self.key] == 1 else 0
        saved.most = max(saved.most, saved.now)

    def __del__(self):
        self.saved.holders[self.key] -= 1
        self.saved.now -= self.bytes if not self.saved.holders[self.key] else 0


def saved_at_most(group: int, budget: int, **model) -> int:
    """Bytes kept at once in an update of one prompt of 303 tokens with so many completions of 40."""
    policy, _ = tiny_policy()
    settings = ModelConfig(path=".", dtype="float32", **model)
    config = GRPOConfig(
        out=".", data=".", model=settings, prompts=1, update_prompts=1, group=group, kl=0, micro_tokens=budget
    )
    make_trainable(policy, settings)
    nothing = torch.zeros(40)
    members = [Completion(torch.arange(3 + g, 43 + g), nothing, nothing, "stop") for g in range(group)]
    advantages = [1.0 - g % 3 for g in range(group)]
    rolled = tiny_group(tiny_prompt(policy, 300, 0), members, advantages, 0)
    saved = Saved({p.untyped_storage()._cdata for p in policy.model.parameters()})
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda kept: kept.x):
        update(tiny_learner(policy, config, None, Recorder(policy)), [rolled])
    assert not saved.now, "a graph outlives the update"
    return saved.most


@pytest.mark.parametrize("model", [FULL, LORA, FULL | AGAIN], ids=["full", "lora", "checkpointed"])
def test_a_group_in_turns_keeps_no_more_than_its_prompt_and_one_turn(model):
    """Beside them there are the keys and values that the turns share."""
    two_at_once = saved_at_most(2, ONE_PASS, **model)
    assert saved_at_most(16, 303 + 80, **model) < 1.15 * two_at_once < 0.6 * saved_at_most(16, ONE_PASS, **model)


def test_a_run_in_turns_logs_what_a_run_in_one_pass_logs(tmp_path):
    """Prompts kept from the rollout, a reference, several groups a step: all through the verb's own code."""
    world, rows = build_world(tmp_path / "world"), []
    for budget in (ONE_PASS, 100):
        out = tmp_path / str(budget)
        changes = {"rounds": 2, "prompts": 4, "update_prompts": 2, "group": 6, "micro_tokens": budget}
        grpo.run(GRPOConfig(**settings("grpo", world, out) | changes))
        rows.append(read_log(out / "metrics.jsonl"))
    assert len(rows[0]) == 2
    for whole, turned in zip(*rows, strict=True):
        assert turned["tokens/trained"] == whole["tokens/trained"] > 0 < whole["grad_norm"]
        apart = {
            name for name in whole if name.startswith(("seconds", "cpu_", "memory", "tokens_per_s", "tokens/reused"))
        }
        for name in set(whole) - apart:
            assert turned[name] == pytest.approx(whole[name], rel=1e-4, abs=2e-6), name
