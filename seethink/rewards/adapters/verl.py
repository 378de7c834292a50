"""verl: a file with a scoring function.

    reward.custom_reward_function.path=.../seethink/rewards/adapters/verl.py reward.custom_reward_function.name=compute_score

Read from verl 0.8 and run in the reward managers of 0.9.1: called once per answer, often off the main thread, with the columns
of `seethink export --format verl`; extra keys of the result are logged. `reward_kwargs` are settings of `RewardConfig`, and
`undecided`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from seethink.core.errors import UserError
from seethink.rewards.adapters.common import number, sample_from_truth, shared_rewarder


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
    if undecided not in ("zero", "raise"):  # verl would add up None, or leave out the scores of all answers beside it
        raise UserError(f"reward_kwargs.undecided={undecided!r}: verl takes numbers only", remedy="Say zero or raise")
    rewarder = shared_rewarder(json.dumps(settings, sort_keys=True, default=_plain))
    columns = (extra_info or {}).items()
    truth = {k: list(v) if type(v).__module__ == "numpy" else v for k, v in columns}  # parquet readers give arrays
    sample = sample_from_truth({**truth, "gold": ground_truth}, source=data_source)
    reward = rewarder.score(sample, solution_str)
    told = {"undecided": float(reward.value is None), "status": reward.status, "answer": reward.answer or ""}
    return {"score": number(reward, sample, undecided), **told}


def _plain(value: Any) -> Any:
    """A table or list of settings as verl hands it over: those inside of `reward_kwargs` are OmegaConf's."""
    return dict(value) if isinstance(value, Mapping) else list(value)
