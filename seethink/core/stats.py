"""The numbers behind every verdict word.

Outcomes of an arm are an array [S, N]: S seeds that all answered the same N items, NaN where undecided. The estimate is
the mean over items of what one arm's seeds do on average minus what the other's do. Its variance has two sources, and
both are measured: items (the variance of those differences, over N) and seeds (the variance of each arm's run means, over
S). What chance on single answers adds is in both, so it is taken off once, and the sum is never below the items' part.
The interval is Student's t with Satterthwaite's degrees of freedom, which with three seeds are few wherever seeds matter;
variances of two arms are not pooled, for what a seed does differs from arm to arm. Two equal arms of 3 or 5 seeds are then
told apart in 2 to 4 of 100 studies of 1,000 items, whatever a seed does to a whole run (standard deviation 0 to 3 points);
three seeds against one base checkpoint in 4 to 7, the most where a seed does 3 points. A percentile bootstrap over seeds, as
is common, does so in up to 10 (benchmarks/stats_coverage.py counts all three).

Items are paired, for both arms answer one board. Seeds are not: two arms of one seed share the order of their data and
their random numbers, but those meet different weights, and over the seven arms of the pocket study the seed explained
nothing (intraclass correlation -.13 [-.16, .52], three seeds). To pair three seeds halves the degrees of freedom, and picked
after the fact it is one more way to a verdict, so `pair_seeds` is for plans that say so beforehand.

Where no item tells two arms apart there is no variance, and an interval would claim certainty. The rule of three bounds what
may have gone unseen: a share that did not occur among N items lies below 3 / N, with 95 % confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray
from scipy import special

DRAWS = 4_000
LEVEL = 0.95
ALPHA = 1 - LEVEL
POWER = 0.8
ENOUGH_SEEDS = 3
DISAGREE = 6.0  # seed variance over noise variance from which more items are of no use

VERDICTS = {
    "better": "the interval lies above zero, and p < 0.05 after Holm's correction over all planned comparisons",
    "worse": "the same below zero",
    "equivalent": "neither, and two one-sided tests (p < 0.05, Holm) exclude a difference as large as the plan's margin",
    "not distinguishable": "neither; a difference smaller than the detectable one may be there all the same",
    "not matched": "the arms differ in an effort on which the plan wants them matched, so no difference is attributed",
    "nothing learned": "an arm's training changed nothing that shows: no reward, no spread of rewards, no trained token, no "
    "finite gradient, or an evaluation that is word for word that of its start",
    "at the floor": "neither arm is right in more than 2 % of its answers: the board is too hard to tell them apart",
    "at the ceiling": "neither arm is wrong in more than 2 %: the board is too easy",
    "not measured": "a side has no finished evaluation, or no pair of answers is decided",
}
"""Verdict words and what they mean; the last five say nothing about the arms."""

Outcomes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence limits, in the unit of the outcome."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm a minus arm b over the same items."""

    interval: Interval
    p: float
    """Two-sided: Student's t over seeds and items; of two single runs exact McNemar, or the bootstrap's where outcomes
    are not yes or no."""
    seeds: int
    """Of the arm that has more of them."""
    items: int
    undecided: int
    """Answers of either arm that are left out because they are undecided."""
    error: float
    """Standard error of the estimate."""
    df: float
    """Its degrees of freedom (Satterthwaite): near the number of seeds where seeds decide, near that of items otherwise."""
    seed_sd: float
    """Standard deviation of what a seed does to a whole run of an arm, chance taken off; 0 with one seed (unknown)."""
    noise_sd: float
    """Standard deviation that chance on single answers gives a run's mean; 0 with one seed (unknown)."""
    p_at_most: bool = False
    """The bootstrap cannot tell a smaller p: print it as `<=`."""

    @property
    def p_text(self) -> str:
        """p in words."""
        return p_text(self.p, self.p_at_most)

    @property
    def seeds_disagree(self) -> bool:
        """Seeds differ so much more than chance explains that more items will not narrow the interval: more seeds will."""
        return self.seed_sd**2 > DISAGREE * self.noise_sd**2

    def detectable(self, family: int = 1) -> float:
        """Smallest true difference found four times out of five, as one of `family` planned comparisons; never 0.

        By Holm's correction the smallest p of a family has to lie below 0.05 / family: that is the case assumed.
        """
        return max(minimum_detectable_effect(self.error, self.df, family), unseen(self.items))

    def power(self, effect: float, family: int = 1) -> float:
        """Chance that seeds and items like these find a true difference of this size, with its sign.

        Three seeds hardly know how much seeds vary: where they vary much, this says up to .13 too much.
        """
        error = self.detectable(family) / minimum_detectable_effect(1.0, self.df, family)
        limit, shift = _t_quantile(1 - ALPHA / family / 2, self.df), abs(effect) / error
        return float(1 - special.nctdtr(self.df, shift, limit) if isfinite(self.df) else special.ndtr(shift - limit))


def compare(a: Outcomes, b: Outcomes, seed: int = 0, draws: int = DRAWS, pair_seeds: bool = False) -> Comparison | None:
    """Comparison of [S, N] outcomes over the same items; a single run [1, N] stands for itself, without a variance of seeds.

    `pair_seeds` takes row s of both for one pair. `seed` and `draws` are the bootstrap's, for two single runs. None when no
    item is decided on both sides. Raises ValueError for arrays that cannot be paired.
    """
    a, b = _as_runs(a), _as_runs(b)
    if a.shape[1] != b.shape[1] or (pair_seeds and a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0])):
        raise ValueError(f"cannot pair outcomes of shape {a.shape} with {b.shape}")
    spread = _spread([a - b]) if pair_seeds else _spread([a, -b])
    if spread is None:
        return None
    interval, p, at_most = _of_spread(spread, -1.0, seed, draws)
    if spread.seeds == 1 and _binary(a) and _binary(b):
        p, at_most = mcnemar(a[0], b[0]), False
    undecided = int(np.isnan(a).sum() + np.isnan(b).sum())
    sds = spread.seed_sd, spread.noise_sd
    return Comparison(
        interval, p, spread.seeds, len(spread.by_item), undecided, spread.variance**0.5, spread.df, *sds, at_most
    )


def estimate(outcomes: Outcomes, share: bool = False, seed: int = 0, draws: int = DRAWS) -> Interval | None:
    """Mean of outcomes that are never negative, with its interval; None when nothing is decided.

    A `share` lies in [0, 1]; one run of yes/no outcomes gets Wilson's interval.
    """
    outcomes = _as_runs(outcomes)
    decided = outcomes[~np.isnan(outcomes)]
    if share and outcomes.shape[0] == 1 and len(decided) and _binary(outcomes):
        return wilson(int(decided.sum()), len(decided))
    spread = _spread([outcomes])
    if spread is None:
        return None
    interval, _, _ = _of_spread(spread, 0.0 if share else None, seed, draws)
    return Interval(interval.estimate, max(0.0, interval.low), min(1.0, interval.high) if share else interval.high)


def equivalence(comparison: Comparison, within: float) -> float:
    """p that the true difference lies outside ±within (> 0, in the unit of the outcome): two one-sided tests (Schuirmann 1987).

    Without any variance: the chance that none of the items would show a difference that large.
    """
    if within <= 0:
        raise ValueError(f"no margin: {within}")
    room = within - abs(comparison.interval.estimate)
    if comparison.error == 0:
        return float((1 - min(1.0, room)) ** comparison.items) if room > 0 else 1.0
    return float(_t_tail(room / comparison.error, comparison.df))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean of a few independent values with Student's t interval; None below two."""
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = _t_quantile((1 + LEVEL) / 2, len(values) - 1) * error
    return Interval(mean, mean - half, mean + half)


def clustered(values: Sequence[float], clusters: Sequence[object], share: bool = False) -> Interval | None:
    """Mean of values of which those of one cluster are one draw, with its interval; None without any value.

    One 0 or 1 per cluster gets Wilson's interval, values that are all equal that of the rule of three (a `share`, in [0, 1]) or
    none (both limits are the mean). Otherwise Student's t over `cluster_parts`.
    """
    if not len(values):
        return None
    known = np.asarray(values, dtype=np.float64)
    mean, parts = float(known.mean()), cluster_parts(known, clusters)
    same = bool(np.ptp(parts) < 1e-12)
    if share and (same or (len(parts) == len(known) and _binary(known))):
        return estimate(parts, share=True)
    found = None if same else mean_interval(parts.tolist())
    if found is None:
        return Interval(mean, mean, mean)
    low, high = (max(0.0, found.low), min(1.0, found.high)) if share else (found.low, found.high)
    return Interval(mean, low, high)


def cluster_parts(values: Outcomes | Sequence[float], clusters: Sequence[object]) -> Outcomes:
    """[K] shares of K clusters in the mean of [N] values, in the order of their first value; their own mean is that mean.

    A mean over clusters of unequal size is a ratio, of two sums that vary together: its error is that of the residuals, by
    which a large cluster counts for its distance from the mean and not for its size. A cluster of share w of all values
    draws the mean to itself, so its residual is divided by 1 - w: what leaving it out does to the mean (the jackknife).
    Of equal sizes the parts are the clusters' means, and of single values the values themselves. Where one cluster holds
    half of all values, intervals of 95 % hold the truth in about 90 of 100 cases (tests/test_stats_clusters.py).
    """
    known = np.asarray(values, dtype=np.float64)
    places: dict[object, int] = {}
    of = [places.setdefault(cluster, len(places)) for cluster in clusters]
    if len(of) != len(known):
        raise ValueError(f"{len(known)} values of {len(of)} clusters")
    if (k := len(places)) == len(known):
        return known
    mean = known.mean()
    if k == 1:
        return np.array([mean])
    sums, sizes = np.bincount(of, known, k), np.bincount(of, minlength=k)
    parts = (sums - mean * sizes) * (k - 1) / (len(known) - sizes)
    return np.round(mean + parts - parts.mean(), 12)  # rounded, so that clusters of zeros and ones stay zeros and ones


def wilson(successes: int, n: int) -> Interval:
    """Wilson score interval of a proportion; [0, 1] for n = 0 is a ValueError, not an answer."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"no proportion: {successes} of {n}")
    z, share = special.ndtri((1 + LEVEL) / 2), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def mcnemar(a: Outcomes, b: Outcomes) -> float:
    """Exact two-sided p of two single runs [N] of yes/no outcomes: a binomial test on the items where they differ."""
    pairs = ~(np.isnan(a) | np.isnan(b))
    only_a, only_b = int(np.sum((a > b) & pairs)), int(np.sum((a < b) & pairs))
    differing = only_a + only_b
    return float(min(1.0, 2 * special.bdtr(min(only_a, only_b), differing, 0.5))) if differing else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for a family of tests (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def minimum_detectable_effect(error: float, df: float = inf, family: int = 1) -> float:
    """True difference that a two-sided t test at 0.05 / family finds four times out of five (POWER), given its error."""
    limit = _t_quantile(1 - ALPHA / family / 2, df)
    if not isfinite(df):
        return float((limit + special.ndtri(POWER)) * error)
    return float(special.nctdtrinc(df, 1 - POWER, limit) * error)


def unseen(items: int) -> float:
    """Largest share of all items of which none may be among `items` (rule of three)."""
    return min(1.0, 3 / items)


def p_text(p: float, at_most: bool = False) -> str:
    """p as it is printed: `<= 0.0005` where the bootstrap cannot tell a smaller one, `< 0.001`, else three decimals."""
    if at_most and p < 1:
        return f"<= {p:.2g}"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(interval: Interval, adjusted_p: float, equivalence_p: float = 1.0) -> str:
    """better or worse where interval and adjusted p agree, else equivalent by its own adjusted p, else not distinguishable."""
    if adjusted_p < ALPHA and interval.low > 0:
        return "better"
    if adjusted_p < ALPHA and interval.high < 0:
        return "worse"
    return "equivalent" if equivalence_p < ALPHA else "not distinguishable"


def seed_warning(seeds: int) -> str:
    """Said in the headline when there are fewer than three seeds; empty otherwise."""
    if seeds >= ENOUGH_SEEDS:
        return ""
    return "single seed" if seeds == 1 else f"few seeds ({seeds})"


@dataclass(frozen=True, slots=True)
class _Spread:
    by_item: Outcomes
    """[N] what the arms' seeds do on average, summed over the arms; its mean is the estimate."""
    variance: float
    df: float
    seeds: int
    seed_sd: float
    noise_sd: float


def _as_runs(outcomes: Outcomes) -> Outcomes:
    """[S, N] from [S, N] or [N]."""
    return np.atleast_2d(np.asarray(outcomes, dtype=np.float64))


def _spread(arms: list[Outcomes]) -> _Spread | None:
    """Where the variance of the sum of the arms' means comes from; None where no item is decided in all of them."""
    arms = [arm[~np.isnan(arm).all(axis=1)] for arm in arms]
    kept = np.logical_and.reduce([~np.isnan(arm).all(axis=0) for arm in arms])
    if not kept.any() or not all(len(arm) for arm in arms):
        return None
    arms = [arm[:, kept] for arm in arms]
    items, by_item = int(kept.sum()), np.sum([np.nanmean(arm, axis=0) for arm in arms], axis=0)
    seed_parts, noise_parts = zip(*(_components(arm) for arm in arms), strict=True)
    of_items = float(by_item.var(ddof=1)) / items if items > 1 else 0.0
    sizes = [len(arm) for arm in arms]
    # the run means' variance and the items' both hold the chance on single answers: it is taken off once
    parts = [(of_items, items - 1)]
    parts += [(v / n, n - 1) for v, n in zip(seed_parts, sizes, strict=True)]
    parts += [(-v / n, (n - 1) * (items - 1)) for v, n in zip(noise_parts, sizes, strict=True)]
    variance = max(of_items, sum(v for v, _ in parts))
    weight = sum(v * v / df for v, df in parts if df)
    many = [(v, noise) for v, noise, n in zip(seed_parts, noise_parts, sizes, strict=True) if n > 1]
    seed_var, noise_var = np.mean(many, axis=0) if many else (0.0, 0.0)
    sds = float(max(0.0, seed_var - noise_var) ** 0.5), float(noise_var**0.5)
    return _Spread(by_item, variance, variance**2 / weight if weight else inf, max(sizes), *sds)


def _components(arm: Outcomes) -> tuple[float, float]:
    """(variance of run means, the part of it that is chance on single answers) of [S, N]: the two-way layout's moments."""
    seeds, items = arm.shape
    if seeds < 2 or items < 2:
        return 0.0, 0.0
    off_item = arm - np.nanmean(arm, axis=0)
    of_seed = np.nanmean(off_item, axis=1)
    noise = np.nansum((off_item - of_seed[:, None]) ** 2) / ((seeds - 1) * (items - 1)) / items
    return float(of_seed.var(ddof=1)), float(noise)


def _of_spread(spread: _Spread, lowest: float | None, seed: int, draws: int) -> tuple[Interval, float, bool]:
    """(interval, two-sided p, whether p is only an upper bound). A share, or a difference of two, lies in [lowest, 1]."""
    values, items = spread.by_item, len(spread.by_item)
    mean = float(values.mean())
    if spread.variance < 1e-24:  # no variance is no certainty: the rule of three, and the sign test
        half = unseen(items) if lowest is not None else 0.0
        low, high = (mean - half, mean + half) if lowest is None else (max(lowest, mean - half), min(1.0, mean + half))
        return Interval(mean, low, high), 1.0 if mean == 0 else min(1.0, 2 * 0.5**items), False
    if spread.seeds == 1:
        means = _resampled(values, np.random.default_rng(seed), draws)
        low, high = (float(q) for q in np.quantile(means, [ALPHA / 2, (1 + LEVEL) / 2]))
        tail = min(int((means <= 0).sum()), int((means >= 0).sum()))  # ties count on both sides
        return Interval(mean, low, high), min(1.0, 2 * (tail + 1) / (draws + 1)), tail == 0
    error = spread.variance**0.5
    half = _t_quantile((1 + LEVEL) / 2, spread.df) * error
    return Interval(mean, mean - half, mean + half), min(1.0, 2 * _t_tail(abs(mean) / error, spread.df)), False


def _resampled(values: Outcomes, rng: np.random.Generator, draws: int) -> Outcomes:
    """[draws] means of [N] values drawn with replacement."""
    items, means = len(values), np.empty(draws)
    chunk = max(1, 2_000_000 // items)
    for at in range(0, draws, chunk):
        size = min(chunk, draws - at)
        means[at : at + size] = values[rng.integers(0, items, (size, items))].mean(axis=1)
    return means


def _t_quantile(share: float, df: float) -> float:
    return float(special.stdtrit(df, share) if isfinite(df) else special.ndtri(share))


def _t_tail(value: float, df: float) -> float:
    """Chance that Student's t lies above `value`."""
    return float(special.stdtr(df, -value) if isfinite(df) else special.ndtr(-value))


def _binary(outcomes: Outcomes) -> bool:
    return bool(np.isin(outcomes[~np.isnan(outcomes)], (0.0, 1.0)).all())
