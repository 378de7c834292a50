"""One statement of a trace, as a checker of some domain judges it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a trace.

    text   the statement as written
    truth  True, False, or None where it cannot be checked
    kind   form of the statement, a word of the checker's own
    slot   what the statement is about: a later statement with the same slot repairs or revises it; "" for none
    """

    text: str
    truth: bool | None
    kind: str = ""
    slot: str = ""
