"""What one kind of reward says about one answer."""

from __future__ import annotations

from typing import NamedTuple


class Decision(NamedTuple):
    """Value in [0, 1], or None where the gold cannot be used; status as in `Reward`; detail in words."""

    value: float | None
    status: str = "ok"
    detail: str = ""


RIGHT = Decision(1.0)
WRONG = Decision(0.0)


def ambiguous(detail: str) -> Decision:
    """The answer makes more than one claim."""
    return Decision(0.0, "ambiguous", detail)


def malformed(detail: str) -> Decision:
    """The answer makes no claim of its kind."""
    return Decision(0.0, "malformed", detail)


def gold_error(detail: str) -> Decision:
    """The reference itself cannot be read: nobody can be judged by it."""
    return Decision(None, "gold_error", detail)
