"""Advantages and the GRPO objective against TRL's own trainer code and against tables."""

from __future__ import annotations

import math

import pytest
import torch

from seethink.core.nouns import Reward
from seethink.train import loss as loss_module
from seethink.train.advantage import group_advantages, set_advantages
from seethink.train.loss import (
    Given,
    Objective,
    adapt_kl,
    grpo_loss,
    head_loss,
    token_log_probs,
    token_weights,
)


@pytest.mark.parametrize(
    ("rewards", "std", "expected"),
    [
        ([1.0, 0.0, 0.0, 1.0], False, [0.5, -0.5, -0.5, 0.5]),
        ([1.0, 0.0], True, [0.5 / (math.sqrt(0.5) + 1e-4), -0.5 / (math.sqrt(0.5) + 1e-4)]),
        ([1.0, 1.0, 1.0], False, [None] * 3),
        ([1.0, None, 0.0], False, [0.5, None, -0.5]),
        ([None, 1.0], False, [None, None]),
        ([None, None], False, [None, None]),
    ],
)
def test_advantages(rewards, std, expected):
    assert group_advantages(rewards, std) == pytest.approx(expected)


def tokens(lengths, seed=0):
    g = torch.Generator().manual_seed(seed)
    n = sum(lengths)
    log_probs = -torch.rand(n, generator=g, dtype=torch.float64) * 2
    old = log_probs + 0.4 * torch.randn(n, generator=g, dtype=torch.float64)
    reference = log_probs + 0.2 * torch.randn(n, generator=g, dtype=torch.float64)
    return log_probs.requires_grad_(), old, reference


def trl_loss(log_probs, old, reference, advantages, lengths, kind, max_tokens, beta, low, high, importance=None):
    """TRL 1.x `_compute_loss`, called on a bare trainer whose model returns our log-probabilities."""
    from collections import defaultdict
    from types import SimpleNamespace

    from trl import GRPOConfig, GRPOTrainer

    S, T = len(lengths), max(lengths)
    mask = torch.arange(T)[None] < torch.tensor(lengths)[:, None]

    def pad(x):
        out = torch.zeros(S, T, dtype=x.dtype)
        return out.masked_scatter(mask, x)

    trainer = GRPOTrainer.__new__(GRPOTrainer)
    trainer.args = GRPOConfig(
        output_dir="unused",
        loss_type=kind,
        beta=beta,
        max_completion_length=max_tokens,
        report_to=[],
        bf16=False,
        use_cpu=True,
        use_bias_correction_kl=False,
    )
    for name, value in dict(
        beta=beta, loss_type=kind, epsilon_low=low, epsilon_high=high, max_completion_length=max_tokens,
        importance_sampling_level="token", top_entropy_quantile=1.0, use_vllm=importance is not None, use_liger_kernel=False,
        off_policy_mask_threshold=None, vllm_importance_sampling_correction=True, current_gradient_accumulation_steps=1,
        aux_loss_enabled=False, _entropy_bonus_enabled=False, model=SimpleNamespace(training=False), tools=None, _metrics={"eval": defaultdict(list)},
    ).items():  # fmt: skip
        setattr(trainer, name, value)
    trainer.accelerator = SimpleNamespace(gather=lambda x: x, reduce=lambda x, **_: x, num_processes=1)
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: (pad(log_probs), torch.zeros(S, T), None)
    inputs = dict(
        prompt_ids=torch.zeros(S, 1, dtype=torch.long), prompt_mask=torch.ones(S, 1, dtype=torch.long),
        completion_ids=torch.zeros(S, T, dtype=torch.long), completion_mask=mask.long(), advantages=advantages,
        old_per_token_logps=pad(old), ref_per_token_logps=pad(reference), num_items_in_batch=torch.tensor(float(sum(lengths))),
    )  # fmt: skip
    if importance is not None:
        inputs["importance_sampling_ratio"] = pad(importance)
    return GRPOTrainer._compute_loss(trainer, trainer.model, inputs)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("corrected", [False, True])
def test_loss_and_gradient_equal_trl(kind, beta, corrected):
    pytest.importorskip("trl")
    lengths, max_tokens = [3, 1, 7, 4], 9
    advantages = torch.tensor([0.7, -0.7, 1.2, -0.4], dtype=torch.float64)
    log_probs, old, reference = tokens(lengths)
    lengths_t = torch.tensor(lengths)
    weights = torch.repeat_interleave(
        torch.tensor(token_weights(lengths, kind, max_tokens), dtype=torch.float64), lengths_t
    )
    per_token = torch.repeat_interleave(advantages, lengths_t)
    sampled = old + torch.randn(len(old), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    importance = torch.exp(old - sampled).clamp_max(2.0) if corrected else None
    given = Given(per_token, weights, old, sampled if corrected else None, reference if beta else None)
    ours = grpo_loss(log_probs, given, Objective(0.2, 0.25, beta, importance_cap=2.0)).loss
    (our_grad,) = torch.autograd.grad(ours, log_probs)
    theirs = trl_loss(log_probs, old, reference, advantages, lengths, kind, max_tokens, beta, 0.2, 0.25, importance)
    (their_grad,) = torch.autograd.grad(theirs, log_probs)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)
    assert (our_grad - their_grad).abs().max() < 1e-5


def test_importance_weights_are_cut_above_only():
    """With an advantage of one everywhere the gradient of a token is its importance weight."""
    log_probs = torch.tensor([-1.0, -1.0, -1.0, -3.0], requires_grad=True)
    sampled = torch.tensor([-1.0, -1.0 - math.log(1.5), -4.0, -1.0])
    parts = grpo_loss(log_probs, Given(torch.ones(4), torch.ones(4), sampled=sampled), Objective(importance_cap=2.0))
    parts.loss.backward()
    assert (-log_probs.grad).tolist() == pytest.approx([1.0, 1.5, 2.0, math.exp(-2)])
    assert parts.per_token["log_prob_gap"].tolist() == pytest.approx([0.0, math.log(1.5), 3.0, -2.0])


def head_and_states():
    torch.manual_seed(0)
    states, head = torch.randn(37, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, banned = torch.randint(0, 40, (37,)), torch.tensor([48, 49])
    logits = (states @ head.T).index_fill(1, banned, -torch.inf) / 0.7
    plain = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]
    return states, head, targets, banned, plain


@pytest.mark.parametrize("rows", [8, 37, 1000])
def test_log_probs_in_chunks_equal_plain(monkeypatch, rows):
    states, head, targets, banned, plain = head_and_states()
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 50 * rows)
    with torch.no_grad():
        assert torch.allclose(token_log_probs(states, head, targets, banned, 0.7), plain, atol=1e-5)
    grads = [
        torch.autograd.grad(x.sum(), (states, head))
        for x in (token_log_probs(states, head, targets, banned, 0.7), plain)
    ]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("rows", [8, 37, 1000])
@pytest.mark.parametrize("trained_head", [True, False])
def test_head_loss_equals_the_loss_of_plain_log_probs(monkeypatch, rows, trained_head):
    states, head, targets, banned, plain = head_and_states()
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 50 * rows)
    old, reference = plain.detach() + 0.3 * torch.randn(37), plain.detach() + 0.1 * torch.randn(37)
    advantages, weights = torch.randn(37), torch.rand(37)

    def loss_of(log_probs, rows):
        return grpo_loss(log_probs, Given(advantages, weights, old, None, reference).at(rows), Objective(beta=0.1))

    whole = loss_of(plain, slice(None))
    expected = torch.autograd.grad(whole.loss, (states, head))
    parts = head_loss(states, head.detach().requires_grad_(trained_head), targets, banned, 0.7, loss_of)
    assert float(parts.loss.detach()) == pytest.approx(float(whole.loss.detach()), abs=1e-5)
    assert all(torch.allclose(parts.per_token[n], v, atol=1e-5) for n, v in whole.per_token.items())
    states.grad = None
    trained = head.detach().clone().requires_grad_(trained_head)
    (3 * head_loss(states, trained, targets, banned, 0.7, loss_of).loss).backward()
    assert torch.allclose(states.grad, 3 * expected[0], atol=1e-5)
    assert torch.allclose(trained.grad, 3 * expected[1], atol=1e-5) if trained_head else trained.grad is None


@pytest.mark.parametrize(("kl", "direction"), [(1e-3, 1), (1e-4, -1), (5e-4, 0)])
def test_kl_controller_moves_towards_its_target(kl, direction):
    beta = adapt_kl(1e-3, kl, 5e-4, 128, 10_000)
    assert (beta > 1e-3) - (beta < 1e-3) == direction and abs(beta / 1e-3 - 1) <= 0.2 * 128 / 10_000 + 1e-12


def test_cut_completions_do_not_train_but_their_rewards_count():
    from seethink.train.rollout.decoding import Completion
    from tests.tiny import tiny_group

    nothing = torch.zeros(1)
    completions = [Completion(torch.tensor([5]), nothing, nothing, stop) for stop in ("stop", "length", "stop")]
    for mask_cut, expected in ((False, [-1 / 3, 2 / 3, -1 / 3]), (True, [-1 / 3, None, -1 / 3])):
        group = tiny_group(None, completions, [None] * 3, 0)
        group.rollouts[1].reward = Reward(1.0, "ok", "digit")
        set_advantages([group], scale_by_std=False, mask_cut=mask_cut)
        assert [r.advantage for r in group.rollouts] == pytest.approx(expected)
