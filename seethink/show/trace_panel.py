"""Inside the traces of every arm: hesitation, truth of steps, length against being right. One number a row, with interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seethink.core.stats import Interval, estimate
from seethink.study.folder import Study
from seethink.traces.analyse import TraceStats, analyse
from seethink.traces.steps import Checker
from seethink.traces.summary import by_outcome

Measure = Callable[[TraceStats], float | None]


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


MEASURES: tuple[tuple[str, str, str, Measure], ...] = (
    ("Words of thinking", "words", "", lambda t: t.words),
    ("Hesitation markers", "per 100 words", "lexicon word", lambda t: t.per_100_words("word")),
    ("Second looks", "per 100 words", "lexicon strict", lambda t: t.per_100_words("strict")),
    ("Aha cues of the paper", "per 100 words", "lexicon paper, substrings", lambda t: t.per_100_words("paper")),
    ("Hesitations", "per trace", "sentences with a marker", lambda t: t.hesitations),
    ("Pseudo-ahas", "%", "hesitations that changed nothing", lambda t: _share(t.pseudo_ahas, t.hesitations)),
    ("True statements", "%", "of those that can be checked", lambda t: t.true_share),
    ("Cannot be checked", "%", "of all statements", lambda t: t.undecidable_share),
    ("Traces with a false statement", "%", "", lambda t: None if t.false_steps is None else t.false_steps > 0),
    ("False statements repaired", "%", "restated truthfully later", lambda t: _share(t.repaired, t.false_steps)),
    ("Lucky", "%", "of right answers, after a false statement left standing", lambda t: t.lucky if t.ok else None),
    ("Thinking agrees with the answer", "%", "where a last result is stated", lambda t: t.agrees),
    ("Repeated 4-grams", "%", "", lambda t: t.repeated),
    ("Cut or never closed", "%", "", lambda t: t.truncated),
)


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
    for name, unit, note, measure in MEASURES:
        values = {}
        for arm, runs in analysed.items():
            table = [[None if item not in run else measure(run[item]) for item in study.items] for run in runs]
            values[arm] = estimate(np.array(table, dtype=np.float64), unit == "%", draws=2_000)
        rows.append(TraceRow(name, unit, note, values))
    outcomes = {arm: by_outcome([t for run in runs for t in run.values()]) for arm, runs in analysed.items()}
    return TracePanel(rows, outcomes)


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None
