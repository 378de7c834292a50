"""Several answers to one item: the mean of the board's metric over draws, pass@k and majority@k."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from math import comb
from statistics import fmean
from typing import Any

from seethink.core.nouns import Score
from seethink.evals.metrics import figures, right_share

Metric = Callable[[list[Score]], dict[str, Any]]


def over_draws(metric: Metric, scores: Sequence[Score]) -> dict[str, Any]:
    """What the metric makes of one draw; of several the mean of its every number, with pass@k and majority@k, in percent.

    Items are the independent draws of all intervals. That of another metric than the share of right answers is the mean of the
    intervals of single draws, which is too wide rather than too narrow. What is undecided counts as not right;
    `undecided_answers` says how many are.
    """
    draws: defaultdict[int, list[Score]] = defaultdict(list)
    for score in scores:
        draws[score.draw].append(score)
    if len(draws) == 1:
        return metric(list(scores))
    each = [metric(draw) for _, draw in sorted(draws.items())]
    found = mean_of(each)
    if all(_is_share(one, draw) for one, (_, draw) in zip(each, sorted(draws.items()), strict=True)):
        found |= right_share(scores)
    items: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        items[score.sample_id].append(score)
    for k in range(1, len(draws) + 1):
        found |= mean_of_items(f"pass@{k}", {name: passed(answers, k) for name, answers in items.items()}, items)
    votes = {name: majority(answers) for name, answers in items.items()}
    found |= mean_of_items(f"majority@{len(draws)}", votes, items)
    undecided = sum(score.ok is None for score in scores)
    return {**found, "items": len(items), "draws": len(draws), "undecided_answers": undecided}


def pass_at(n: int, c: int, k: int) -> float:
    """Unbiased estimate, from n answers of which c are right, that one of k is right: 1 - C(n-c, k) / C(n, k), k <= n.

    Chen et al. 2021, arXiv 2107.03374, equation 1.
    """
    return 1 - comb(n - c, k) / comb(n, k)


def passed(answers: Sequence[Score], k: int) -> float:
    return pass_at(len(answers), sum(score.ok is True for score in answers), k)


def majority(answers: Sequence[Score]) -> float:
    """Chance that the most frequent answer is right; of several as frequent ones each is as likely to be given.

    Answers are one where they differ by space around them and by case alone. Undecided ones are no votes.
    """
    votes = [((s.answer or "").strip().casefold(), s.ok) for s in answers if s.ok is not None]
    counts = Counter(answer for answer, _ in votes if answer)
    most = max(counts.values(), default=0)
    tied = [answer for answer, count in counts.items() if count == most]
    return fmean(fmean(bool(ok) for said, ok in votes if said == answer) for answer in tied) if tied else 0.0


def mean_of_items(name: str, credits: dict[str, float], items: dict[str, list[Score]]) -> dict[str, Any]:
    """{name: percent, name_interval: [low, high]} of credits per item; items of one cluster are drawn together."""
    return figures(name, list(credits.values()), [items[item][0].cluster or item for item in credits])


def mean_of(values: Sequence[Any]) -> Any:
    """The mean of numbers, and of those in equally shaped dicts and lists; None where one is; of anything else the first."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: mean_of([value.get(key) for value in values]) for key in keys}
    if isinstance(first, list) and len({len(value) for value in values}) == 1:
        return [mean_of(parts) for parts in zip(*values, strict=True)]
    if isinstance(first, int | float) and not isinstance(first, bool):
        return fmean(values)
    return first


def _is_share(found: dict[str, Any], scores: Sequence[Score]) -> bool:
    """Whether a metric's score is the share of right answers."""
    share = 100 * fmean(score.ok is True for score in scores)
    return found.get("score") is not None and abs(found["score"] - share) < 1e-9
