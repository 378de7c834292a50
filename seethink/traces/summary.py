"""Many traces in a few numbers: means over what is decided, always with how many that is and an interval over questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import StatisticsError, correlation, fmean
from typing import Any

from seethink.core.stats import clustered
from seethink.core.terminal import between, print_table
from seethink.traces.analyse import TraceStats

Summary = dict[str, Any]
SHARES = (
    "repeated", "truncated", "agrees", "ok", "true_share", "undecidable_share", "any_false", "repaired_share", "before_wrong",
    "lucky_among_right",
)  # fmt: skip
"""Measures that lie in [0, 1]."""
SHOWN = (
    "words", "tokens", "hesitations", "revisions", "pseudo_ahas", "repeated", "truncated", "ok", "agrees", "true_share", "any_false",
    "repaired_share", "lucky_among_right",
)  # fmt: skip
"""What a terminal is told, beside the rate of every lexicon's markers."""


def summarise(traces: Sequence[TraceStats], questions: Sequence[str] | None = None) -> Summary:
    """{measure: {"mean", "n", "interval"}} over the traces for which it is decided, plus how length goes with being right.

    Traces of one of the `questions` (their ids, one per trace) are one draw of the intervals; without them each trace is one.
    """
    asked = range(len(traces)) if questions is None else questions
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
    means = {
        name: with_interval([measure(t) for t in traces], asked, name in SHARES) for name, measure in measures.items()
    }
    return {"traces": len(traces), **means, "length": by_outcome(traces)}


def mean(values: Sequence[float | None]) -> Summary:
    """Mean over the values that are decided; None when there are none."""
    decided = [float(v) for v in values if v is not None]
    return {"mean": fmean(decided) if decided else None, "n": len(decided)}


def with_interval(values: Sequence[float | None], questions: Sequence[object], share: bool) -> Summary:
    """The same with its 95 % interval over questions: [low, high], None where nothing, or nothing but one number, was measured."""
    decided = [(float(v), q) for v, q in zip(values, questions, strict=True) if v is not None]
    found = clustered([v for v, _ in decided], [q for _, q in decided], share)
    known = found is not None and found.high > found.low
    return {**mean(values), "interval": [found.low, found.high] if found and known else None}


def say(summary: Summary) -> None:
    """The headline measures of all traces as a table, and what could not be measured."""
    whole = summary["all"]
    names = [
        name for name in (*SHOWN[:2], *(n for n in whole if n.startswith("markers_")), *SHOWN[2:]) if name in whole
    ]
    unknown = [in_words(name) for name in names if not whole[name]["n"]]
    rows = []
    for name in names:
        if n := whole[name]["n"]:
            found = whole[name]
            scale, digits = (100, 1) if name in SHARES else (1, 2)
            limits = found.get("interval") and [scale * limit for limit in found["interval"]]
            rows.append((in_words(name), between(scale * found["mean"], limits, digits), f"{n} of {whole['traces']}"))
    print_table(("", "mean [95 %]", "decided for"), rows)
    if whole["ok"]["n"] and (n := whole["traces"] - whole["ok"]["n"]):
        print(f"undecided: whether right, of {n} traces, which count neither way")
    if unknown:
        print(f"not measured: {', '.join(unknown)} (true and false statements need --checker, claims --samples)")


def in_words(name: str) -> str:
    """What a terminal calls a measure."""
    if name.startswith("markers_"):
        return f"{name.removeprefix('markers_')} markers per 100 words"
    words = {"ok": "right", "agrees": "answer as concluded", "truncated": "cut", "repeated": "repeated 4-grams"}
    return words.get(name, name.replace("_", " ")) + (", %" if name in SHARES else "")


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
