"""What passes between the rewarder and the kinds: an answer as it was read, and what a kind says about it."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from seethink.rewards.text import normalise


class AnswerText:
    """What stood between the answer tags: `raw`, which scorers of open answers see, and `text` for all other readers."""

    def __init__(self, raw: str):
        self.raw = raw

    @cached_property
    def text(self) -> str:
        """Normalised, which is done once."""
        return normalise(self.raw)


class Decision(NamedTuple):
    """Value in [0, 1], or None where the gold cannot be used; status as in `Reward`; detail in words."""

    value: float | None
    status: str = "ok"
    detail: str = ""


RIGHT = Decision(1.0)
WRONG = Decision(0.0)
NOTHING = (
    "answer here", "1 or 2 or 3", "x = x", "0 = 0", "A, B, C, D", "[0, 0, 0, 0]", "?", "the correct answer", "N/A",
)  # fmt: skip
"""Replies that claim nothing, or everything at once; the first four for any kind."""


def ambiguous(detail: str) -> Decision:
    """The answer makes more than one claim."""
    return Decision(0.0, "ambiguous", detail)


def malformed(detail: str) -> Decision:
    """The answer makes no claim of its kind."""
    return Decision(0.0, "malformed", detail)


def gold_error(detail: str) -> Decision:
    """The reference itself cannot be read: nobody can be judged by it."""
    return Decision(None, "gold_error", detail)
