"""Rows on their way into a subset: those that are still in, and of every other one why it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seethink.core.nouns import Drop, Sample
from seethink.data.funnel import Funnel
from seethink.traces.analyse import TraceStats

STEPS = ("check", "decontaminate", "keep", "pass_rate", "same", "pick", "choose")


@dataclass(slots=True)
class Entry:
    """A row of the data on its way into the subset: a question, and its trace where the data hold traces."""

    sample: Sample
    text: str = ""
    """The completion; empty without a trace."""
    draw: int | None = None
    """Of an evaluation: which of the model's answers."""
    judged: bool = False
    ok: bool | None = None
    """Once it is judged: whether the answer is right."""
    credit: float | None = None
    """The reward behind it."""
    why: str = ""
    """What the verdict hangs on."""
    stats: TraceStats | None = None

    @property
    def measured(self) -> TraceStats:
        """What a trace looks like, once it was measured."""
        assert self.stats
        return self.stats


WhyDropped = tuple[str, str]
"""Reason and detail of a drop."""


class Sieve:
    """Entries that are still in, drops of all others; together they are the `rows`. `kinds` counts the questions of each kind."""

    def __init__(self, entries: list[Entry], drops: list[Drop]):
        unreadable = [Sample(drop.sample_id, drop.source, (), "", "", "open") for drop in drops]
        self.rows = [*unreadable, *(entry.sample for entry in entries)]
        self.entries, self.drops = entries, drops
        self.kinds = Counter({entry.sample.id: entry.sample.kind for entry in entries}.values())

    def drop(self, step: str, fault: Callable[[Entry], WhyDropped | None]) -> None:
        """Drop every entry that has a fault."""
        kept = []
        for entry in self.entries:
            if found := fault(entry):
                detail = found[1] if entry.draw is None else f"draw {entry.draw}: {found[1]}"
                self.drops.append(Drop(entry.sample.id, entry.sample.source, step, found[0], detail))
            else:
                kept.append(entry)
        self.entries = kept

    def drop_others(self, step: str, chosen: Iterable[Entry], fault: WhyDropped) -> None:
        """Drop all but these, which stay in their order."""
        wanted = {id(entry) for entry in chosen}
        self.drop(step, lambda entry: None if id(entry) in wanted else fault)

    @property
    def traces(self) -> bool:
        return any(entry.text for entry in self.entries)

    @property
    def funnel(self) -> Funnel:
        """What is left counts as sft where it has traces, else as rl."""
        sft = [entry.sample for entry in self.entries if entry.text]
        return Funnel(self.rows, self.drops, sft=sft, steps=STEPS)
