"""Exactness of the shared-prefix layout: transformers' own per-sample forward is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seethink.train.config import ModelConfig
from seethink.train.loss import Given, Objective, grpo_loss, token_log_probs, token_weights
from seethink.train.model import attention
from seethink.train.model.attention import Keys, causal_mask, prefixed, prefixed_fused
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import EncodedPrompt, image_features, make_trainable
from tests.tiny import IMAGE, plain_policy, stock_log_probs, tiny_policy, tiny_prompt

RAGGED = [[5, 1, 7], [2, 3], [6], []]


def completions(lengths, seed=7):
    g = torch.Generator().manual_seed(seed)
    return [[torch.randint(3, 100, (t,), generator=g) for t in group] for group in lengths]


def packed_log_probs(policy, prompts, groups):
    packed = pack(prompts, groups, IMAGE)
    hidden = hidden_states(policy.model, packed, image_features(policy, prompts))
    return token_log_probs(hidden, policy.model.lm_head.weight, packed.targets, policy.banned)


def same_gradients(policy, ours, stock, theirs):
    """Log-probabilities, and the gradients of their sum, are those of the stock model."""
    assert (ours - theirs).abs().max() < 1e-5
    ours.sum().backward()
    theirs.sum().backward()
    for (name, a), b in zip(policy.model.named_parameters(), stock.parameters(), strict=True):
        if b.grad is not None and b.grad.norm():
            assert (a.grad - b.grad).norm() / b.grad.norm() < 1e-5, name


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
@pytest.mark.parametrize("images", [(1, 2, 0, 1), (0, 0, 0, 0)])
def test_log_probs_and_gradients_equal_the_stock_forward(family, images):
    policy, stock = tiny_policy(family)
    prompts = [tiny_prompt(policy, n, i) for n, i in zip((5, 9, 3, 4), images, strict=True)]
    groups = completions(RAGGED)
    ours = packed_log_probs(policy, prompts, groups)
    theirs = torch.cat([stock_log_probs(stock, p, c) for p, g in zip(prompts, groups, strict=True) for c in g])
    assert (ours - theirs).abs().max() < 1e-5
    weight = torch.linspace(-1, 1, len(ours))
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    for (name, a), b in zip(policy.model.named_parameters(), stock.parameters(), strict=True):
        if b.grad is None or not b.grad.norm():
            assert a.grad is None or not a.grad.norm(), name
            continue
        assert (a.grad - b.grad).norm() / b.grad.norm() < 1e-5, name


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_completions_in_blocks_equal_the_stock_forward(monkeypatch, steps):
    monkeypatch.setattr(attention, "STEPS", steps)
    monkeypatch.setattr(attention, "BLOCK", 4)
    policy, stock = tiny_policy()
    prompts = [tiny_prompt(policy, n, i) for n, i in zip((5, 9, 3, 4), (1, 2, 0, 1), strict=True)]
    groups = completions(RAGGED)
    ours = packed_log_probs(policy, prompts, groups)
    theirs = torch.cat([stock_log_probs(stock, p, c) for p, g in zip(prompts, groups, strict=True) for c in g])
    same_gradients(policy, ours, stock, theirs)


def test_a_block_computes_no_more_columns_than_still_have_tokens(monkeypatch):
    monkeypatch.setattr(attention, "STEPS", 2)
    found = attention.Completions.of([[0, 5, 6], [13, 15]], [[5, 1, 7], [2, 3]])
    assert found.widths == (3, 2, 2, 1)
    assert found.places[0].tolist() == [[6, 7, 8, 9, 10, 11, 12], [0, 1, 2, 3, 4, 0, 0], [5, 0, 0, 0, 0, 0, 0]]
    assert len(found.inverse.unique()) == 18 and found.inverse.max() < 2 * (3 * 2 + 2 * 2 + 2 * 2 + 1)


@pytest.mark.parametrize("normalisation", ["grpo", "dapo", "dr_grpo"])
def test_the_loss_equals_that_of_the_stock_forward(normalisation):
    policy, stock = tiny_policy()
    prompts, groups = (
        [tiny_prompt(policy, n, i) for n, i in zip((5, 9, 3, 4), (1, 2, 0, 1), strict=True)],
        completions(RAGGED),
    )
    lengths = torch.tensor([len(c) for group in groups for c in group])
    weights = torch.tensor(token_weights(lengths.tolist(), normalisation, 8)).repeat_interleave(lengths)
    advantages = torch.linspace(-1, 1, len(lengths)).repeat_interleave(lengths)
    losses = []
    with torch.no_grad():
        theirs = torch.cat([stock_log_probs(stock, p, c) for p, g in zip(prompts, groups, strict=True) for c in g])
        for log_probs in (packed_log_probs(policy, prompts, groups), theirs):
            shifted = log_probs + torch.linspace(-0.3, 0.3, len(log_probs))  # so that ratio, clip and KL all matter
            given = Given(advantages, weights, old=theirs, reference=theirs - 0.1)
            losses.append(float(grpo_loss(shifted, given, Objective(beta=0.04)).loss))
    assert abs(losses[0] - losses[1]) < 1e-6 < abs(losses[1])


def test_fused_attention_equals_plain(monkeypatch):
    policy, _ = tiny_policy()
    prompts, groups = [tiny_prompt(policy, n) for n in (5, 9)], completions([[4, 6], [3, 8]])
    plain = packed_log_probs(policy, prompts, groups)
    monkeypatch.setattr(attention, "SCORES_LIMIT", 0)
    assert (packed_log_probs(policy, prompts, groups) - plain).abs().max() < 1e-5


def test_prefixed_equals_fused_with_padding_and_grouped_heads():
    torch.manual_seed(0)
    B, G, H, K, P, T, D = 2, 3, 4, 2, 7, 5, 8
    q, own_k, own_v = torch.randn(B * G, H, T, D), torch.randn(B * G, K, T, D), torch.randn(B * G, K, T, D)
    k, v = torch.randn(B, K, P, D), torch.randn(B, K, P, D)
    real = torch.arange(P) < torch.tensor([[7], [4]])
    args = (q, Keys(k, v, real), Keys(own_k, own_v, causal_mask(T, q.device)), 0.3)
    assert torch.allclose(prefixed(*args), prefixed_fused(*args), atol=1e-6)


def test_image_tokens_written_by_a_model_are_not_image_slots():
    policy, _ = tiny_policy()
    packed = pack([tiny_prompt(policy, 4)], [[torch.tensor([IMAGE, 5])]], IMAGE)
    assert packed.image_slots.max() < len(packed.ids) - 2


def test_missing_image_features_are_refused():
    policy, _ = tiny_policy()
    packed = pack([tiny_prompt(policy, 4)], [[torch.tensor([5])]], IMAGE)
    with pytest.raises(ValueError, match="image features"):
        hidden_states(policy.model, packed, torch.zeros(1, 64))


@pytest.mark.parametrize("family", ["2.5", "3"])
def test_frozen_vision_features_are_cached_and_equal(family):
    policy, _ = tiny_policy(family, trainable_vision=False)
    prompts = [tiny_prompt(policy, 4), tiny_prompt(policy, 6, 2), tiny_prompt(policy, 4)]
    first = image_features(policy, prompts)
    assert len(policy.features) == 2 and torch.equal(first, image_features(policy, prompts))
    policy.model.model.visual.requires_grad_(True)
    assert torch.allclose(image_features(policy, prompts), first, atol=1e-5)


def test_the_feature_cache_is_bounded(monkeypatch):
    from seethink.train.model import policy as model

    policy, _ = tiny_policy(trainable_vision=False)
    prompts = [tiny_prompt(policy, n) for n in (4, 6, 8)]
    whole = image_features(policy, prompts)
    monkeypatch.setattr(model, "FEATURES_LIMIT", max(f.nbytes for f in policy.features.values()))
    assert torch.equal(image_features(policy, prompts), whole)
    assert list(policy.features) == [prompts[-1].images]


def test_checkpointed_layers_give_the_same_gradients():
    gradients = []
    for checkpoint_layers in (False, True):
        policy, _ = tiny_policy()
        make_trainable(policy, ModelConfig(path=".", checkpoint_layers=checkpoint_layers))
        calls = []
        policy.model.model.language_model.layers[0].mlp.register_forward_pre_hook(
            lambda *_, calls=calls: calls.append(1)
        )
        packed_log_probs(
            policy, [tiny_prompt(policy, 5), tiny_prompt(policy, 9)], completions([[4, 6], [3]])
        ).sum().backward()
        assert len(calls) == 1 + checkpoint_layers
        gradients.append({n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None})
    assert all(torch.allclose(g, gradients[1][n], atol=1e-6) for n, g in gradients[0].items())


def test_cached_features_do_not_depend_on_the_company_they_were_computed_in():
    """A resumed run computes again what an undisturbed one still has, with other images around."""
    base = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
    policies = [plain_policy(base), plain_policy(base)]
    prompts = []
    for i in range(4):
        pixels = torch.randn(64, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(i))
        prompts.append(EncodedPrompt(torch.zeros(0), torch.zeros(3, 0), pixels, torch.tensor([[1, 8, 8]]), (str(i),)))
    for policy in policies:
        policy.model.requires_grad_(False)
    together, alone = image_features(policies[0], prompts), [image_features(policies[1], [p]) for p in prompts]
    assert torch.equal(together, torch.cat(alone))
