"""Rewards that know nothing of the answer: controls of GRPO, to tell what a gain owes to being right.

none    every response earns 0: a run that teaches nothing, but for what else it trains on
format  1 where an answer can be extracted: the format alone
random  a fair coin for sample and text: pure noise, the same whenever and wherever this text is scored again
"""

from __future__ import annotations

from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample
from seethink.core.store import hash_text
from seethink.core.tags import extract
from seethink.rewards.config import RewardConfig

PLACEBO = "placebo"
"""Status of such a reward; its detail says which placebo, and what the form of the response would have been called."""


def placebo_reward(sample: Sample, response: str, config: RewardConfig) -> Reward:
    """The reward by `config.placebo`, of whatever kind the sample is; its gold is not looked at."""
    parsed = extract(response, config.extraction)
    values = {
        "none": 0.0,
        "format": float(parsed.answer is not None),
        "random": float(int(hash_text(PLACEBO, sample.id, response)[-1], 16) % 2),
    }
    return Reward(values[config.placebo], PLACEBO, sample.kind, parsed.answer, f"{config.placebo}, {parsed.status}")


def form_of(reward: Reward) -> str:
    """Status of the form of a response (ok, no_format, ...) where a placebo scored it; else the status itself."""
    return reward.detail.rpartition(", ")[2] if reward.status == PLACEBO else reward.status


def refuse_placebo(config: RewardConfig, what: str) -> None:
    """Raises UserError for a placebo where answers are to be judged."""
    if config.placebo:
        raise UserError(f"reward.placebo {config.placebo!r} judges no answer", where=what, remedy="Leave it out")
