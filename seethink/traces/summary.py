"""Many traces in a few numbers: means over what is decided, always with how many that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import StatisticsError, correlation, fmean
from typing import Any

from seethink.traces.analyse import TraceStats

Summary = dict[str, Any]


def summarise(traces: Sequence[TraceStats]) -> Summary:
    """{measure: {"mean", "n"}} over the traces for which it is decided, plus how length goes with being right."""
    names = list(traces[0].markers) if traces else []
    measures: dict[str, Callable[[TraceStats], float | None]] = {
        "words": lambda t: t.words,
        "tokens": lambda t: t.tokens or None,
        **{f"markers_{n}": lambda t, n=n: t.per_100_words(n) for n in names},
        "hesitations": lambda t: t.hesitations,
        "revisions": lambda t: t.revisions,
        "pseudo_ahas": lambda t: t.pseudo_ahas,
        "repeated": lambda t: t.repeated,
        "truncated": lambda t: t.truncated,
        "agrees": lambda t: t.agrees,
        "ok": lambda t: t.ok,
        "true_share": lambda t: t.true_share,
        "undecidable_share": lambda t: t.undecidable_share,
        "true_steps": lambda t: t.true_steps,
        "false_steps": lambda t: t.false_steps,
        "any_false": lambda t: None if t.false_steps is None else t.false_steps > 0,
        "repaired_share": lambda t: (t.repaired or 0) / t.false_steps if t.false_steps else None,
        "first_wrong": lambda t: t.first_wrong,
        "before_wrong": lambda t: t.before_wrong,
        "lucky_among_right": lambda t: t.lucky if t.ok else None,
    }
    means = {name: mean([measure(t) for t in traces]) for name, measure in measures.items()}
    return {"traces": len(traces), **means, "length": by_outcome(traces)}


def mean(values: Sequence[float | None]) -> Summary:
    """Mean over the values that are decided; None when there are none."""
    decided = [float(v) for v in values if v is not None]
    return {"mean": fmean(decided) if decided else None, "n": len(decided)}


def by_outcome(traces: Sequence[TraceStats]) -> Summary:
    """Words of right and of wrong answers, and the correlation of length with being right (None without spread)."""
    graded = [t for t in traces if t.ok is not None]
    words, right = [float(t.words) for t in graded], [float(bool(t.ok)) for t in graded]
    try:
        r = correlation(words, right)
    except StatisticsError:  # fewer than two traces, or all of one length or one outcome
        r = None
    return {
        "right": mean([t.words for t in graded if t.ok]),
        "wrong": mean([t.words for t in graded if not t.ok]),
        "correlation": r,
    }
