"""EasyR1: a file with a batch scoring function.

    worker.reward.reward_function=.../seethink/rewards/adapters/easyr1.py:compute_score

Read from EasyR1 0.3.3: only response, response_length and ground_truth reach a reward, so the ground truth is the JSON that
`seethink export --format easyr1` writes. Every value of the result has to be a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from seethink.rewards.adapters.common import as_json, check_undecided, number, sample_from_label, shared_rewarder

REWARD_NAME = "seethink"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: Sequence[dict[str, Any]], undecided: Literal["zero", "raise"] = "raise", **settings: Any
) -> list[dict[str, float]]:
    """overall (the reward), format and accuracy per response. Raises UserError for an undecided reward by default."""
    check_undecided(undecided, "EasyR1")
    rewarder = shared_rewarder(as_json(settings))
    samples = [sample_from_label(item["ground_truth"]) for item in reward_inputs]
    rewards = rewarder.score_batch(samples, [item["response"] for item in reward_inputs])
    return [
        {
            "overall": number(reward, sample, undecided) or 0.0,  # no None is left
            "format": float(reward.answer is not None),
            "accuracy": float(bool(rewarder.is_correct(reward))),
        }
        for reward, sample in zip(rewards, samples, strict=True)
    ]
