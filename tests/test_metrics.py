"""What is logged of a round, in all and for each kind."""

from __future__ import annotations

import pytest
import torch

from seethink.core.nouns import Reward, Sample
from seethink.train.advantage import Group, Rollout
from seethink.train.metrics import describe
from seethink.train.model.policy import EncodedPrompt
from seethink.train.rollout.decoding import Completion


def group(kind: str, lengths: list[int], rewards: list[float | None], trained: bool) -> Group:
    rollouts = []
    for n, reward, text in zip(
        lengths, rewards, ("<think>wait a moment</think>", "<think>it is 3</think> wait"), strict=True
    ):
        stop = "stop" if n < 8 else "length"
        completion = Completion(torch.arange(n), torch.zeros(n), torch.full((n,), 0.5), stop)
        scored = Reward(reward, "ok" if reward is not None else "undecided", kind)
        rollouts.append(Rollout(completion, text, scored, completion.log_probs, 0.5 if trained else None))
    prompt = EncodedPrompt(torch.arange(5), torch.zeros(3, 5), None, None)
    return Group(Sample(kind, "source", (), "q", "1", kind), prompt, 0, rollouts)


def test_a_round_is_described_in_all_and_by_kind():
    metrics = describe([group("digit", [2, 8], [0.0, 1.0], True), group("math", [4, 6], [None, 1.0], False)])
    expected = {
        "reward/mean": 2 / 3, "reward/digit": 0.5, "reward/math": 1.0, "undecided": 1,
        "completion/length": 5, "completion/length/digit": 5, "completion/length/math": 5,
        "completion/cut_share": 0.25, "completion/cut_share/digit": 0.5, "completion/cut_share/math": 0,
        "groups/zero_spread": 0.5, "groups/zero_spread/digit": 0, "groups/zero_spread/math": 1,
        "entropy": 0.5, "entropy/math": 0.5, "tokens/generated": 20, "tokens/prompt": 10,
        "markers_per_100_words": 100 * 2 / 12,
    }  # fmt: skip
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_a_kind_without_a_decided_reward_has_no_mean():
    metrics = describe([group("math", [3, 3], [None, None], False)])
    assert metrics["reward/mean"] is None and metrics["reward/math"] is None and metrics["undecided"] == 2
