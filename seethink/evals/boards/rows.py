"""A board of our own: JSONL of samples, each graded by the reward of its kind."""

from __future__ import annotations

from contextlib import closing

from seethink.core.nouns import Sample, Trace, Verdict
from seethink.evals.boards.board import Grade
from seethink.evals.config import EvalConfig
from seethink.rewards import is_correct, make_scorer, score_batch


def grade(samples: list[Sample], traces: list[Trace], config: EvalConfig) -> list[Grade]:
    """By rules; what an open answer says, by the scorer."""
    with closing(make_scorer(config.reward)) as scorer:
        rewards = score_batch(samples, [t.text for t in traces], config.reward, scorer)
    grades = []
    for reward in rewards:
        scored = reward.kind == "open" and reward.status in ("ok", "scorer_error")
        by = config.reward.scorer if scored else "rule"
        grades.append(Grade(Verdict(is_correct(reward, config.reward), by, reward.status), reward.answer, reward.value))
    return grades
