"""What a benchmark is to `seethink eval`: three plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.nouns import Sample, Score, Trace, Verdict
from seethink.core.store import DataRow
from seethink.evals.config import EvalConfig


class Grade(NamedTuple):
    """What grading makes of one response."""

    verdict: Verdict
    """`reason` is a word that can be counted: ok, no_format, ambiguous, ..."""
    answer: str | None
    """As it was read from the response."""
    reward: float | None
    """Credit in [0, 1]; None where the verdict is."""


@dataclass(frozen=True, slots=True)
class Board:
    """A benchmark.

    load    its items, `meta.part` naming the part, and what is wrong with a row in its place
    grade   one Grade per response, in order; responses that never came are not among them
    metric  the numbers of a run over the scores alone
    """

    load: Callable[[Path], Iterable[DataRow]]
    grade: Callable[[list[Sample], list[Trace], EvalConfig], list[Grade]]
    metric: Callable[[list[Score]], dict[str, Any]]
