"""Rollouts from an engine that holds a copy of the weights: the probe, the requests, the correction. About ten seconds."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from seethink.core.errors import UserError
from seethink.train import alarms, grpo
from seethink.train.config import GRPOConfig
from seethink.train.dist import Ranks
from seethink.train.model.rescore import rescore
from seethink.train.optimiser import Optimiser
from seethink.train.rollout.engine import EngineSampler, completions, make_engine, placeholders
from seethink.train.rollout.sampler import LocalSampler
from seethink.train.rollout.vllm import Answer
from seethink.train.update import engine_gap
from tests.tiny import IMAGE, Given, tiny_group, tiny_learner, tiny_policy, tiny_prompt


class CopyEngine:
    """The local sampler over a second copy of the policy, fed like any engine; `bias` makes its log-probabilities wrong."""

    shared = False

    def __init__(self, policy, prompts, bias: float = 0.0) -> None:
        self.policy = copy.deepcopy(policy)
        self.prompts = {tuple(placeholders(p, policy)): p for p in prompts}
        self.bias, self.calls = bias, []

    def generate(self, requests):
        self.calls.append("generate")
        return [self.answer(request) for request in requests]

    def answer(self, request) -> Answer:
        prompt, p = self.prompts[tuple(request.ids)], request.params
        local = LocalSampler(self.policy)
        (group,) = local.rollout([prompt], p["n"], p["max_tokens"], p["temperature"], p["seed"])
        found = [(c.ids.tolist(), (c.log_probs + self.bias).tolist(), c.stop) for c in group]
        return Answer(prompt.ids.tolist(), found)

    def load(self, weights) -> None:
        self.calls.append("load")
        self.policy.model.load_state_dict(dict(weights))
        self.policy.features.clear()

    def forget(self) -> None:
        self.calls.append("forget")


@pytest.fixture
def config(tmp_path) -> GRPOConfig:
    model = {"path": tmp_path, "dtype": "float32"}
    settings = {"prompts": 4, "update_prompts": 2, "group": 3, "max_tokens": 8, "temperature": 0.9, "kl": 0.0}
    return GRPOConfig(out=tmp_path, data=tmp_path, model=model, optim={"lr": 1e-2, "warmup": 0}, **settings)


@pytest.fixture
def policy(monkeypatch):
    """Its prompts have pixels without files, so the images of a request stay out."""
    monkeypatch.setattr("seethink.train.rollout.engine.sized_images", lambda prompt, policy: [])
    return tiny_policy()[0]


def prompts_of(policy) -> list:
    return [tiny_prompt(policy, n, images) for n, images in ((5, 1), (9, 2), (3, 0), (7, 1))]


@torch.no_grad()
def shake(policy) -> None:
    for weight in policy.model.parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    policy.features.clear()


def test_placeholders_hold_one_id_per_image(policy):
    prompt = tiny_prompt(policy, 6, images=3)
    ids = placeholders(prompt, policy)
    assert ids.count(IMAGE) == 3 and [i for i in ids if i != IMAGE] == [i for i in prompt.ids.tolist() if i != IMAGE]
    assert placeholders(tiny_prompt(policy, 6, images=0), policy) == tiny_prompt(policy, 6, images=0).ids.tolist()


def test_another_prompt_in_the_engine_is_an_error(policy):
    prompt = tiny_prompt(policy, 6)
    with pytest.raises(UserError, match="the engine sees a prompt of 2 tokens"):
        completions(prompt, Answer([1, 2], [([3], [-1.0], "stop")]))
    with pytest.raises(RuntimeError, match="gave up"):
        completions(prompt, Answer(prompt.ids.tolist(), [([3], [-1.0], "abort")]))


def test_probe_catches_weights_that_were_not_pushed(policy, config):
    prompts = prompts_of(policy)
    engine = CopyEngine(policy, prompts)
    sampler = EngineSampler(policy, engine, config)
    sampler.rollout(prompts, 2, 8, 0.9, seed=3)
    assert engine.calls == ["generate", "forget", "generate"], (
        "the first rollout is probed, and the probe leaves no trace"
    )
    assert sampler.compare() < 1e-4
    shake(policy)
    with pytest.raises(UserError, match=r"not the policy of 0 steps: log-probability -\d+\.\d+ against -\d+\.\d+"):
        sampler.compare()
    sampler.push(1)
    assert sampler.compare() < 1e-4 and sampler.version == 1
    engine.load = lambda weights: None  # a push that does nothing
    policy.model.load_state_dict(tiny_policy()[0].model.state_dict())
    with pytest.raises(UserError, match="not the policy of 2 steps"):
        sampler.push(2)


@pytest.mark.parametrize(("shared", "loads"), [(True, 0), (False, 1)])
def test_a_later_rank_loads_what_is_its_own(policy, config, shared, loads):
    engine = CopyEngine(policy, [])
    engine.shared = shared
    EngineSampler(replace(policy, ranks=Ranks(rank=1)), engine, config).push(0)
    assert engine.calls == ["load"] * loads


def groups_from(sampler, prompts) -> list[grpo.Group]:
    found = sampler.rollout(prompts, 3, 8, 0.9, seed=3)
    return [tiny_group(p, c, [1.0, -0.5, -0.5], i) for i, (p, c) in enumerate(zip(prompts, found, strict=True))]


def test_rescored_log_probs_are_those_recorded(policy):
    prompts = prompts_of(policy)
    groups = LocalSampler(policy).rollout(prompts, 3, 8, 0.9, seed=3)
    for budget in (1, 10_000):
        scored = rescore(policy, prompts, [[c.ids for c in g] for g in groups], 0.9, budget)
        for completion, ours in zip([c for g in groups for c in g], scored, strict=True):
            assert torch.allclose(completion.log_probs, ours, atol=1e-5)


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_updates_correct_for_the_engine(policy, config, bias):
    """An engine that agrees changes nothing; one that overrates every token by e^0.3 has its gradients scaled back."""
    prompts = prompts_of(policy)
    start = {n: w.clone() for n, w in policy.model.state_dict().items()}

    def trained(groups, exact: bool) -> dict:
        policy.model.load_state_dict(start)
        optimiser = Optimiser(policy, config.optim, 2)
        return grpo.update(tiny_learner(policy, config, optimiser=optimiser, sampler=Given(exact)), groups)

    engine = EngineSampler(policy, CopyEngine(policy, prompts, bias), config)
    engine.tolerance = 1.0
    groups = groups_from(engine, prompts)
    metrics = trained(groups, exact=False)
    rescored = [r.before is not r.completion.log_probs for g in groups for r in g.rollouts]
    assert rescored == [False] * 6 + [True] * 6, "only the second update needs what the policy thought before"
    assert metrics["sampler/log_prob_gap"] == pytest.approx(bias, abs=1e-5)
    assert metrics["sampler/capped_share"] == 0
    for rollout in (r for g in groups for r in g.rollouts):  # the same completions, as if the policy had sampled them
        rollout.completion = replace(rollout.completion, log_probs=rollout.completion.log_probs - bias)
        rollout.before = rollout.completion.log_probs
    plain, scale = trained(groups, exact=True), math.exp(-bias)
    assert metrics["loss"] == pytest.approx(plain["loss"] * scale, rel=1e-3)
    assert metrics["grad_norm"] == pytest.approx(plain["grad_norm"] * scale, rel=1e-2)
    two_tokens = 2 / metrics["tokens/trained"]  # AdamW enlarges rounding, and a ratio may lie at the edge of the clip
    assert metrics["clip_share"] == pytest.approx(plain["clip_share"], abs=two_tokens)


def test_capped_tokens_are_counted(config):
    policy, _ = tiny_policy()
    learner = tiny_learner(policy, config, sampler=Given(exact=False))
    assert engine_gap(learner, [torch.tensor([0.0, 2.0])]) == {
        "sampler/log_prob_gap": 1.0, "sampler/log_prob_gap_max": 2.0, "sampler/capped_share": 0.5,
    }  # fmt: skip


def test_a_drifting_engine_raises_an_alarm():
    calm = {"undecided": 0, "completion/length": 9.0, "entropy": 1.0, "sampler/capped_share": 0.0}
    assert alarms.grpo([calm] * 6) == {}
    drifting = {**calm, "sampler/capped_share": 0.04}
    assert alarms.grpo([calm] + [drifting] * 5)["sampler"].startswith("4.0% of tokens")


def test_the_local_sampler_is_exact(policy):
    assert LocalSampler(policy).exact and not EngineSampler.exact


def test_ranks_begin_at_servers_of_their_own(policy, config):
    sampler = config.sampler.model_copy(update={"engine": "vllm-server", "url": "http://a,http://b"})
    config = config.model_copy(update={"sampler": sampler})
    engines = [make_engine(replace(policy, ranks=Ranks(rank, 4)), config) for rank in range(4)]
    assert [engine.servers[0].url for engine in engines] == ["http://a", "http://a", "http://b", "http://b"]
