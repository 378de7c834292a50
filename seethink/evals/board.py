"""What a benchmark is to `seethink eval`: plain functions. One file per benchmark, and a row in `boards/__init__.py`.

    response --read--> answer --score--> right or wrong          rules alone, where they can tell
        \\--extraction judge--> answer --score-->                 where the rules read nothing
                                      \\--grading judge-->        where only the meaning tells

Which rules, and which questions to a judge, is a `Profile`: `leaderboard` (VLMEvalKit's), `official` (the authors'), `strict`
(ours). A board has several, so that one set of responses can be scored under each, item by item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.nouns import Sample, Score, Trace, Verdict
from seethink.core.store import DataRow
from seethink.evals.judge.questions import JudgeQuestion


class Response(NamedTuple):
    """One answer to one item of a board."""

    sample: Sample
    trace: Trace
    draw: int = 0
    """Which of the k answers to this item, from 0."""
    seconds: float = 0.0
    extraction: str | None = None
    """A stored reply of an extraction judge, used instead of asking one."""
    entropy: float | None = None
    """Nats per token of the model's own distribution; None where no other model was named to score against."""
    kl: float | None = None
    """KL(model || that other model), nats per token."""


class Grade(NamedTuple):
    """What grading makes of one response."""

    verdict: Verdict
    """`by` is the rung that decided, `reason` a word that can be counted: "" of a plain right or wrong, refusal, ..."""
    answer: str | None
    """As it was read from the response."""
    reward: float | None = None
    """Credit in [0, 1] on boards of ours; None where the verdict is, or where a board knows right and wrong only."""
    scored: str | None = None
    """The part of the response that was scored; None: all of it."""


class Reading(NamedTuple):
    """An answer found in a response."""

    answer: str
    by: str
    """The rung that found it: equal_option, last_letter, box, number, ..."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to score a board.

    read     the answer that rules find in a response; None: they find none, and a judge may be asked
    score    verdicts on (item, answer) pairs, one each and in order; `ok` None where the answer cannot be understood; None where
             only the meaning tells and a grading judge may be asked
    extract  the question to an extraction judge, of an item and a response; None: this profile asks none
    grade    the question to a grading judge, of an item and an answer; None: this profile asks none
    whole    reads a response as it came, answer tags and all, as the original does; otherwise what stands in them alone
    rules_first  a stored extraction stands for the judge's reply: what rules read in the response goes before it
    quirks   known defects of the original that are reproduced for the sake of comparable numbers, in words
    """

    read: Callable[[Sample, str], Reading | None]
    score: Callable[[Sequence[tuple[Sample, str]]], list[Verdict | None]]
    extract: Callable[[Sample, str], JudgeQuestion] | None = None
    grade: Callable[[Sample, str], JudgeQuestion] | None = None
    whole: bool = False
    rules_first: bool = False
    quirks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """A benchmark.

    title     as it is written in reports: MathVista testmini
    load      its items from a published file or folder (`records.py` reads them), and what is wrong with a row in its place.
              `meta` names part (subject), level and cluster (items that belong together) where the board has them. Pictures
              that stand in the file are written below the folder given; without one they are left out
    profiles  name -> way to score; the first is the default
    prompts   name -> the item as a model is asked it; the first is the default
    metric    what the board's verdicts come to, over the scores alone; see `metrics.py`
    sizes     row counts of the published set; () for boards of any size
    left_out  id -> why a published row is no item
    """

    title: str
    load: Callable[[Path, Path | None], Iterable[DataRow]]
    profiles: dict[str, Profile]
    prompts: dict[str, Callable[[Sample], Sample]]
    metric: Callable[[list[Score]], dict[str, Any]]
    sizes: tuple[int, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def per_item(score: Callable[[Sample, str], Verdict | None]) -> Callable[..., list[Verdict | None]]:
    """A `Profile.score` from a function of one item and one answer."""
    return lambda pairs: [score(sample, answer) for sample, answer in pairs]


def asked_as(text: Callable[[Sample], str]) -> Callable[[Sample], Sample]:
    """An entry of `Board.prompts` from a function that writes the whole question, options and all; images go before it."""
    return lambda sample: replace(sample, question=text(sample), choices=(), places=())
