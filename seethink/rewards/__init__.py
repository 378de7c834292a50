"""The mixed reward: five kinds of checkable answers, one result type, no trainer."""

import importlib
from typing import TYPE_CHECKING, Any

from seethink.rewards.config import RewardConfig

if TYPE_CHECKING:
    from seethink.rewards.rewarder import Rewarder, score

__all__ = ["RewardConfig", "Rewarder", "score"]


def __getattr__(name: str) -> Any:
    """What scores is imported when it is asked for: help reads the settings alone."""
    if name in __all__:
        return getattr(importlib.import_module("seethink.rewards.rewarder"), name)
    raise AttributeError(f"seethink.rewards has no {name}")
