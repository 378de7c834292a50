"""Open answers: a scorer's opinion of the answer against its opinion of the reference.

The paper (sec. 4.1, after Muhtar et al. 2025) pays `1 - exp(-beta (S(answer) - S(reference)))` where the answer is liked more
and 0 elsewhere, beta 0.2. What follows from it is worth knowing: a copy of the reference earns nothing, early groups are all
zero, and only what the scorer likes better than the truth is paid, which invites flattery. Hence the other modes, guards that
look at the answer before any model does, and `audit`.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import read_json, write_json
from seethink.rewards.config import OpenConfig, RewardConfig
from seethink.rewards.decision import AnswerText, Decision, malformed
from seethink.rewards.text import lines_of, repeated_ngrams

MIN_LETTERS = 2
MAX_TIMES_LONGER, MAX_CHARS_LONGER = 4, 200
MAX_REPEATED = 0.4
FAILURES_FORGIVEN = 2
"""A batch may always lose this many scores, however small it is."""


@dataclass(frozen=True, slots=True)
class OpenItem:
    """One answer to score. The thinking is not part of it: only what was answered is judged."""

    question: str
    answer: str
    reference: str
    images: tuple[str, ...] = ()


class Scorer(Protocol):
    """Scores answers; a higher score is a better answer.

    name, version  part of the key under which a score is kept
    mode           the formula that suits its scale
    """

    name: str
    version: str
    mode: str

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        """A score per item, None where there is none: never a guess."""
        ...

    def spending(self) -> list[dict[str, Any]]:
        """Rows per step and model as in a ledger; empty for a scorer that costs nothing."""
        return []

    def close(self) -> None:
        """Release what it holds; nothing, where a scorer does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Formula:
    """From the difference d = S(answer) - S(reference) to a reward in [0, 1]."""

    mode: str
    beta: float = 0.2
    margin: float = 1.0
    calibration: Path | None = None

    def reward(self, answer: float, reference: float) -> float:
        """The value for two scores; `plain` takes the answer's own and ignores the reference."""
        d = answer - reference
        if self.mode == "plain":
            return min(1.0, max(0.0, answer))
        if self.mode == "sigmoid":
            return 1 / (1 + math.exp(-self.beta * d)) if self.beta * d > -700 else 0.0
        if self.mode == "calibrated":
            right, wrong = calibration(self.calibration)  # the share of held-out answers that d beats, both kinds alike
            return (bisect_left(right, d) / len(right) + bisect_left(wrong, d) / len(wrong)) / 2
        return -math.expm1(-self.beta * max(0.0, d + (self.margin if self.mode == "shifted" else 0.0)))


def formula_of(config: OpenConfig, scorer: Scorer) -> Formula:
    """The formula that the settings name, or the one that suits the scorer."""
    return Formula(
        scorer.mode if config.mode == "auto" else config.mode, config.beta, config.margin, config.calibration
    )


def by_score(
    pairs: Sequence[tuple[Sample, AnswerText]], config: RewardConfig, make_scorer: Callable[[], Scorer]
) -> list[Decision]:
    """One decision per (sample, answer). Identical answers are scored once; references too.

    Raises UserError when more than `max_failures` of the scores are missing: training on half a reward helps nobody.
    """
    scorer = make_scorer()
    formula = formula_of(config.open, scorer)
    refused = [guard(answer.raw, sample.gold) for sample, answer in pairs]
    answers = [OpenItem(sample.question, answer.raw, sample.gold, sample.images) for sample, answer in pairs]
    references = [OpenItem(sample.question, sample.gold, sample.gold, sample.images) for sample, _ in pairs]
    asked = [item for item, reason in zip(answers, refused, strict=True) if not reason]
    if formula.mode != "plain":
        asked += [item for item, reason in zip(references, refused, strict=True) if not reason]
    unique = list(dict.fromkeys(asked))
    scores = dict(zip(unique, scorer.score_batch(unique), strict=True)) if unique else {}
    missing = sum(not _usable(score) for score in scores.values())
    if missing > max(FAILURES_FORGIVEN, config.open.max_failures * len(unique)):
        what = f"the scorer {scorer.name} gave no score for {missing} of {len(unique)} answers"
        raise UserError(what, remedy="Check the scorer, or raise open.max_failures", code=3)
    return [
        malformed(reason) if reason else _decision(formula, scores[answer], scores.get(reference))
        for answer, reference, reason in zip(answers, references, refused, strict=True)
    ]


def guard(answer: str, reference: str) -> str:
    """Why an answer is not shown to any model, or ''."""
    if len(re.sub(r"[\W_]", "", answer)) < MIN_LETTERS:
        return "hardly a word"
    if len(answer) > MAX_TIMES_LONGER * len(reference) + MAX_CHARS_LONGER:
        return "far longer than the reference"
    if repeated_ngrams(answer.lower().split()) > MAX_REPEATED:
        return "repeats itself"
    found = next((p.pattern for p in injections() if p.search(answer) and not p.search(reference)), "")
    return f"talks to the grader: {found}" if found else ""


@cache
def injections() -> tuple[re.Pattern[str], ...]:
    lines = lines_of(Path(__file__).with_name("injections.txt"))
    return tuple(re.compile(line, re.IGNORECASE | re.MULTILINE) for line in lines)


def save_calibration(path: Path, right: Sequence[float], wrong: Sequence[float]) -> None:
    """Differences d of held-out right and wrong answers, for mode `calibrated`."""
    write_json(path, {"right": sorted(right), "wrong": sorted(wrong)})


@cache
def calibration(path: Path | None) -> tuple[list[float], list[float]]:
    """Differences of right and of wrong answers, ascending. Raises UserError where there are none."""
    if path is None:
        remedy = "Run seethink reward audit --calibration FILE and name it"
        raise UserError("mode calibrated needs a calibration", remedy=remedy)
    values = read_json(path)
    try:
        right, wrong = (sorted(float(v) for v in values[key]) for key in ("right", "wrong"))
    except (KeyError, TypeError, ValueError):
        right = wrong = []
    if not right or not wrong:
        remedy = json.dumps({"right": [1.0], "wrong": [-1.0]})
        raise UserError("not a calibration of right and wrong answers", where=path, remedy=remedy)
    return right, wrong


def _usable(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _decision(formula: Formula, answer: float | None, reference: float | None) -> Decision:
    reference = 0.0 if formula.mode == "plain" else reference
    if answer is None or reference is None or not (_usable(answer) and _usable(reference)):
        return Decision(None, "scorer_error", "the scorer gave no score")
    return Decision(formula.reward(answer, reference), detail=f"S = {answer:.4g}, reference {reference:.4g}")
