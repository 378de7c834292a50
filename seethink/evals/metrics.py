"""Numbers over scores alone, so that they can be tested without a model."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Any

from seethink.core.nouns import Score


def summarise(scores: list[Score]) -> dict[str, Any]:
    """Accuracy over decided items, overall and by part and kind, with what was undecided and cut beside it."""
    parts = sorted({s.part for s in scores})
    return {
        **accuracy(scores),
        "undecided": sum(s.ok is None for s in scores),
        "cut": sum(s.stop == "length" for s in scores),
        "length": fmean(s.tokens for s in scores) if scores else None,
        "statuses": dict(Counter(s.status for s in scores)),
        "by_kind": by_kind(scores),
        "by_part": {
            part: {**accuracy(rows := [s for s in scores if s.part == part]), "by_kind": by_kind(rows)}
            for part in parts
        },
    }


def alarms(scores: list[Score]) -> dict[str, str]:
    """{alarm: sentence} for answers that say nothing about a model."""
    came = [s for s in scores if s.stop != "error"]
    decided = [s.ok for s in scores if s.ok is not None]
    found = {}
    if came and all(s.stop == "length" for s in came):
        found["all_cut"] = "every answer hit max_tokens: raise it, none of them is finished"
    if came and not decided:
        found["undecided"] = "no answer is decided: check the golds and the scorer"
    if decided and not any(decided):
        found["at_the_floor"] = f"none of {len(decided)} answers is right: nothing can be compared there"
    return found


def accuracy(scores: list[Score]) -> dict[str, Any]:
    """n decided, share right of them, mean reward; None where nothing was decided."""
    decided = [s.ok for s in scores if s.ok is not None]
    rewards = [s.reward for s in scores if s.reward is not None]
    return {
        "n": len(decided),
        "accuracy": fmean(decided) if decided else None,
        "mean_reward": fmean(rewards) if rewards else None,
    }


def by_kind(scores: list[Score]) -> dict[str, dict[str, Any]]:
    kinds = sorted({s.kind for s in scores})
    return {kind: accuracy([s for s in scores if s.kind == kind]) for kind in kinds}
