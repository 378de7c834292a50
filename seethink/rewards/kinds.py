"""The table of kinds: how an answer of each is decided, its golds checked, wrong ones made, when it is right.

A new kind is one file that can do these things, one row here, and its name in `core.nouns.KINDS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from seethink.core.nouns import Sample
from seethink.core.tags import clean
from seethink.rewards.box import box, frame_problem, in_gold_frame, wrong_boxes
from seethink.rewards.choice import choice, choice_problem, options_of, wrong_letters
from seethink.rewards.config import RewardConfig
from seethink.rewards.decision import AnswerText, Decision, gold_error
from seethink.rewards.digit import digit, wrong_numbers
from seethink.rewards.maths.decide import by_algebra, decide, gold_problem
from seethink.rewards.open.formula import Scorer, by_score, guard

Later = Callable[[Sequence[tuple[Sample, AnswerText]], RewardConfig, Callable[[], Scorer]], list[Decision]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rewards know of one kind."""

    decide: Callable[[Sample, AnswerText, RewardConfig], Decision | None]
    """What an answer earns, within a millisecond; None where `later` has to speak."""
    later: Later = lambda pairs, config, scorer: []
    """Decides the rest of a batch at once, in order; the scorer of open answers is made when it is called."""
    check: Callable[[Sample], str] = lambda sample: ""
    """Why a gold that is not empty is unusable, or ''. That an answer that repeats it is right is checked anyway."""
    repeated: Callable[[Sample], Sample] = lambda sample: sample
    """The sample as it is for an answer that is written as the gold is."""
    wrong: Callable[[Sample, random.Random], list[str]] = lambda sample, rng: []
    """Answers that are certainly wrong, for `audit`."""
    correct: Callable[[RewardConfig], float] = lambda config: 1.0
    """The reward from which an answer counts as right in accuracy."""


RULES: dict[str, Rules] = {
    "digit": Rules(
        decide=lambda sample, answer, config: digit(sample.gold, answer.text),
        wrong=wrong_numbers,
    ),
    "choice": Rules(
        decide=lambda sample, answer, config: choice(sample.gold, answer.text, options_of(sample)),
        check=choice_problem,
        wrong=wrong_letters,
    ),
    "math": Rules(
        decide=lambda sample, answer, config: decide(sample.gold, answer.text, sample.question),
        later=by_algebra,
        check=lambda sample: gold_problem(sample.gold),
        wrong=wrong_numbers,
    ),
    "box": Rules(
        decide=lambda sample, answer, config: box(sample.gold, answer.raw, sample.meta, config.box),
        check=lambda sample: frame_problem(sample.meta),
        repeated=lambda sample: replace(sample, meta=in_gold_frame(sample.meta)),
        wrong=wrong_boxes,
        correct=lambda config: config.box.correct,
    ),
    "open": Rules(
        decide=lambda sample, answer, config: None if clean(sample.gold) else gold_error("empty gold"),
        later=by_score,
        check=lambda sample: guard(sample.gold, sample.gold),
        correct=lambda config: config.open.correct,
    ),
}
