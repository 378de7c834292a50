"""verl: a file with a scoring function.

    reward.custom_reward_function.path=.../seethink/rewards/adapters/verl.py reward.custom_reward_function.name=compute_score

Read from verl 0.8 and run in the reward managers of 0.9.1: called once per answer, often off the main thread, with the columns
of `seethink export --format verl`; extra keys of the result are logged. `reward_kwargs` are settings of `RewardConfig`, and
`undecided`.
"""

from __future__ import annotations

from typing import Any, Literal

from seethink.rewards.adapters.common import as_json, check_undecided, number, sample_from_truth, shared_rewarder


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    undecided: Literal["zero", "raise"] = "raise",
    **settings: Any,
) -> dict[str, Any]:
    """`score` is the reward, `undecided` 1 where it is none; `status` and `answer` say why. The same keys for every answer.

    Raises UserError for an undecided reward by default.
    """
    check_undecided(undecided, "verl")
    rewarder = shared_rewarder(as_json(settings))
    columns = (extra_info or {}).items()
    truth = {k: list(v) if type(v).__module__ == "numpy" else v for k, v in columns}  # parquet readers give arrays
    sample = sample_from_truth({**truth, "gold": ground_truth}, source=data_source)
    reward = rewarder.score(sample, solution_str)
    told = {"undecided": float(reward.value is None), "status": reward.status, "answer": reward.answer or ""}
    return {"score": number(reward, sample, undecided), **told}
