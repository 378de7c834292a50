"""How often do studies whose truth is known find what is not there, and what is? Counted on simulated studies.

    python benchmarks/stats_coverage.py            about one minute of CPU time, prints Markdown

Two arms answer 1,000 items of unequal difficulty (logits with standard deviation 3, so that runs mostly repeat each other);
a seed shifts a whole run by a given standard deviation in points. Columns, per cent of studies: false verdicts of `compare`
where both arms are equal, the same with seeds paired, the same of a percentile bootstrap over paired seeds and items;
differences of 5 points found, and how many of them `Comparison.power` said would be; then, in points, the mean
`detectable`. Last, `equivalent` within 5 points said where the true difference is 5 (false) and where it is 0 (found). The
last rows set an arm against one base checkpoint.

Thousands of studies are computed at once by formulas of their own, which have to agree with core/stats.py on the first ones.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from scipy import special

from seethink.core.stats import LEVEL, POWER, Outcomes, compare, equivalence

ITEMS, STUDIES, BATCH, RESAMPLED, DRAWS, CHECKED = 1_000, 2_000, 500, 200, 400, 5
EFFECT, ALPHA, DIFFICULTY = 0.05, 1 - LEVEL, 3.0
SEED_SDS = (0.0, 0.66, 1.18, 1.4, 2.0, 3.0)
HEADINGS = (
    "seeds", "seed sd", "false", "false, paired", "false, bootstrap", "5 points found", "as said", "detectable",
    "equivalent, false", "equivalent, found",
)  # fmt: skip


class Tested(NamedTuple):
    """One number per study, [K]."""

    estimate: Outcomes
    error: Outcomes
    df: Outcomes

    @property
    def p(self) -> Outcomes:
        return 2 * special.stdtr(self.df, -np.abs(self.estimate) / self.error)

    @property
    def equivalent(self) -> Outcomes:
        return special.stdtr(self.df, (np.abs(self.estimate) - EFFECT) / self.error) < ALPHA


def studies(rng: np.random.Generator, seeds: tuple[int, int], seed_sd: float, effect: float) -> list[Outcomes]:
    """Yes/no outcomes [K, S, N] of both arms; `effect` and `seed_sd` in shares of the board."""
    difficulty = rng.normal(0, DIFFICULTY, (BATCH, 1, ITEMS))
    share = 1 / (1 + np.exp(-difficulty))
    slope = (share * (1 - share)).mean()  # what a logit moves a run's mean by
    arms = []
    for runs, shift in zip(seeds, (effect, 0.0), strict=True):
        sd = seed_sd if runs > 1 else 0.0  # one checkpoint is what it is
        logits = difficulty + (shift + rng.normal(0, sd, (BATCH, runs, 1))) / slope
        arms.append((rng.random((BATCH, runs, ITEMS)) < 1 / (1 + np.exp(-logits))).astype(np.float64))
    return arms


def tested(*arms: Outcomes) -> Tested:
    """Sum of the arms' means: Student's t over seeds and items, as core/stats.py describes it."""
    by_item = np.sum([arm.mean(axis=1) for arm in arms], axis=0)
    of_items = by_item.var(axis=1, ddof=1) / ITEMS
    parts = [(of_items, ITEMS - 1)]
    for arm in arms:
        seeds = arm.shape[1]
        if seeds > 1:
            runs = arm.mean(axis=2, keepdims=True)
            rest = arm - runs - arm.mean(axis=1, keepdims=True) + arm.mean(axis=(1, 2), keepdims=True)
            freedom = (seeds - 1) * (ITEMS - 1)
            parts.append((runs[..., 0].var(axis=1, ddof=1) / seeds, seeds - 1))
            parts.append((-(rest**2).sum(axis=(1, 2)) / freedom / ITEMS / seeds, freedom))
    variance = np.maximum(of_items, np.sum([v for v, _ in parts], axis=0))
    df = variance**2 / np.sum([v * v / k for v, k in parts], axis=0)
    return Tested(by_item.mean(axis=1), np.sqrt(variance), df)


def check(arms: list[Outcomes], plain: Tested, paired: Tested) -> None:
    """The formulas here are those of core/stats.py."""
    for i in range(CHECKED):
        a, b = (arm[i] for arm in arms)
        ours = compare(a, b)
        assert ours is not None
        assert np.allclose((ours.p, ours.error, ours.df), (plain.p[i], plain.error[i], plain.df[i])), "compare differs"
        assert (equivalence(ours, EFFECT) < ALPHA) == plain.equivalent[i], "equivalence differs"
        assert np.isclose(ours.detectable(), detectable(plain)[i], rtol=1e-4), "detectable differs"
        assert np.isclose(ours.power(EFFECT), power(plain)[i], atol=1e-4), "power differs"
        both = compare(a, b, pair_seeds=True)
        assert both is not None and np.isclose(both.p, paired.p[i]), "pair_seeds differs"


def detectable(study: Tested) -> Outcomes:
    return special.nctdtrinc(study.df, 1 - POWER, special.stdtrit(study.df, 1 - ALPHA / 2)) * study.error


def power(study: Tested) -> Outcomes:
    limit = special.stdtrit(study.df, 1 - ALPHA / 2)
    return 1 - special.nctdtr(study.df, EFFECT / study.error, limit)


def bootstrap_excludes_zero(rng: np.random.Generator, a: Outcomes, b: Outcomes) -> bool:
    """Percentiles of the mean over seeds and items drawn with replacement, seeds as pairs, stretched by sqrt(S / (S - 1))."""
    d = a - b
    seeds, items = d.shape
    times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS)
    cells = rng.integers(0, items, (DRAWS, items)) + items * np.arange(DRAWS)[:, None]
    weights = np.bincount(cells.ravel(), minlength=DRAWS * items).reshape(DRAWS, items)
    means = (times * (weights.astype(np.float64) @ d.T)).sum(axis=1) / (seeds * items)
    means += (np.sqrt(seeds / (seeds - 1)) - 1) * (times @ d.mean(axis=1) / seeds - d.mean())
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return bool(low > 0 or high < 0)


def row(rng: np.random.Generator, seeds: tuple[int, int], seed_sd: float) -> list[float]:
    """One line of the table, from `false` on, in per cent and points."""
    batches, resampled = [], []
    for batch in range(STUDIES // BATCH):
        arms = studies(rng, seeds, seed_sd, 0.0)
        plain, paired = tested(arms[0], -arms[1]), tested(arms[0] - arms[1])
        if batch == 0:
            check(arms, plain, paired)
        wanted = max(0, min(BATCH, RESAMPLED - len(resampled)))
        resampled += [bootstrap_excludes_zero(rng, arms[0][i], arms[1][i]) for i in range(wanted)]
        there = studies(rng, seeds, seed_sd, EFFECT)
        found = tested(there[0], -there[1])
        hits = (found.p < ALPHA) & (found.estimate > 0)
        values = (
            plain.p < ALPHA,
            paired.p < ALPHA,
            hits,
            power(found),
            detectable(plain),
            found.equivalent,
            plain.equivalent,
        )
        batches.append([100 * float(np.mean(v)) for v in values])
    means = [float(mean) for mean in np.mean(batches, axis=0)]
    return [*means[:2], 100 * float(np.mean(resampled)), *means[2:]]


def main() -> None:
    began, rng = time.process_time(), np.random.default_rng(0)
    print(f"{STUDIES:,} studies of {ITEMS:,} items a row, {RESAMPLED} for the bootstrap\n")
    print("| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS))
    for seeds in ((3, 3), (5, 5), (3, 1), (5, 1)):
        for seed_sd in SEED_SDS:
            cells = [f"{seeds[0]}, {seeds[1]}", f"{seed_sd:.2f}"]
            cells += [f"{value:.1f}" for value in row(rng, seeds, seed_sd / 100)]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
