"""Demonstrations in GRPO and a teacher in its rewards' place: losses and gradients against plain loops over the stock model."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from kills import BASE, torment
from safetensors.torch import load_file, save_file

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.run import read_log
from seethink.core.store import read_json
from seethink.train.advantage import Group
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig
from seethink.train.demos import draw_demos, optimiser_steps, refuse_ignored
from seethink.train.model.parts import Tools
from seethink.train.model.policy import Policy
from seethink.train.optimiser import Optimiser
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.sampler import LocalSampler
from seethink.train.sft import Encoded
from seethink.train.teacher import difference, refuse_stranger, teach
from seethink.train.update import update
from tests.test_sft_oracle import examples, plain_step
from tests.tiny import Given, stock_log_probs, tiny_group, tiny_learner, tiny_policy, tiny_prompt

ADVANTAGES = ([1.0, -0.4, None], [None] * 3, [0.2, -0.2, 0.5], [-1.0, 0.7, 0.3])
IMAGES = (1, 2, 0, 1)
STEPS = 2  # optimiser steps of a round, of two prompts each


@dataclass
class Recorder:
    """In the optimiser's place: keeps the gradients of every step and changes nothing."""

    policy: Policy

    def __post_init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def update(self) -> tuple[float, float]:
        named = self.policy.model.named_parameters()
        self.seen.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        self.policy.model.zero_grad()
        return 0.0, 0.0


def grpo_config(**changes) -> GRPOConfig:
    settings = dict(out=".", data=".", model=ModelConfig(path="."), prompts=4, group=3, update_prompts=2, kl=0)
    return GRPOConfig(**{**settings, "max_tokens": 8, "micro_tokens": 40, "temperature": 0.7, **changes})


def rolled(policy: Policy, stock, temperature: float = 0.7) -> list[Group]:
    """Four groups whose recorded log-probabilities are the policy's own, but for a shift where a ratio has to show."""
    g = torch.Generator().manual_seed(3)
    groups = []
    for place, (images, advantages) in enumerate(zip(IMAGES, ADVANTAGES, strict=True)):
        prompt, members = tiny_prompt(policy, 4 + place, images), []
        for length in (5, 1, 3 + place):
            ids = torch.randint(3, 100, (length,), generator=g)
            with torch.no_grad():
                own = stock_log_probs(stock, prompt, ids, temperature)
            shift = 0.4 * torch.randn(length, generator=g) if place >= 2 else 0
            members.append(Completion(ids, own + shift, torch.zeros(length), "stop"))
        groups.append(tiny_group(prompt, members, list(advantages), place))
    return groups


def plain_grpo(stock, groups: list[Group], advantage_of) -> None:
    """Gradients of the paper's objective without KL: mean over completions of the mean over tokens, clipped at .2."""
    rollouts = [(group, rollout) for group in groups for rollout in group.rollouts]
    for group, rollout in rollouts:
        if rollout.advantage is None:
            continue
        ids, advantage = rollout.completion.ids, advantage_of(group, rollout)
        log_probs = stock_log_probs(stock, group.prompt, ids, 0.7)
        old = log_probs.detach() if group.place < 2 else rollout.before
        ratio = (log_probs - old).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        (-gain.mean() / len(rollouts)).backward()


def compare(ours: dict[str, torch.Tensor], policy: Policy, stock) -> None:
    """Gradients by name against those that the stock model has now, which are cleared."""
    for (name, _), b in zip(policy.model.named_parameters(), stock.parameters(), strict=True):
        if b.grad is None or not b.grad.norm():
            assert name not in ours or not ours[name].norm(), name
        else:
            assert (ours[name] - b.grad).norm() / b.grad.norm() < 1e-5, name
    stock.zero_grad()


def demonstrations(policy: Policy) -> list[list[Encoded]]:
    """Other ones for each of the two steps."""
    found = examples(policy)
    return [found[:3], found[3:]]


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
def test_a_mixed_step_has_the_gradient_of_both_losses(family):
    policy, stock = tiny_policy(family)
    groups, demos = rolled(policy, stock), demonstrations(policy)
    recorder = Recorder(policy)
    config = grpo_config(demos={"data": "d", "weight": 0.3})
    metrics = update(tiny_learner(policy, config, optimiser=recorder), groups, demos)
    losses = []
    assert len(recorder.seen) == STEPS
    for step, (seen, part) in enumerate(zip(recorder.seen, demos, strict=True)):
        plain_grpo(stock, groups[2 * step : 2 * step + 2], lambda _, rollout: rollout.advantage)
        losses.append(plain_step(stock, part, scale=0.3))
        compare(seen, policy, stock)
    assert metrics["demos/loss"] == pytest.approx(sum(losses) / STEPS, abs=1e-5)
    assert metrics["demos/tokens"] == sum(len(e.completion) for part in demos for e in part)


def test_demonstrations_apart_have_a_step_of_their_own_after_the_others():
    policy, stock = tiny_policy()
    groups, demos = rolled(policy, stock), demonstrations(policy)[:1]
    recorder = Recorder(policy)
    metrics = update(
        tiny_learner(policy, grpo_config(demos={"data": "d", "apart": True}), optimiser=recorder), groups, demos
    )
    assert len(recorder.seen) == STEPS + 1
    for step, seen in enumerate(recorder.seen[:STEPS]):
        plain_grpo(stock, groups[2 * step : 2 * step + 2], lambda _, rollout: rollout.advantage)
        compare(seen, policy, stock)
    assert metrics["demos/loss"] == pytest.approx(plain_step(stock, demos[0]), abs=1e-5)
    compare(recorder.seen[STEPS], policy, stock)


@pytest.mark.parametrize(
    ("every", "apart", "rounds_with"),
    [(1, False, {0, 1, 2, 3, 4}), (2, False, {1, 3}), (2, True, {1, 3}), (5, True, {4})],
)
def test_every_round_has_its_demonstrations_in_the_order_of_whole_passes(every, apart, rounds_with):
    config = grpo_config(rounds=5, demos={"data": "d", "every": every, "batch": 3, "apart": apart})
    rows = [Example(Sample(str(i), "s", (), "?", "1", "digit"), "one") for i in range(4)]
    demos = draw_demos(rows, config)
    rounds = [demos.of_round(number) for number in range(5)]
    assert {number for number, parts in enumerate(rounds) if parts} == rounds_with
    assert all(
        len(parts) == (1 if apart else STEPS) and all(len(part) == 3 for part in parts) for parts in rounds if parts
    )
    drawn = [e.sample.id for parts in rounds for part in parts for e in part]
    assert drawn == [e.sample.id for e in demos.drawn]
    assert all(len(set(drawn[at : at + 4])) == len(drawn[at : at + 4]) for at in range(0, len(drawn), 4))
    assert optimiser_steps(config) == 5 * STEPS + (len(rounds_with) if apart else 0)


@pytest.mark.parametrize(
    ("demos", "words"),
    [({"weight": 0.5}, "none are given"), ({"data": "d", "every": 50}, "no demonstration would be seen")],
)
def test_settings_of_demonstrations_that_do_nothing_are_refused(demos, words):
    with pytest.raises(UserError, match=words):
        refuse_ignored(grpo_config(demos=demos))


def test_demonstrations_apart_take_no_weight():
    with pytest.raises(ValueError, match="leave demos.weight out"):
        grpo_config(demos={"data": "d", "weight": 0.5, "apart": True})


# -------------------------------------------------------------------------------------------------------------------- a teacher


def other_policy(family: str = "2.5") -> tuple[Policy, torch.nn.Module]:
    """A teacher with the same shapes and other weights."""
    policy, stock = tiny_policy(family)
    g = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for a, b in zip(policy.model.parameters(), stock.parameters(), strict=True):
            noise = 0.1 * torch.randn(a.shape, generator=g)
            a += noise
            b += noise
    policy.model.requires_grad_(False)
    return policy, stock


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
@pytest.mark.parametrize("exact", [True, False])
def test_a_teacher_gives_every_token_its_own_advantage(family, exact):
    """Of an engine that is not quite the policy the log-probabilities are replaced by the policy's own."""
    (policy, stock), (teacher, its_stock) = tiny_policy(family), other_policy(family)
    groups = rolled(policy, stock)
    config, recorder = grpo_config(sampler={"importance_cap": 1e9}), Recorder(policy)
    learner = tiny_learner(policy, config, optimiser=recorder, sampler=Given(exact))
    learner.teacher = teacher
    recorded = [r.completion.log_probs for g in groups for r in g.rollouts]
    teach(policy, teacher, groups, config, exact)
    rollouts = [(g, r) for g in groups for r in g.rollouts]
    with torch.no_grad():
        own = [stock_log_probs(stock, g.prompt, r.completion.ids, 0.7) for g, r in rollouts]
        theirs = [stock_log_probs(its_stock, g.prompt, r.completion.ids, 0.7) for g, r in rollouts]
    before = recorded if exact else own
    for (_, rollout), of_teacher, of_policy in zip(rollouts, theirs, before, strict=True):
        assert (rollout.by_token - (of_teacher - of_policy)).abs().max() < 1e-5
        assert rollout.advantage == pytest.approx(float((of_teacher - of_policy).mean()), abs=1e-5)
    update(learner, groups)
    weights = [1.0] * len(recorded) if exact else [(a - b).exp() for a, b in zip(own, recorded, strict=True)]
    by_rollout = {id(r): (w * (t - b)) for (_, r), w, t, b in zip(rollouts, weights, theirs, before, strict=True)}
    for step, seen in enumerate(recorder.seen):
        plain_grpo(stock, groups[2 * step : 2 * step + 2], lambda _, rollout: by_rollout[id(rollout)])
        compare(seen, policy, stock)


def test_distillation_brings_the_policy_to_its_teacher():
    (policy, _), (teacher, _) = tiny_policy(trainable_vision=False), other_policy()
    config = grpo_config(temperature=1.0, prompts=4, update_prompts=4, group=8)
    optimiser = Optimiser(policy, OptimConfig(lr=1e-2, lr_floor=1e-2, warmup=0), 30)
    learner = tiny_learner(policy, config, optimiser=optimiser)
    learner.teacher = teacher
    prompts, gaps = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0), (4, 1))], []
    for number in range(30):
        members = LocalSampler(policy).rollout(prompts, 8, 6, 1.0, seed=number)
        groups = [
            tiny_group(p, c, [None] * 8, place) for place, (p, c) in enumerate(zip(prompts, members, strict=True))
        ]
        teach(policy, teacher, groups, config, exact=True)
        gaps.append(-float(torch.cat([r.by_token for g in groups for r in g.rollouts]).mean()))
        update(learner, groups)
    assert sum(gaps[-5:]) < 0.8 * sum(gaps[:5]), gaps


def tools(**changes) -> Tools:
    vision = {"patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2} | changes.pop("vision", {})
    words = changes.pop("words", {"a": 0, "b": 1})
    config = {"model_type": "qwen2_5_vl", "image_token_id": 5, "vision_config": vision, **changes}
    return Tools(config, SimpleNamespace(get_vocab=lambda: words), None, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("teacher", "what"),
    [
        ({}, ""),
        ({"hidden_size": 9}, ""),
        ({"model_type": "qwen3_vl"}, "model_type"),
        ({"image_token_id": 6}, "image_token_id"),
        ({"words": {"a": 1, "b": 0}}, "vocabulary"),
        ({"vision": {"patch_size": 16}}, "patch_size"),
        ({"vision": {"spatial_merge_size": 1}}, "spatial_merge_size"),
    ],
)
def test_a_teacher_that_reads_other_tokens_is_told_apart(teacher, what):
    assert difference(tools(), tools(**teacher)) == what


def moved(folder: Path, **config) -> Path:
    """The base with weights that differ a little, and other settings of its config."""
    folder.mkdir()
    for file in BASE.iterdir():
        if file.is_file() and file.name not in ("model.safetensors", "config.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps(read_json(BASE / "config.json") | config))
    g = torch.Generator().manual_seed(2)
    weights = load_file(BASE / "model.safetensors")
    weights = {name: (w + 0.01 * torch.randn(w.shape, generator=g).to(w.dtype)) for name, w in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_teacher_of_another_kind_is_refused_before_anything_is_written(tmp_path):
    teacher = moved(tmp_path / "teacher", image_token_id=read_json(BASE / "config.json")["image_token_id"] + 1)
    config = GRPOConfig(out=tmp_path / "run", data=tmp_path, model={"path": BASE}, teacher=teacher)
    with pytest.raises(UserError):
        refuse_stranger(config)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------------------------ whole runs


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("way", [{"weight": 0.5, "every": 2}, {"apart": True}])
def test_killed_runs_with_demonstrations_and_a_teacher_end_bit_identical(tmp_path, way):
    demos = {"data": str(tmp_path / "world" / "sft.jsonl"), "batch": 3, **way}
    changes = {"demos": demos, "teacher": str(moved(tmp_path / "teacher")), "kl": 0.0, "rounds": 4}
    result = torment("grpo", tmp_path, kills=2, rng=random.Random(1), **changes)
    assert result["kills"] == 2 and not result["unequal"], result
    rows = read_log(tmp_path / "whole" / "metrics.jsonl")
    with_demos = [row["round"] for row in rows if "demos/loss" in row]
    assert with_demos == ([2, 4] if "every" in way else [1, 2, 3, 4])
    assert all(row["teacher/kl"] != 0 and row["groups/zero_spread"] == 0 for row in rows)
    # of 400 tokens a round, so one round's estimate may fall below the zero that the KL itself never does
    assert sum(row["teacher/kl"] for row in rows) > 0
    summary = read_json(tmp_path / "whole" / "done.json")["summary"]
    assert summary["optimiser_steps"] == 8 + (4 if "apart" in way else 0) and summary["demonstrations"] == 12
    assert summary["tokens_trained"] == sum(r["tokens/trained"] + r.get("demos/tokens", 0) for r in rows)
