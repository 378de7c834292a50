"""The same numbers on a GPU as on the CPU; skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from seethink.train.loss import token_log_probs
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import image_features
from seethink.train.rollout.sampler import LocalSampler
from tests.tiny import IMAGE, tiny_policy, tiny_prompt

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


def log_probs(policy, prompts, groups):
    packed = pack(prompts, groups, IMAGE).to(policy.device)
    hidden = hidden_states(policy.model, packed, image_features(policy, prompts))
    return token_log_probs(hidden, policy.model.lm_head.weight, packed.targets, policy.banned)


def test_log_probs_and_gradients_equal_the_cpu():
    cpu, _ = tiny_policy()
    gpu, _ = tiny_policy()
    prompts = [tiny_prompt(cpu, 5), tiny_prompt(cpu, 9, 2)]
    groups = [[torch.tensor([5, 6, 7]), torch.tensor([8])], [torch.tensor([9, 10])]]
    gpu.model.cuda()
    ours, theirs = log_probs(gpu, prompts, groups), log_probs(cpu, prompts, groups)
    assert (ours.cpu() - theirs).abs().max() < 1e-4
    ours.sum().backward()
    theirs.sum().backward()
    for a, b in zip(gpu.model.parameters(), cpu.model.parameters(), strict=True):
        if b.grad is not None and b.grad.norm():
            assert (a.grad.cpu() - b.grad).norm() / b.grad.norm() < 1e-3


def test_greedy_rollouts_equal_the_cpu():
    cpu, _ = tiny_policy()
    gpu, _ = tiny_policy()
    gpu.model.cuda()
    prompts = [tiny_prompt(cpu, 5), tiny_prompt(cpu, 9, 2)]
    ours, theirs = (LocalSampler(p).rollout(prompts, 2, 12, 0.0, seed=0) for p in (gpu, cpu))
    assert [[c.ids.tolist() for c in g] for g in ours] == [[c.ids.tolist() for c in g] for g in theirs]
