"""Two evaluations of one board, item by item: who is right where, how large the difference is, and where rules disagree.

An item enters a difference only where both sides are decided; what is undecided on one side is counted apart and never taken
for wrong. Of several draws an item's value is the mean of the decided ones. Items that belong together (`Score.cluster`) are
one unit of the interval.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.nouns import Score
from seethink.core.stats import DRAWS, Comparison, Interval, cluster_parts, compare
from seethink.evals.evaluated import Evaluated


@dataclass(frozen=True, slots=True)
class ScorePair:
    """One item as both runs answered it, their draws in order."""

    a: list[Score]
    b: list[Score]
    values: tuple[float | None, float | None]
    """Share right of the decided draws on either side; None where none is decided."""

    @property
    def id(self) -> str:
        return self.a[0].sample_id

    @property
    def unit(self) -> str:
        """Its cluster, or itself where it is independent."""
        return self.a[0].cluster or self.id

    @property
    def decided(self) -> bool:
        return None not in self.values

    @property
    def outcome(self) -> str:
        """better (b above a), worse, same, or undecided: on a, on b, on both."""
        a, b = self.values
        if a is None or b is None:
            return "undecided on both" if a is b else "undecided on A" if a is None else "undecided on B"
        return "same" if a == b else "better" if b > a else "worse"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Equal responses on which two profiles differ, by the rungs that decided."""

    rung_a: str
    rung_b: str
    states: tuple[str, str]
    """right, wrong, unparsed or judge_failed of either side"""
    ids: list[str]
    examples: list[tuple[Score, Score]]


def pair(a: Evaluated, b: Evaluated) -> list[ScorePair]:
    """Items both runs hold, in the order of the first. Raises UserError for runs of different boards."""
    if a.task != b.task:
        what = f"these are two boards: {a.title} and {b.title}"
        raise UserError(what, where=b.folder, remedy="Compare evaluations of one board")
    hashes = a.summary.get("dataset_hash"), b.summary.get("dataset_hash")
    if hashes[0] != hashes[1]:
        what = f"both are {a.title}, but of other items: dataset hash {hashes[0]} and {hashes[1]}"
        raise UserError(what, where=b.folder, remedy="Compare runs of one file, with one --limit and one --skip_bad")
    rows_a, rows_b = _by_item(a.scores), _by_item(b.scores)
    both = ((rows, rows_b[key]) for key, rows in rows_a.items() if key in rows_b)
    pairs = [ScorePair(one, other, (_share(one), _share(other))) for one, other in both]
    if not pairs:
        raise UserError("these runs share no item", where=b.folder, remedy="Compare evaluations of one board")
    return pairs


def same_responses(pairs: Sequence[ScorePair]) -> bool:
    """Whether both sides hold the very same texts, so that only the scoring differs."""
    return all([s.text for s in p.a] == [s.text for s in p.b] for p in pairs)


def difference(pairs: Sequence[ScorePair], seed: int = 0, draws: int = DRAWS) -> Comparison | None:
    """Share right of B minus that of A over items decided on both sides, as fractions; None where there are none.

    Single independent items with one draw: p is McNemar's exact one. Else the bootstrap's, over clusters.
    """
    known = [(p.unit, a, b) for p in pairs for a, b in [p.values] if a is not None and b is not None]
    if not known:
        return None
    units, *sides = zip(*known, strict=True)
    a, b = (cluster_parts(side, units) for side in sides)
    found = compare(b, a, seed, draws)
    if found is None:
        return None
    limits = found.interval  # of clusters of unequal size the parts may lie beyond what a share can differ by
    return replace(found, interval=Interval(limits.estimate, max(-1.0, limits.low), min(1.0, limits.high)))


def board_difference(
    pairs: Sequence[ScorePair], metric: Callable[[list[Score]], dict[str, Any]], seed: int = 0
) -> Comparison | None:
    """The same of the board's own score where that is a credit per cluster: worst case, strict. Units with an undecided item
    are left out. None where items are independent, for several draws, or where nothing is decided.
    """
    units: defaultdict[str, list[ScorePair]] = defaultdict(list)
    for p in pairs:
        units[p.unit].append(p)
    if all(len(rows) == 1 for rows in units.values()) or any(len(p.a) + len(p.b) > 2 for p in pairs):
        return None
    kept = [rows for rows in units.values() if all(p.decided for p in rows)]
    table = [[_credit(metric, [p.a[0] for p in rows]), _credit(metric, [p.b[0] for p in rows])] for rows in kept]
    if not table or any(value is None for row in table for value in row):
        return None
    credits = np.array(table, dtype=np.float64)
    return compare(credits[:, 1], credits[:, 0], seed)


def flips(pairs: Sequence[ScorePair]) -> dict[str, int]:
    """Items by outcome: better, worse, same, undecided on either side."""
    counts = Counter(p.outcome for p in pairs)
    names = ("better", "worse", "same", "undecided on A", "undecided on B", "undecided on both")
    return {name: counts[name] for name in names}


def disagreements(pairs: Sequence[ScorePair], examples: int = 3) -> list[Disagreement]:
    """Equal responses with different states, grouped by the rungs of both sides, the largest group first."""
    groups: defaultdict[tuple[str, str, str, str], list[tuple[Score, Score]]] = defaultdict(list)
    for p in pairs:
        for a, b in zip(p.a, p.b, strict=True):
            if a.status != b.status:
                groups[a.decided_by, b.decided_by, a.status, b.status].append((a, b))
    found = [
        Disagreement(rung_a, rung_b, (state_a, state_b), [a.sample_id for a, _ in rows], rows[:examples])
        for (rung_a, rung_b, state_a, state_b), rows in groups.items()
    ]
    return sorted(found, key=lambda d: (-len(d.ids), d.rung_a, d.rung_b))


def table_row(p: ScorePair) -> dict[str, Any]:
    """A row of pairs.parquet: of several draws the first speaks for rung, reason and answer."""
    a, b = p.a[0], p.b[0]
    value_a, value_b = p.values
    return {
        "sample_id": p.id, "part": a.part, "level": a.level, "kind": a.kind, "cluster": a.cluster, "outcome": p.outcome,
        "value_a": value_a, "value_b": value_b, "status_a": a.status, "status_b": b.status, "answer_a": a.answer,
        "answer_b": b.answer, "rung_a": a.decided_by, "rung_b": b.decided_by, "reason_a": a.reason, "reason_b": b.reason,
        "same_text": [s.text for s in p.a] == [s.text for s in p.b],
    }  # fmt: skip


def _by_item(scores: Sequence[Score]) -> dict[str, list[Score]]:
    rows: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        rows[score.sample_id].append(score)
    return {key: sorted(draws, key=lambda s: s.draw) for key, draws in rows.items()}


def _share(scores: Sequence[Score]) -> float | None:
    decided = [float(s.ok) for s in scores if s.ok is not None]
    return fmean(decided) if decided else None


def _credit(metric: Callable[[list[Score]], dict[str, Any]], scores: list[Score]) -> float | None:
    """Of one cluster, in [0, 1]."""
    score = metric(scores).get("score")
    return None if score is None else score / 100
