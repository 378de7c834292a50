"""A board of our own: JSONL of samples, each graded by the reward of its kind."""

from __future__ import annotations

from seethink.core.nouns import Sample, Trace, Verdict
from seethink.evals.boards.board import Grade
from seethink.evals.config import EvalConfig
from seethink.rewards import Rewarder


def grade(samples: list[Sample], traces: list[Trace], config: EvalConfig) -> list[Grade]:
    """By rules; what an open answer says, by the scorer."""
    grades = []
    with Rewarder(config.reward, scores=config.out / "scores.sqlite", ledger=config.out / "ledger.sqlite") as rewarder:
        for reward in rewarder.score_batch(samples, [t.text for t in traces]):
            scored = reward.kind == "open" and reward.status in ("ok", "scorer_error")
            by = config.reward.open.scorer if scored else "rule"
            verdict = Verdict(rewarder.is_correct(reward), by, reward.status)
            grades.append(Grade(verdict, reward.answer, reward.value))
    return grades
