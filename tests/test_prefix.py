"""Training through a kept prefix equals computing prompt and completions together; continuous decoding changes nothing."""

from __future__ import annotations

import pytest
import torch

from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig
from seethink.train.grpo import reference_model, update
from seethink.train.loss import token_log_probs
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import image_features, make_trainable
from seethink.train.model.prefix import continued_states, prefill
from seethink.train.optimiser import Optimiser
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.sampler import LocalSampler
from tests.test_pack import RAGGED, completions
from tests.tiny import IMAGE, STOP, tiny_group, tiny_learner, tiny_policy, tiny_prompt


@pytest.mark.parametrize("family", ["2.5", "3"])
def test_continuing_a_prefix_equals_the_pack(family):
    policy, _ = tiny_policy(family)
    prompts = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0), (4, 1))]
    groups = completions(RAGGED)
    together = pack(prompts, groups, IMAGE)
    prefix = prefill(policy.model, pack(prompts, [[]] * 4, IMAGE), image_features(policy, prompts))
    states = [
        hidden_states(policy.model, together, image_features(policy, prompts)),
        continued_states(policy.model, prefix, groups),
    ]
    gradients = []
    for s in states:
        log_probs = token_log_probs(s, policy.model.lm_head.weight, together.targets, policy.banned)
        policy.model.zero_grad()
        (log_probs * torch.linspace(-1, 1, len(log_probs))).sum().backward()
        gradients.append(
            (log_probs.detach(), {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None})
        )
    assert (gradients[0][0] - gradients[1][0]).abs().max() < 1e-5
    for name, g in gradients[0][1].items():
        assert (g - gradients[1][1][name]).norm() <= 1e-5 * g.norm(), name


@pytest.mark.parametrize("trainable_vision", [True, False])
@pytest.mark.parametrize("kept", [3, 2, 1])
def test_an_update_through_the_kept_prefix_equals_one_without(trainable_vision, kept):
    """As many prompts are kept as fit the budget; the others of the first update are computed again."""
    weights, written = [], None
    for keep in (0, 3):
        policy, _ = tiny_policy()
        config = GRPOConfig(
            out="x", data="x", model=ModelConfig(path=".", freeze_vision=not trainable_vision, dtype="float32"),
            optim=OptimConfig(lr=1e-3), prompts=4, group=3, update_prompts=3, max_tokens=8, kl=0.1,
        )  # fmt: skip
        make_trainable(policy, config.model)
        prompts = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0), (4, 1))]
        sampler = LocalSampler(policy, prefill_tokens=sum(len(p.ids) + 3 * 8 for p in prompts[:kept]), keep=keep)
        rolled = sampler.rollout(prompts, 3, 8, 1.0, seed=0)
        assert sum(len(p) for p in sampler.kept) == (kept if keep else 0)
        written = written or rolled  # the same completions for both
        advantages = [[1.0, -0.5, -0.5], [None] * 3, [0.2, None, -0.2], [0.5, 0.5, -1.0]]
        groups = [tiny_group(p, c, a, i) for i, (p, c, a) in enumerate(zip(prompts, written, advantages, strict=True))]
        optimiser = Optimiser(policy, config.optim, 2)
        update(tiny_learner(policy, config, reference_model(policy), optimiser, sampler, beta=0.1), groups)
        assert not sampler.kept and optimiser.step == 2
        weights.append({n: p.detach().clone() for n, p in policy.model.named_parameters()})
    start = dict(tiny_policy()[0].model.named_parameters())
    moved = {n: w - start[n] for n, w in weights[0].items()}
    assert any(m.abs().max() > 1e-4 for m in moved.values())
    for name, w in weights[0].items():  # as a whole: AdamW makes a full step of a gradient that is all rounding
        assert (w - weights[1][name]).norm() <= 1e-2 * moved[name].norm(), name


@pytest.mark.parametrize("capacity", [4, 8, 12])
def test_waiting_prompts_enter_as_rows_finish_and_change_nothing(capacity):
    policy, _ = tiny_policy()
    policy.model.lm_head.weight.data[STOP] *= 6  # many early stops
    prompts = [tiny_prompt(policy, 3 + n % 5, n % 3) for n in range(9)]
    together = LocalSampler(policy).rollout(prompts, 4, 30, 1.0, seed=5)
    waiting = LocalSampler(policy, capacity=capacity, prefill_tokens=50).rollout(prompts, 4, 30, 1.0, seed=5)
    pairs = [pair for a, b in zip(together, waiting, strict=True) for pair in zip(a, b, strict=True)]
    equal = [(c, d) for c, d in pairs if c.ids.tolist() == d.ids.tolist()]
    assert len(equal) >= 35, "rounding may push one token over an edge of its distribution, never many"
    for c, d in equal:
        assert c.stop == d.stop and torch.allclose(c.log_probs, d.log_probs, atol=1e-5)


def test_rows_never_exceed_the_capacity(monkeypatch):
    from seethink.train.rollout import sampler

    policy, _ = tiny_policy()
    seen = []
    plain = sampler.run_layers

    def spy(model, embeds, *rest):
        seen.append(len(embeds))
        return plain(model, embeds, *rest)

    monkeypatch.setattr(sampler, "run_layers", spy)
    LocalSampler(policy, capacity=9).rollout([tiny_prompt(policy, 4 + n) for n in range(7)], 3, 10, 1.0, seed=0)
    assert max(seen) == 9


def gradients_of_an_update(dtype: str, keep: int) -> torch.Tensor:
    """All gradients [n] of the first update of a round, on the same completions whatever the precision."""
    policy, _ = tiny_policy()
    policy.dtype = getattr(torch, dtype)
    model = ModelConfig(path=".", freeze_vision=False, freeze_projector=False, dtype=dtype)
    config = GRPOConfig(out="x", data="x", model=model, prompts=3, group=2, update_prompts=3, max_tokens=6, kl=0.1)
    make_trainable(policy, model)
    prompts = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0))]
    sampler = LocalSampler(policy, prefill_tokens=100, keep=keep)
    sampler.rollout(prompts, 2, 6, 1.0, seed=0)
    tokens, nothing = torch.arange(3, 9), torch.zeros(6)
    written = [Completion(tokens + g, nothing, nothing, "length") for g in range(2)]
    groups = [tiny_group(p, written, [1.0, -0.5], place) for place, p in enumerate(prompts)]
    optimiser = Optimiser(policy, config.optim, 1)
    optimiser.update = lambda: (0.0, 0.0)
    update(tiny_learner(policy, config, reference_model(policy), optimiser, sampler, beta=0.1), groups)
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def test_in_bfloat16_a_kept_prefix_rounds_no_worse_than_computing_it_again():
    """Autocast caches its casts of weights: one made without gradients must not stand in for one with."""
    exact = gradients_of_an_update("float32", keep=0)
    again, kept = ((gradients_of_an_update("bfloat16", keep) - exact).norm() / exact.norm() for keep in (0, 3))
    assert 0 < again < 0.2 and kept < 1.2 * again
