"""One statement of a trace as a checker of some domain judges it, and how a checker is named and called.

A checker is any function `(sample, thinking) -> list of Step`, in the order of the text, named "module:function".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seethink.core.errors import UserError
from seethink.core.load import load_function
from seethink.core.nouns import Sample


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


Checker = Callable[[Sample, str], list[Step]]


def load_checker(name: str) -> Checker:
    """The function that "module:function" names. Raises UserError where there is none."""
    return load_function(name, "checker")


def check_steps(checker: Checker, sample: Sample, thinking: str) -> list[Step]:
    """The checker's steps. Raises UserError where it stumbles over the sample, e.g. one of another domain."""
    try:
        return checker(sample, thinking)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"the checker failed on sample {sample.id!r} ({type(error).__name__}: {error})"
        raise UserError(what, remedy="Give the samples the checker was written for, or no checker") from error


def locate(thinking: str, steps: Sequence[Step]) -> list[tuple[int, int] | None]:
    """(start, end) of each step in the text, searched in order; None where a checker did not keep the words."""
    places: list[tuple[int, int] | None] = []
    cursor = 0
    for step in steps:
        start = thinking.find(step.text, cursor) if step.text else -1
        places.append((start, start + len(step.text)) if start >= 0 else None)
        cursor = start + len(step.text) if start >= 0 else cursor
    return places
