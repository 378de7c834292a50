"""Numbers over scores alone, so that they can be tested without a model.

A score is a mean over items. Its 95 % interval takes clusters as the independent draws: single items where they are, all
variants of one seed question where those belong together (core/stats.py has the one formula). All figures are in percent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from seethink.core.nouns import Score
from seethink.core.stats import clustered
from seethink.evals.verdicts import STATES


def figures(name: str, credits: Sequence[float], clusters: Sequence[object] = ()) -> dict[str, Any]:
    """{name: percent, name_interval: [low, high]} of credits in [0, 1]; None without any.

    `clusters` says which credits are one draw; without it each is one of its own.
    """
    found = clustered(credits, clusters or range(len(credits)), share=True)
    if found is None:
        return {name: None, f"{name}_interval": None}
    return {name: 100 * fmean(credits), f"{name}_interval": [100 * found.low, 100 * found.high]}


def right_share(scores: Sequence[Score]) -> dict[str, Any]:
    """The metric of most boards: 100 right / n, whatever is undecided being not right; clusters are taken together."""
    return figures("score", [float(s.ok is True) for s in scores], [s.cluster or s.sample_id for s in scores])


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """What every board counts: items by state, reason and rung, coverage, and the same by part, level and kind."""
    states = Counter(s.status for s in scores)
    lengths = [s.tokens for s in scores if s.tokens]  # of predictions nobody may know them
    return {
        "n": len(scores),
        **{name: states[name] for name in STATES},
        "coverage": 100 * (states["right"] + states["wrong"]) / len(scores) if scores else None,
        **accuracy(scores),
        "cut": sum(s.stop == "length" for s in scores),
        "length": fmean(lengths) if lengths else None,
        **{name: fmean(found) if (found := _known(name, scores)) else None for name in ("entropy", "kl")},
        "reasons": dict(Counter(s.reason for s in scores if s.reason)),
        "decided_by": dict(Counter(s.decided_by for s in scores if s.ok is not None)),
        "by_kind": by("kind", scores),
        "by_part": {
            part: {**row, "by_kind": by("kind", [s for s in scores if s.part == part])}
            for part, row in by("part", scores).items()
        },
        "by_level": by("level", scores) if any(s.level for s in scores) else {},
    }


def _known(column: str, scores: Sequence[Score]) -> list[float]:
    return [value for s in scores if (value := getattr(s, column)) is not None]


def alarms(scores: Sequence[Score]) -> dict[str, str]:
    """{alarm: sentence} for answers that say nothing about a model."""
    came = [s for s in scores if s.stop != "error"]
    decided = [s.ok for s in scores if s.ok is not None]
    found = {}
    if came and all(s.stop == "length" for s in came):
        found["all_cut"] = "every answer hit max_tokens: raise it, none of them is finished"
    if came and not decided:
        found["undecided"] = "no answer is decided: check the golds, the profile and the judge"
    if decided and not any(decided):
        found["at_the_floor"] = f"none of {len(decided)} answers is right: nothing can be compared there"
    return found


def accuracy(scores: Sequence[Score]) -> dict[str, Any]:
    """decided items, the share right of them in [0, 1], mean reward; None where nothing was decided."""
    decided = [s.ok for s in scores if s.ok is not None]
    rewards = [s.reward for s in scores if s.reward is not None]
    return {
        "decided": len(decided),
        "accuracy": fmean(decided) if decided else None,
        "mean_reward": fmean(rewards) if rewards else None,
    }


def by(column: str, scores: Sequence[Score]) -> Mapping[str, dict[str, Any]]:
    """Counts of the items of every value of a column, and their share right with its interval; undecided counts as not right."""
    groups: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[getattr(score, column)].append(score)
    return {
        value: {
            "n": len(rows),
            "right": sum(s.ok is True for s in rows),
            **right_share(rows),
            "cut": sum(s.stop == "length" for s in rows),
            **accuracy(rows),
        }
        for value, rows in sorted(groups.items())
    }
