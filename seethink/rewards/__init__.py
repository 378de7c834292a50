"""The mixed reward: five kinds of checkable answers, one result type, no trainer."""

from seethink.rewards.config import RewardConfig
from seethink.rewards.rewarder import is_correct, make_scorer, score, score_batch

__all__ = ["RewardConfig", "is_correct", "make_scorer", "score", "score_batch"]
