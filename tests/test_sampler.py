"""Rollouts against the stock model: greedy tokens, recorded log-probabilities, bans, stops, and the shrinking rectangle."""

from __future__ import annotations

import pytest
import torch

from seethink.train.rollout.decoding import sample, shrink
from seethink.train.rollout.sampler import LocalSampler
from tests.tiny import STOP, stock_log_probs, tiny_policy, tiny_prompt


def greedy_by_stock(stock, prompt, steps, banned):
    done = torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        ids = torch.cat([prompt.ids, done])[None]
        vision = {}
        if prompt.pixels is not None:
            vision = dict(pixel_values=prompt.pixels, image_grid_thw=prompt.grids, mm_token_type_ids=(ids == 150).int())
        logits = stock(input_ids=ids, **vision).logits[0, -1].index_fill(0, banned, -torch.inf)
        done = torch.cat([done, logits.argmax()[None]])
        if done[-1] == STOP:
            break
    return done


@torch.no_grad()
@pytest.mark.parametrize("family", ["2.5", "3"])
def test_greedy_equals_stock_greedy(family):
    policy, stock = tiny_policy(family)
    prompts = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0))]
    groups = LocalSampler(policy).rollout(prompts, 2, 12, 0.0, seed=0)
    for prompt, group in zip(prompts, groups, strict=True):
        expected = greedy_by_stock(stock, prompt, 12, policy.banned)
        assert all(c.ids.tolist() == expected.tolist() for c in group)


@torch.no_grad()
@pytest.mark.parametrize(("family", "temperature"), [("2.5", 0.7), ("2.5", 1.0), ("3", 1.0)])
def test_recorded_log_probs_are_those_of_the_stock_model(family, temperature):
    policy, stock = tiny_policy(family)
    prompts = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0))]
    for prompt, group in zip(prompts, LocalSampler(policy).rollout(prompts, 3, 20, temperature, seed=1), strict=True):
        for c in group:
            assert (c.log_probs - stock_log_probs(stock, prompt, c.ids, temperature)).abs().max() < 1e-4
            assert not torch.isin(c.ids, policy.banned).any()
            assert (c.ids[-1] == STOP) == (c.stop == "stop") and not (c.ids[:-1] == STOP).any()


def test_same_seed_same_completions_and_seeds_differ():
    policy, _ = tiny_policy()
    prompts = [tiny_prompt(policy, 5), tiny_prompt(policy, 8)]
    runs = [
        [c.ids.tolist() for g in LocalSampler(policy).rollout(prompts, 4, 15, 1.0, seed=s) for c in g]
        for s in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_rows_that_leave_do_not_change_the_others():
    policy, _ = tiny_policy()
    policy.model.lm_head.weight.data[STOP] *= 6  # many early stops, so that the rectangle shrinks several times
    prompts = [tiny_prompt(policy, n) for n in (5, 8, 3, 6)]
    together = LocalSampler(policy).rollout(prompts, 4, 30, 1.0, seed=5)
    lengths = [len(c.ids) for g in together for c in g]
    assert min(lengths) < 5 < max(lengths)
    for prompt, group in zip(prompts, together, strict=True):
        for c in group:
            assert (c.log_probs - stock_log_probs(policy_stock(policy), prompt, c.ids)).abs().max() < 1e-4


def policy_stock(policy):
    _, stock = tiny_policy()
    stock.load_state_dict(policy.model.state_dict())
    return stock.requires_grad_(False)


def test_shrink_keeps_every_live_cell_in_the_smallest_rectangle():
    alive = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    prompts, cells, shape = shrink(alive)
    assert prompts.tolist() == [0, 2] and shape == (2, 2)
    assert {1, 3, 8} <= set(cells.tolist())


def test_inverse_cdf_follows_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20_000, -1)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    token, log_p, entropy = sample(logits, 1.0, torch.tensor([3]), uniform)
    p = torch.softmax(torch.tensor([0.0, 1.0, 2.0]), 0)
    share = torch.bincount(token, minlength=4) / len(token)
    assert (share[:3] - p).abs().max() < 0.015 and share[3] == 0
    assert torch.allclose(entropy[0], -(p * p.log()).sum(), atol=1e-5)
    assert torch.allclose(log_p, p.log()[token], atol=1e-5)
