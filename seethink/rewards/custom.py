"""A reward of your own: a function named "module:function" or "file.py:function", which runs in the place of our rules.

    def reward(sample, answer): ...                 one answer: what stood between the answer tags
    def reward(samples, answers, responses): ...    a batch at once; `response` is the whole text of the model

A function takes what its parameters name: sample, answer, response, or all of them in the plural. Of every answer it says

    0.5                        what it earns, in [0, 1]
    (0.0, "malformed", "...")  and why: a status as in `Reward`, and a detail in words
    None                       that it cannot tell: undecided, never a silent 0
    NotImplemented             that this sample is not its business: the rules of its kind decide

An exception is undecided too, with its words as the reason; where more than `open.max_failures` of a batch fail, the run stops.
Responses without an answer never come here: they earn 0 under every reward.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.load import load_function
from seethink.core.nouns import Sample
from seethink.rewards.decision import Decision
from seethink.rewards.open.formula import FAILURES_FORGIVEN

ONE, MANY = ("sample", "answer", "response"), ("samples", "answers", "responses")
FAILED = "custom_error"


class AskedReward(NamedTuple):
    """What a function is given of one answer."""

    sample: Sample
    answer: str
    response: str


Custom = Callable[[Sequence[AskedReward]], list[Decision | None]]


def load_custom(name: str) -> Custom:
    """The function as one that decides a batch, in order; None where it leaves an answer to the rules.

    Raises UserError where there is none, or one whose parameters are not these.
    """
    return _as_batch(load_function(name, "reward.custom"), name)  # a changed file is another function


@cache
def _as_batch(function: Callable[..., Any], name: str) -> Custom:
    wanted = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    many = bool(set(wanted) & set(MANY))
    known = MANY if many else ONE
    if not wanted or set(wanted) - set(known):
        what = f"reward.custom {name!r} takes ({', '.join(wanted)})"
        raise UserError(what, remedy=f"It may take {', '.join(ONE)}, or for a batch {', '.join(MANY)}")

    def alone(batch: Sequence[AskedReward]) -> list[Decision | None]:
        return [_told(_call(function, _pick(ONE, one, wanted))) for one in batch]

    def together(batch: Sequence[AskedReward]) -> list[Decision | None]:
        columns = tuple(list(column) for column in zip(*batch, strict=True))
        said = _call(lambda **given: list(function(**given)), _pick(MANY, columns, wanted))
        if isinstance(said, list) and len(said) != len(batch):
            said = ValueError(f"{len(said)} rewards came for {len(batch)} answers")
        return [_told(one) for one in said] if isinstance(said, list) else [_told(said)] * len(batch)

    return together if many else alone


def refuse_failures(decisions: Sequence[Decision | None], most: float, name: str) -> None:
    """Raises UserError (code 3) where a larger share than `most` of a batch failed: half a reward teaches the wrong thing."""
    failed = [d for d in decisions if d is not None and d.status == FAILED]
    if len(failed) > max(FAILURES_FORGIVEN, most * len(decisions)):
        what = f"reward.custom {name!r} failed on {len(failed)} of {len(decisions)} answers ({failed[0].detail})"
        raise UserError(what, remedy="Repair it, or raise open.max_failures", code=3)


def read_outcome(said: Any) -> Decision | None:
    """What a function said of one answer, as a decision; None where it leaves it to the rules."""
    if said is NotImplemented:
        return None
    value: Any
    value, status, detail = said if isinstance(said, tuple) and len(said) == 3 else (said, "", "")
    if not isinstance(status, str) or not isinstance(detail, str):
        return Decision(None, FAILED, f"status and detail are no texts: {str(said)[:100]}")
    if value is None:
        return Decision(None, status or "undecided", detail)
    try:
        number = float(value)  # bool, numpy's numbers and tensors of one element too
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        return Decision(None, FAILED, f"not a number in [0, 1]: {str(value)[:100]}")
    return Decision(number, status or "ok", detail)


def _call(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    """What it returns, or what it raises: whatever that is, it is the reason and ends no run."""
    try:
        return function(**given)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code, which may call sys.exit
        return error


def _told(said: Any) -> Decision | None:
    if isinstance(said, Exception | SystemExit):
        return Decision(None, FAILED, f"{type(said).__name__}: {said}"[:300])
    return read_outcome(said)


def _pick(names: Sequence[str], values: Sequence[Any], wanted: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in zip(names, values, strict=True) if name in wanted}
