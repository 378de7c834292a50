"""The mixed reward: five kinds of checkable answers, one result type, no trainer."""

from seethink.rewards.config import RewardConfig
from seethink.rewards.rewarder import Rewarder, score

__all__ = ["RewardConfig", "Rewarder", "score"]
