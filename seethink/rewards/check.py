"""Golds checked before training: a bad one costs a whole group of rollouts, every time it is drawn.

A gold is good when the rewards can read it and an answer that repeats it is right. The paper's authors report 'A', 'A)' and
'(a)' mixed in one source and solutions with half of an equation in another (App. C.1); both kinds turn up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, sample_from_row
from seethink.core.store import read_jsonl
from seethink.core.tags import compose
from seethink.rewards.kinds import options_of
from seethink.rewards.maths.decide import gold_problem
from seethink.rewards.open.formula import guard
from seethink.rewards.open.scorers import Lexical
from seethink.rewards.rewarder import RewardConfig, score


class BadGold(NamedTuple):
    """One row that no answer can be judged by."""

    row: int
    id: str
    kind: str
    gold: str
    reason: str


def check_gold(sample: Sample, config: RewardConfig | None = None) -> str:
    """Why the gold of a sample is unusable, or ''. Symbolic comparison is not tried: what it could read passes."""
    if not sample.gold.strip():
        return "empty gold"
    if sample.kind == "open":
        return guard(sample.gold, sample.gold)
    if sample.kind == "math" and (problem := gold_problem(sample.gold)):
        return problem
    config = (config or RewardConfig()).model_copy(update={"symbolic": False, "box_threshold": None})
    reward = score(sample, compose("", sample.gold), config, Lexical())
    if reward.value is None:
        return reward.detail
    if sample.kind == "choice" and reward.value < 1:
        return f"names none of the options {', '.join(options_of(sample))}"
    return "" if reward.value >= 1 else f"an answer that repeats it is {reward.status}: {reward.detail or 'not right'}"


def check_file(path: Path, config: RewardConfig | None = None) -> Iterator[BadGold | None]:
    """A problem, or None, per row of a data file. Rows that are no samples are problems too."""
    for number, row in read_jsonl(path):
        try:
            sample = sample_from_row({"question": "", "id": str(number), **row}, f"{path}:{number}")
        except UserError as error:
            yield BadGold(
                number, str(row.get("id", "")), str(row.get("kind", "")), str(row.get("gold", "")), error.what
            )
            continue
        reason = check_gold(sample, config)
        yield BadGold(number, sample.id, sample.kind, sample.gold[:100], reason) if reason else None


def tell(problems: Iterable[BadGold], shown: int = 50) -> Iterator[str]:
    """Lines for a terminal, one per bad gold."""
    for i, bad in enumerate(problems):
        if i == shown:
            yield "  ... (all of them are in the file given by --out)"
            return
        yield f"  row {bad.row}  {bad.id}  {bad.kind}  gold {bad.gold!r}: {bad.reason}"


def as_row(bad: BadGold) -> dict[str, Any]:
    return bad._asdict()
