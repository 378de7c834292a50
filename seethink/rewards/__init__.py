"""The mixed reward: five kinds of checkable answers, one result type, no trainer."""

from seethink.rewards.config import RewardConfig
from seethink.rewards.rewarder import is_correct, make_scorer, score, score_batch

__all__ = ["RewardConfig", "is_correct", "make_scorer", "score", "score_batch"]


class Rewarder:
    def __init__(self, config=None, *, scores=None, ledger=None, log=None):
        self.config = (config or RewardConfig()).model_copy(
            update={"scorer_cache": (config and config.scorer_cache) or scores}
        )
        self.scorer = make_scorer(self.config, log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.scorer.close()

    def score_batch(self, s, r):
        return score_batch(s, r, self.config, self.scorer)
