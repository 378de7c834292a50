"""Inside the traces of every arm: hesitation, truth of steps, length against being right. One number a row, with interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seethink.core.stats import Interval, estimate
from seethink.study.folder import Study
from seethink.traces import lexicon
from seethink.traces.analyse import TraceStats, analyse
from seethink.traces.steps import Checker
from seethink.traces.summary import by_outcome


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One measure over all arms."""

    name: str
    unit: str
    note: str
    values: dict[str, Interval | None]
    """arm -> estimate; None where nothing is decided."""


@dataclass(frozen=True, slots=True)
class TracePanel:
    """Everything the report says about traces."""

    rows: list[TraceRow]
    by_outcome: dict[str, dict]
    """arm -> words of right and wrong answers, and their correlation."""


ROWS: tuple[tuple[str, str, str, Callable[[TraceStats], float | None]], ...] = (
    ("Words of thinking", "words", "", lambda t: t.words),
    ("Hesitation markers", "per 100 words", "lexicon word", lambda t: t.per_100_words("word")),
    ("Second looks", "per 100 words", "lexicon strict", lambda t: t.per_100_words("strict")),
    ("Aha cues of the paper", "per 100 words", "lexicon paper, substrings", lambda t: t.per_100_words("paper")),
    ("Hesitations", "per trace", "sentences with a marker", lambda t: t.hesitations),
    ("Revisions", "per trace", "hesitations after which something was stated differently", lambda t: t.revisions),
    ("Pseudo-ahas", "%", "of hesitations, which changed nothing", lambda t: _share(t.pseudo_ahas, t.hesitations)),
    ("True statements", "per trace", "a count: what is reasoned", lambda t: t.true_steps),
    ("Truth of statements", "%", "of those that can be checked", lambda t: t.true_share),
    ("Cannot be checked", "%", "of all statements", lambda t: t.undecidable_share),
    ("Traces with a false statement", "%", "", lambda t: None if t.false_steps is None else t.false_steps > 0),
    ("First false statement", "place", "among the statements, where one is false", lambda t: _place(t.first_wrong)),
    ("Before the first false statement", "%", "of the thinking", lambda t: t.before_wrong),
    ("False statements repaired", "%", "restated truthfully later", lambda t: _share(t.repaired, t.false_steps)),
    ("Repairs", "per trace", "", lambda t: t.repaired),
    ("Lucky", "%", "of right answers, after a false statement left standing", lambda t: t.lucky if t.ok else None),
    ("Repeated 4-grams", "%", "", lambda t: t.repeated),
    ("Cut or never closed", "%", "", lambda t: t.truncated),
)
"""Name, unit, note and value of every row. What thinking and answer agree in is one of `study.measures`."""


def trace_panel(study: Study, checker: Checker | None) -> TracePanel:
    """Measures of the evaluation traces of every arm that has any."""
    analysed: dict[str, list[dict[str, TraceStats]]] = {}  # arm -> for each seed: sample id -> its trace
    for name, arm in study.arms.items():
        for run in arm.of("eval"):
            stats = {}
            for s in run.scores:
                sample = study.board.get(s.sample_id)
                stats[s.sample_id] = analyse(s.text, sample, checker, ok=s.ok, stop=s.stop, tokens=s.tokens)
            analysed.setdefault(name, []).append(stats)
    rows = []
    for name, unit, note, measure in ROWS:
        values = {}
        for arm, runs in analysed.items():
            table = [[None if item not in run else measure(run[item]) for item in study.items] for run in runs]
            values[arm] = estimate(np.array(table, dtype=np.float64), unit == "%", draws=2_000)
        rows.append(TraceRow(name, unit, _with_quality(note), values))
    outcomes = {arm: by_outcome([t for run in runs for t in run.values()]) for arm, runs in analysed.items()}
    return TracePanel(rows, outcomes)


def _with_quality(note: str) -> str:
    """The note of a rate of markers with how well its lexicon finds hesitation, where that was measured."""
    if not note.startswith("lexicon "):
        return note
    used = lexicon.load(note.removeprefix("lexicon ").partition(",")[0])
    if used.precision is None or used.recall is None:
        return f"{note}; precision and recall not measured"
    return f"{note}; on simulated teachers precision {used.precision:.2f}, recall {used.recall:.2f}"


def _place(index: int | None) -> int | None:
    return None if index is None else index + 1


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None
