"""Who left where and why: per source and step, in = out + dropped + pending, asserted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from seethink.core.nouns import Drop
from seethink.core.terminal import print_table

STEPS = ("metadata", "caption", "distill", "rewrite", "verify", "split")
DROP_COLUMNS = ("sample_id", "source", "step", "reason", "detail")


class Sourced(Protocol):
    """What is counted: a sample, or a row that stands for one."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Funnel:
    """Samples that came in, those that left with a reason, those that wait at a step, and those that became SFT."""

    samples: Sequence[Sourced]
    drops: Sequence[Drop]
    pending: Mapping[str, str] = field(default_factory=dict)
    """Step per sample id, of an interrupted run."""
    sft: Sequence[Sourced] = ()
    steps: tuple[str, ...] = STEPS

    def rows(self) -> list[dict[str, Any]]:
        """One row per source and step; the last step's `out` is split into `sft` and `rl`."""
        sources = list(dict.fromkeys(s.source for s in self.samples))
        source_of = {s.id: s.source for s in self.samples}
        dropped = Counter((d.source, d.step, d.reason) for d in self.drops)
        waiting = Counter((source_of[i], step) for i, step in self.pending.items())
        sft = Counter(s.source for s in self.sft)
        rows = []
        for source in sources:
            here = sum(s.source == source for s in self.samples)
            for step in self.steps:
                reasons = {r: n for (at, of, r), n in sorted(dropped.items()) if (at, of) == (source, step)}
                pending = waiting[source, step]
                out = here - sum(reasons.values()) - pending
                numbers = {"in": here, "dropped": reasons, "pending": pending, "out": out}
                rows.append({"source": source, "step": step, **numbers})
                here = out
            rows[-1] |= {"sft": sft[source], "rl": here - sft[source]}
        left = sum(row["out"] for row in rows if row["step"] == self.steps[-1])
        assert len(self.samples) == left + len(self.drops) + len(self.pending), "a sample is missing or counted twice"
        return rows


def print_funnel(funnel: Funnel) -> None:
    """The funnel as a table, one line per source."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in funnel.rows():
        by_source.setdefault(row["source"], []).append(row)
    lines = [
        (source, [steps[0]["in"], *(r["out"] for r in steps), steps[-1]["sft"], steps[-1]["rl"]])
        for source, steps in by_source.items()
    ]
    if lines:
        lines.append(("all", [sum(column) for column in zip(*(numbers for _, numbers in lines), strict=True)]))
    print_table(("source", "in", *funnel.steps, "sft", "rl"), [(name, *numbers) for name, numbers in lines])
    reasons = Counter(f"{d.step}/{d.reason}" for d in funnel.drops)
    if reasons:
        print("dropped: " + ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items())))
