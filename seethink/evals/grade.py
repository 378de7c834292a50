"""From responses to scores and summaries; no torch, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from seethink.core.nouns import Sample, Score, Trace
from seethink.rewards import Rewarder


def grade(
    board: str, samples: list[Sample], traces: list[Trace], seconds: list[float], rewarder: Rewarder
) -> list[Score]:
    """One Score per trace, in order. A response that ended in an error is undecided, never wrong."""
    rewards = rewarder.score_batch(samples, [t.text for t in traces])
    scores = []
    for sample, trace, reward, spent in zip(samples, traces, rewards, seconds, strict=True):
        failed = trace.stop == "error"
        scores.append(
            Score(
                board=board,
                part=str(sample.meta.get("part", "all")),
                sample_id=sample.id,
                kind=sample.kind,
                ok=None if failed else rewarder.is_correct(reward),
                reward=None if failed else reward.value,
                status="no_response" if failed else reward.status,
                answer=reward.answer,
                text=trace.text,
                stop=trace.stop,
                tokens=trace.tokens,
                seconds=spent,
            )
        )
    return scores


def summarise(scores: list[Score]) -> dict[str, Any]:
    """Accuracy over decided items, overall and by part and kind, with what was undecided and cut beside it."""
    parts = sorted({s.part for s in scores})
    return {
        **accuracy(scores),
        "undecided": sum(s.ok is None for s in scores),
        "cut": sum(s.stop == "length" for s in scores),
        "length": fmean(s.tokens for s in scores) if scores else None,
        "statuses": dict(Counter(s.status for s in scores)),
        "by_kind": _by(scores, "kind"),
        "by_part": {
            part: {**accuracy(rows := [s for s in scores if s.part == part]), "by_kind": _by(rows, "kind")}
            for part in parts
        },
    }


def accuracy(scores: Iterable[Score]) -> dict[str, Any]:
    """n decided, share right of them, mean reward; None where nothing was decided."""
    decided = [s for s in scores if s.ok is not None]
    return {
        "n": len(decided),
        "accuracy": fmean(s.ok for s in decided) if decided else None,
        "mean_reward": fmean(s.reward for s in decided) if decided else None,
    }


def _by(scores: list[Score], key: str) -> dict[str, dict[str, Any]]:
    values = sorted({getattr(s, key) for s in scores})
    return {v: accuracy([s for s in scores if getattr(s, key) == v]) for v in values}
