"""verl: a file with a scoring function.

    custom_reward_function.path=.../seethink/rewards/adapters/verl.py custom_reward_function.name=compute_score

Read from verl 0.8: called once per sample, often off the main thread, with the columns of `seethink export --format verl`;
extra keys of the result are logged. `reward_kwargs` are settings of `RewardConfig`, and `undecided`.
"""

from __future__ import annotations

import json
from typing import Any

from seethink.rewards.adapters.common import Undecided, number, sample_from_truth, shared_rewarder


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    undecided: Undecided = "raise",
    **settings: Any,
) -> dict[str, Any]:
    """`score` is the reward; `status` and `answer` say why. Raises UserError for an undecided reward by default."""
    rewarder = shared_rewarder(json.dumps(settings, sort_keys=True))
    columns = (extra_info or {}).items()
    truth = {k: list(v) if type(v).__module__ == "numpy" else v for k, v in columns}  # parquet readers give arrays
    sample = sample_from_truth({**truth, "gold": ground_truth}, source=data_source)
    reward = rewarder.score(sample, solution_str)
    return {"score": number(reward, sample, undecided), "status": reward.status, "answer": reward.answer or ""}
