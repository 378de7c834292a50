"""Several answers to one item: the mean of the board's metric over draws, pass@k and majority@k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seethink.core.nouns import Score


def over_draws(metric: Callable[[list[Score]], dict[str, Any]], scores: Sequence[Score]) -> dict[str, Any]:
    """The metric itself where there is one draw."""
    draws = sorted({score.draw for score in scores})
    if len(draws) == 1:
        return metric(list(scores))
    raise NotImplementedError
