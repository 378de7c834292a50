"""What goes together: rank correlation of two measures, and how far columns of a table share what a seed does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from seethink.core.stats import ALPHA, LEVEL, Interval, Outcomes


def spearman(x: Sequence[float] | Outcomes, y: Sequence[float] | Outcomes) -> Interval | None:
    """Rank correlation over the pairs where both are known, ties at their mean rank; None below four pairs or without spread.

    Interval by Fisher's z with the variance of Bonett and Wright (2000), (1 + r² / 2) / (n - 3). A perfect order would get
    no width: its interval begins where that of the same order with two neighbours swapped begins.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    known = ~(np.isnan(x) | np.isnan(y))
    left, right, n = _ranks(x[known]), _ranks(y[known]), int(known.sum())
    if n < 4 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    r = float(np.clip(np.corrcoef(left, right)[0, 1], -1, 1))
    most = 1 - 12 / (n * (n * n - 1))  # of n distinct ranks, two neighbours swapped
    bounded = float(np.clip(r, -most, most))
    z, half = np.arctanh(bounded), special.ndtri((1 + LEVEL) / 2) * np.sqrt((1 + bounded**2 / 2) / (n - 3))
    low, high = (float(limit) for limit in np.tanh([z - half, z + half]))
    return Interval(r, -1.0 if r < -most else low, 1.0 if r > most else high)


def intraclass(table: Outcomes) -> Interval | None:
    """Do columns of [A, S] (arms, seeds) share what a seed does? Correlation of two arms of one seed, by two-way variance.

    ICC(C, 1) with its F interval (McGraw and Wong 1996); None for less than two of either, or without any variance.
    """
    table = np.asarray(table, dtype=np.float64)
    if min(table.shape) < 2:
        return None
    arms, seeds = table.shape
    of_seed = table - table.mean(axis=1, keepdims=True)
    between = arms * float((of_seed.mean(axis=0) ** 2).sum()) / (seeds - 1)
    within = float(((of_seed - of_seed.mean(axis=0)) ** 2).sum()) / ((arms - 1) * (seeds - 1))
    if within < 1e-18:
        return None
    ratio, df = between / within, (seeds - 1, (arms - 1) * (seeds - 1))
    limits = [ratio / float(special.fdtri(*df, q)) for q in ((1 + LEVEL) / 2, ALPHA / 2)]
    return Interval(*((f - 1) / (f + arms - 1) for f in (ratio, *limits)))


def _ranks(values: Outcomes) -> Outcomes:
    """Ranks from 1 on, ties at their mean."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[where]
