"""Statistics against scipy, against brute force, and against simulations whose truth is known."""

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from seethink.core import stats


def simulate(rng, seeds, items, effect=0.0, seed_sd=0.0, shared_base=False):
    """Yes/no outcomes [S, N] of two arms over items of unequal difficulty; the effect is on the logit."""
    difficulty = rng.normal(0, 1.2, items)

    def arm(shift, runs):
        logits = difficulty + shift + rng.normal(0, seed_sd, (runs, 1))
        return (rng.random((runs, items)) < 1 / (1 + np.exp(-logits))).astype(float)

    return arm(effect, seeds), arm(0.0, 1 if shared_base else seeds)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 7), (50, 100), (615, 1000), (9, 9)])
def test_wilson_is_scipys(right, n):
    ours, theirs = stats.wilson(right, n), scipy_stats.binomtest(right, n).proportion_ci(method="wilson")
    assert (ours.estimate, ours.low, ours.high) == pytest.approx((right / n, theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no proportion"):
        stats.wilson(0, 0)


def test_mcnemar_is_the_binomial_test_on_differing_items():
    a = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, np.nan, 1])
    b = np.array([0, 0, 0, 0, 0, 1, 1, 0, 1, 0, np.nan])
    assert stats.mcnemar(a, b) == pytest.approx(scipy_stats.binomtest(5, 6).pvalue)
    assert stats.mcnemar(a, a) == 1.0


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03], [0.2], [0.5, 0.001, 0.02, 0.02], [0.9, 0.9]])
def test_holm_is_the_closed_test_of_bonferroni(p):
    def closed(i):  # H_i falls when every intersection that contains it falls
        sets = (s for r in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), r) if i in s)
        return max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets)

    assert stats.holm(p) == pytest.approx([closed(i) for i in range(len(p))])


def test_holm_of_an_empty_family():
    assert stats.holm([]) == []


def test_one_run_agrees_with_scipys_paired_bootstrap():
    a, b = simulate(np.random.default_rng(3), 1, 400, effect=0.6)
    ours = stats.compare(a, b)
    theirs = scipy_stats.bootstrap(
        (a[0], b[0]), lambda x, y, axis: (x - y).mean(axis), paired=True, method="percentile", rng=1
    ).confidence_interval
    assert ours.interval.estimate == pytest.approx((a - b).mean())
    assert (ours.interval.low, ours.interval.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours.p == stats.mcnemar(a[0], b[0])


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "shared_base"),
    [(3, 0.0, False), (3, 0.05, False), (3, 0.0, True), (3, 0.1, True), (5, 0.1, False)],
)
def test_intervals_cover_the_truth(seeds, seed_sd, shared_base):
    """95 % nominal, no effect: at least 90 % of 200 studies hold zero while seeds vary about as much as chance does."""
    rng = np.random.default_rng(seeds)
    held = 0
    for _ in range(200):
        interval = stats.compare(*simulate(rng, seeds, 300, 0.0, seed_sd, shared_base), draws=400).interval
        held += interval.low <= 0 <= interval.high
    assert held / 200 >= 0.90


def test_resampling_items_within_each_seed_would_not_cover():
    """Why all drawn seeds share the drawn items: otherwise what the items have in common is averaged away."""
    rng = np.random.default_rng(0)
    nested = ours = 0
    for _ in range(200):
        a, b = simulate(rng, 3, 300, shared_base=True)
        d = a - b
        draws = np.mean(
            [d[rng.integers(0, 3, 400)[:, None], rng.integers(0, 300, (400, 300))].mean(1) for _ in range(3)], 0
        )
        low, high = np.quantile(draws, [0.025, 0.975])
        nested += low <= 0 <= high
        interval = stats.compare(a, b, draws=400).interval
        ours += interval.low <= 0 <= interval.high
    assert nested / 200 < 0.91 < 0.93 <= ours / 200


def test_seeds_that_disagree_far_beyond_chance_are_flagged():
    rng = np.random.default_rng(2)
    wild = [stats.compare(*simulate(rng, 3, 400, 0.0, 1.0), draws=50) for _ in range(40)]
    calm = [stats.compare(*simulate(rng, 3, 400, 0.0, 0.0), draws=50) for _ in range(40)]
    assert sum(c.seeds_disagree for c in wild) > 30 and sum(c.seeds_disagree for c in calm) < 4
    assert np.mean([c.seed_sd for c in wild]) > 5 * np.mean([c.seed_sd for c in calm])
    assert not stats.compare(*simulate(rng, 1, 50)).seeds_disagree


def test_the_minimum_detectable_effect_is_found_four_times_in_five():
    """Two single runs that differ on a quarter of 800 items, by exactly the effect that such runs can detect."""
    rng = np.random.default_rng(5)
    effect = stats.minimum_detectable_effect(np.sqrt(0.25 / 800))
    found, expected = 0, []
    for _ in range(300):
        differs, up = rng.random((1, 800)) < 0.25, rng.random((1, 800)) < 0.5 * (1 + effect / 0.25)
        b = rng.integers(0, 2, (1, 800)).astype(float)
        comparison = stats.compare(np.where(differs, up, b), np.where(differs, ~up, b), draws=400)
        expected.append(comparison.detectable)
        found += comparison.interval.low > 0
    assert np.mean(expected) == pytest.approx(effect, rel=0.05)
    assert 0.74 < found / 300 < 0.86


def test_the_minimum_detectable_effect_is_the_text_books():
    assert stats.minimum_detectable_effect(1.0) == pytest.approx(1.95996 + 0.84162, abs=1e-4)


def test_undecided_pairs_leave_and_are_counted():
    a = np.array([[1, 1, np.nan, 0], [1, 0, np.nan, np.nan]])
    b = np.array([[0, 1, 1, 0], [0, 1, 1, 1]])
    comparison = stats.compare(a, b)
    assert (comparison.undecided, comparison.items, comparison.seeds) == (3, 3, 2)
    assert comparison.interval.estimate == pytest.approx((1 + 0 + 0 + 1 - 1) / 5)
    assert stats.compare(np.full((2, 3), np.nan), np.ones((2, 3))) is None
    assert stats.estimate(np.full((1, 3), np.nan)) is None


def test_a_single_base_run_is_paired_with_every_seed():
    a, b = simulate(np.random.default_rng(1), 3, 200, effect=1.0, shared_base=True)
    comparison = stats.compare(a, b)
    assert comparison.seeds == 3 and comparison.interval.estimate == pytest.approx((a - b).mean())


def test_arrays_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="cannot pair"):
        stats.compare(np.ones((2, 4)), np.ones((3, 4)))


def test_an_estimate_of_one_yes_no_run_is_wilsons():
    run = np.array([1.0] * 30 + [0.0] * 10)
    assert stats.estimate(run, share=True) == stats.wilson(30, 40)
    assert stats.estimate(run * 7.5).low < 7.5 * 0.75 < stats.estimate(run * 7.5).high
    assert stats.estimate(np.zeros(20)) == stats.Interval(0, 0, 0)
    rare = stats.estimate(np.eye(3, 40), share=True)
    assert 0 <= rare.low < rare.estimate < rare.high <= 1


@pytest.mark.parametrize(
    ("interval", "p", "word"),
    [
        ((0.05, 0.01, 0.09), 0.01, "better"),
        ((-0.05, -0.09, -0.01), 0.01, "worse"),
        ((-0.05, -0.09, -0.01), 0.20, "not distinguishable"),
        ((0.01, -0.02, 0.04), 0.01, "not distinguishable"),
    ],
)
def test_verdict_words_need_interval_and_adjusted_p(interval, p, word):
    assert stats.verdict(stats.Interval(*interval), p) == word


def test_few_seeds_are_flagged():
    assert [stats.seed_warning(n) for n in (1, 2, 3, 5)] == ["single seed", "few seeds (2)", "", ""]
