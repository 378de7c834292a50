"""ms-swift: a plugin file.

    swift rlhf --rlhf_type grpo --external_plugins .../seethink/rewards/adapters/ms_swift.py --reward_funcs seethink ...

Read from ms-swift 4.6: completions are the texts of the last messages, every other key of a row comes as a column, None is
allowed. Columns as `seethink export --format swift`. This file imports ms-swift and is loaded by it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swift.rewards.orm import ORM, orms  # pyright: ignore[reportMissingImports]

from seethink.rewards.adapters.trl import SeethinkReward


class SeethinkORM(ORM):
    """The mixed reward as an outcome reward of ms-swift."""

    def __init__(self, args: Any = None, **kwargs: Any):
        super().__init__(args, **kwargs)
        self._reward = SeethinkReward()

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        known = {key: value for key, value in columns.items() if key not in ("log_extra", "log_metric")}
        return self._reward(completions, **known)


orms["seethink"] = SeethinkORM
