"""Statistics against scipy, against brute force, and against simulations whose truth is known."""

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from seethink.core import stats
from seethink.core.correlation import intraclass, spearman


def simulate(rng, seeds, items, effect=0.0, seed_sd=0.0, shared_base=False):
    """Yes/no outcomes [S, N] of two arms over items of unequal difficulty; the effect is on the logit.

    A shared base is one checkpoint, the same in all simulated studies: what is said holds for this one.
    """
    difficulty = rng.normal(0, 1.2, items)

    def arm(shift, runs, seed_sd):
        logits = difficulty + shift + rng.normal(0, seed_sd, (runs, 1))
        return (rng.random((runs, items)) < 1 / (1 + np.exp(-logits))).astype(float)

    return arm(effect, seeds, seed_sd), arm(0.0, 1, 0.0) if shared_base else arm(0.0, seeds, seed_sd)


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


@pytest.mark.parametrize("shared_base", [False, True])
@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.2), (3, 0.0), (3, 0.05), (3, 0.2), (3, 1.0), (5, 0.2)])
def test_intervals_cover_the_truth(seeds, seed_sd, shared_base):
    """95 % nominal, no effect: of 400 studies 94 % hold zero, whatever a seed does to a whole run; against one base 90 %."""
    rng = np.random.default_rng(seeds)
    held = 0
    for _ in range(400):
        interval = stats.compare(*simulate(rng, seeds, 300, 0.0, seed_sd, shared_base)).interval
        held += interval.low <= 0 <= interval.high
    assert held / 400 >= (0.90 if shared_base else 0.94)


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
        interval = stats.compare(a, b).interval
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
        expected.append(comparison.detectable())
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
    assert comparison.interval.estimate == pytest.approx(((1 - 0) + (0.5 - 1) + (0 - 0.5)) / 3), "items count alike"
    assert stats.compare(np.full((2, 3), np.nan), np.ones((2, 3))) is None
    assert stats.estimate(np.full((1, 3), np.nan)) is None


def test_a_single_base_run_is_paired_with_every_seed():
    a, b = simulate(np.random.default_rng(1), 3, 200, effect=1.0, shared_base=True)
    comparison = stats.compare(a, b)
    assert comparison.seeds == 3 and comparison.interval.estimate == pytest.approx((a - b).mean())


def test_arrays_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="cannot pair"):
        stats.compare(np.ones((2, 4)), np.ones((2, 5)))
    with pytest.raises(ValueError, match="cannot pair"):
        stats.compare(np.ones((2, 4)), np.ones((3, 4)), pair_seeds=True)
    assert stats.compare(np.ones((2, 4)), np.ones((3, 4))).seeds == 3, "seeds are no pairs unless the plan says so"


def test_an_estimate_of_one_yes_no_run_is_wilsons():
    run = np.array([1.0] * 30 + [0.0] * 10)
    assert stats.estimate(run, share=True) == stats.wilson(30, 40)
    assert stats.estimate(run * 7.5).low < 7.5 * 0.75 < stats.estimate(run * 7.5).high
    assert stats.estimate(np.zeros(20)) == stats.Interval(0, 0, 0)
    rare = stats.estimate(np.eye(3, 40), share=True)
    assert 0 <= rare.low < rare.estimate < rare.high <= 1


@pytest.mark.parametrize(
    ("interval", "p", "same_p", "word"),
    [
        ((0.05, 0.01, 0.09), 0.01, 1.0, "better"),
        ((0.01, 0.005, 0.015), 0.01, 0.001, "better"),
        ((-0.05, -0.09, -0.01), 0.01, 1.0, "worse"),
        ((-0.05, -0.09, -0.01), 0.20, 1.0, "not distinguishable"),
        ((0.01, -0.02, 0.04), 0.01, 0.06, "not distinguishable"),
        ((0.001, -0.01, 0.012), 0.80, 0.01, "equivalent"),
    ],
)
def test_verdict_words_need_interval_and_adjusted_p(interval, p, same_p, word):
    assert stats.verdict(stats.Interval(*interval), p, same_p) == word


def test_few_seeds_are_flagged():
    assert [stats.seed_warning(n) for n in (1, 2, 3, 5)] == ["single seed", "few seeds (2)", "", ""]


# ------------------------------------------------------------------------------------------------ seeds and items together


def runs(means, items=40):
    """Every answer of a run worth its mean: nothing varies but seeds."""
    return np.repeat(np.array(means)[:, None], items, axis=1)


def test_where_only_seeds_vary_it_is_welchs_test():
    a, b = [0.51, 0.55, 0.48], [0.44, 0.50, 0.41, 0.47]
    ours, theirs = stats.compare(runs(a), runs(b)), scipy_stats.ttest_ind(a, b, equal_var=False)
    limits = theirs.confidence_interval(0.95)
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df))
    assert (ours.interval.low, ours.interval.high) == pytest.approx((limits.low, limits.high))


def test_seeds_that_are_planned_as_pairs_get_the_paired_test():
    a, b = [0.51, 0.55, 0.48], [0.44, 0.50, 0.41]
    ours, theirs = stats.compare(runs(a), runs(b), pair_seeds=True), scipy_stats.ttest_rel(a, b)
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, 2))
    assert stats.compare(runs(a), runs(b)).df == pytest.approx(scipy_stats.ttest_ind(a, b, equal_var=False).df)


def test_where_only_items_vary_it_is_the_t_test_of_items():
    a, b = simulate(np.random.default_rng(8), 1, 60, effect=1.0)
    ours, theirs = stats.compare(np.repeat(a, 3, 0), np.repeat(b, 3, 0)), scipy_stats.ttest_rel(a[0], b[0])
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, 59))


@pytest.mark.parametrize(("seeds_a", "seeds_b", "seed_sd"), [(3, 3, 0.5), (3, 5, 0.0), (2, 1, 0.3), (4, 4, 0.05)])
def test_the_variance_is_that_of_plain_loops(seeds_a, seeds_b, seed_sd):
    """Mean squares of both arms, one sum after the other; then Student's t as scipy has it."""
    rng = np.random.default_rng(seeds_a + seeds_b)
    both = simulate(rng, 5, 30, 0.5, seed_sd)
    a, b = both[0][:seeds_a], both[1][:seeds_b]
    items = range(30)
    difference = [sum(a[:, i]) / seeds_a - sum(b[:, i]) / seeds_b for i in items]
    mean = sum(difference) / 30
    of_items = sum((d - mean) ** 2 for d in difference) / 29 / 30
    parts = [(of_items, 29)]
    for arm in (a, b):
        n = len(arm)
        if n == 1:
            continue
        run = [sum(row) / 30 for row in arm]
        grand = sum(run) / n
        parts.append((sum((r - grand) ** 2 for r in run) / (n - 1) / n, n - 1))
        left = [arm[s, i] - run[s] - sum(arm[t, i] for t in range(n)) / n + grand for s in range(n) for i in items]
        parts.append((-sum(x * x for x in left) / (n - 1) / 29 / 30 / n, (n - 1) * 29))
    variance = max(of_items, sum(v for v, _ in parts))
    df = variance**2 / sum(v * v / k for v, k in parts)
    ours = stats.compare(a, b)
    assert (ours.error, ours.df) == pytest.approx((variance**0.5, df))
    assert ours.p == pytest.approx(2 * scipy_stats.t.sf(abs(mean) / variance**0.5, df))
    low, high = scipy_stats.t.interval(0.95, df, mean, variance**0.5)
    assert (ours.interval.low, ours.interval.high) == pytest.approx((low, high))
    alone = stats.estimate(a, share=True)
    assert alone.low <= a.mean() <= alone.high and alone.estimate == pytest.approx(a.mean())


def test_undecided_answers_change_little_of_the_variance():
    rng = np.random.default_rng(4)
    a, b = simulate(rng, 3, 2000, 0.2, 0.3)
    whole = stats.compare(a, b)
    a[rng.random(a.shape) < 0.02] = np.nan
    holes = stats.compare(a, b)
    assert holes.undecided == np.isnan(a).sum() > 0
    assert holes.error == pytest.approx(whole.error, rel=0.1)
    assert holes.interval.estimate == pytest.approx(whole.interval.estimate, abs=0.005)


def test_a_seed_without_a_decided_answer_is_no_seed():
    a, b = simulate(np.random.default_rng(6), 3, 50, 0.5)
    a[2] = np.nan
    assert stats.compare(a, b).p == pytest.approx(stats.compare(a[:2], b).p)


def test_p_at_the_floor_of_the_bootstrap_is_printed_as_a_bound():
    """Two single runs that are not yes or no (means of draws, clusters) have a bootstrap p."""
    shares = np.random.default_rng(0).random(200)
    far, near = stats.compare(shares, shares / 2), stats.compare(shares, shares[::-1])
    assert far.p_at_most and far.p_text == "<= 0.0005" and far.p == pytest.approx(2 / 4001)
    assert not near.p_at_most and near.p_text == f"{near.p:.3f}"
    a, b = simulate(np.random.default_rng(0), 3, 500, effect=2.0)
    assert stats.compare(a, b).p_text == "< 0.001" and not stats.compare(a, b).p_at_most
    assert [stats.p_text(0.004, True), stats.p_text(1.0, True), stats.p_text(0.0401)] == ["<= 0.004", "1.000", "0.040"]


@pytest.mark.parametrize(("seeds", "within"), [(1, 0.05), (1, 0.2), (3, 0.1)])
def test_equivalence_is_two_one_sided_tests(seeds, within):
    a, b = simulate(np.random.default_rng(2), 1, 300, 0.1)
    comparison = stats.compare(np.repeat(a, seeds, 0), np.repeat(b, seeds, 0))
    d = a[0] - b[0]
    sides = [
        scipy_stats.ttest_1samp(d, -within, alternative="greater").pvalue,
        scipy_stats.ttest_1samp(d, within, alternative="less").pvalue,
    ]
    assert stats.equivalence(comparison, within) == pytest.approx(max(sides))
    low, high = scipy_stats.t.interval(0.90, comparison.df, comparison.interval.estimate, comparison.error)
    assert (max(sides) < 0.05) == (-within < low and high < within), "the 90 % interval lies inside"


def test_equivalence_without_variance_and_without_margin():
    same = stats.compare(np.ones((3, 300)), np.ones((3, 300)))
    assert stats.equivalence(same, 0.02) == pytest.approx(0.98**300) and stats.equivalence(same, 0.005) > 0.05
    assert stats.equivalence(stats.compare(np.ones((3, 9)), np.zeros((3, 9))), 0.02) == 1.0
    with pytest.raises(ValueError, match="no margin"):
        stats.equivalence(same, 0.0)


def test_equivalence_is_wrongly_found_in_one_of_twenty_studies_at_most():
    """The true difference is the margin itself: 10 points."""
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(300):
        a, b = simulate(rng, 3, 300, 0.0, 0.1)
        a = np.where(rng.random(a.shape) < 0.1 / (1 - a.mean()), 1.0, a)
        found += stats.equivalence(stats.compare(a, b), 0.1) < 0.05
    assert found / 300 <= 0.08


@pytest.mark.parametrize("family", [1, 8])
@pytest.mark.parametrize("df", [2.0, 4.4, 60.0])
def test_the_detectable_effect_honours_degrees_of_freedom_and_holm(df, family):
    effect = stats.minimum_detectable_effect(1.0, df, family)
    limit = scipy_stats.t.ppf(1 - 0.05 / family / 2, df)
    assert scipy_stats.nct.sf(limit, df, effect) == pytest.approx(0.8, abs=1e-4)
    assert effect > stats.minimum_detectable_effect(1.0)


def test_power_is_a_share_of_studies():
    a, b = simulate(np.random.default_rng(3), 3, 300, 0.0, 0.3)
    comparison = stats.compare(a, b)
    assert comparison.power(comparison.detectable()) == pytest.approx(0.8, abs=1e-4)
    assert comparison.power(comparison.detectable(8), 8) == pytest.approx(0.8, abs=1e-4)
    assert comparison.power(0.0) == pytest.approx(0.025) and comparison.power(1.0) > 0.99
    limit, shift = scipy_stats.t.ppf(0.975, comparison.df), 0.02 / comparison.error
    theirs = scipy_stats.nct.sf(limit, comparison.df, shift)
    assert comparison.power(0.02) == comparison.power(-0.02) == pytest.approx(theirs, abs=1e-6)
    blind = stats.compare(np.ones((3, 100)), np.ones((3, 100)))
    assert blind.power(blind.detectable()) == pytest.approx(0.8, abs=1e-4), "no variance is no certainty"


# ------------------------------------------------------------------------------------------------------------ correlations


@pytest.mark.parametrize("n", [4, 9, 40])
@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_is_scipys(n, levels):
    rng = np.random.default_rng(n)
    x = rng.integers(0, levels, n).astype(float)
    y = np.round(x / levels + rng.normal(0, 0.5, n), 1)
    ours, r = spearman(x, y), scipy_stats.spearmanr(x, y).statistic
    assert ours.estimate == pytest.approx(r)
    half = scipy_stats.norm.ppf(0.975) * np.sqrt((1 + r * r / 2) / (n - 3))
    assert (ours.low, ours.high) == pytest.approx((np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)))


def test_spearman_leaves_unknown_pairs_out_and_knows_when_it_is_undecided():
    x = [1.0, 2.0, 3.0, np.nan, 5.0, 4.0]
    assert spearman(x, [2, 1, 3, 9, 4, 6]) == spearman([1, 2, 3, 5, 4], [2, 1, 3, 4, 6])
    assert spearman([1, 2, 3], [1, 2, 3]) is None
    assert spearman([1, 2, 3, 4], [5, 5, 5, 5]) is None


def test_a_perfect_order_is_no_certainty():
    order = np.arange(6.0)
    up, down = spearman(order, order), spearman(order, -order)
    swapped = spearman(order, [1, 0, 2, 3, 4, 5])
    assert (up.estimate, up.high, down.estimate, down.low) == (1, 1, -1, -1)
    assert up.low == pytest.approx(swapped.low) and down.high == pytest.approx(-swapped.low)


def test_spearman_intervals_cover_the_truth():
    """Normal pairs of Pearson correlation rho have a rank correlation of 6 / pi * asin(rho / 2)."""
    rng, rho, held = np.random.default_rng(1), 0.6, 0
    for _ in range(500):
        x = rng.normal(size=20)
        interval = spearman(x, rho * x + np.sqrt(1 - rho * rho) * rng.normal(size=20))
        held += interval.low <= 6 / np.pi * np.arcsin(rho / 2) <= interval.high
    assert 0.92 < held / 500 < 0.985


def test_what_a_shared_seed_does_is_told_by_two_way_variance():
    table = np.array([[53.7, 51.7, 54.6], [51.7, 52.7, 52.4], [52.2, 52.8, 53.2], [55.7, 56.9, 55.1]])
    arms, seeds = table.shape
    grand = table.mean()
    rest = 0.0
    for i in range(arms):
        for j in range(seeds):
            rest += (table[i, j] - table[i].mean() - table[:, j].mean() + grand) ** 2
    within = rest / ((arms - 1) * (seeds - 1))
    between = sum(arms * (table[:, j].mean() - grand) ** 2 for j in range(seeds)) / (seeds - 1)
    ours = intraclass(table)
    assert ours.estimate == pytest.approx((between - within) / (between + (arms - 1) * within))
    lowest = between / within / scipy_stats.f.ppf(0.975, seeds - 1, (arms - 1) * (seeds - 1))
    assert ours.low == pytest.approx((lowest - 1) / (lowest + arms - 1)) and ours.low < ours.estimate < ours.high
    assert intraclass(table[:1]) is None and intraclass(np.ones((3, 3))) is None


def test_seeds_that_arms_share_are_found():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1, 200)) + rng.normal(size=(4, 200))
    found, alone = intraclass(shared), intraclass(rng.normal(size=(4, 200)))
    assert found.low < 0.5 < found.high and found.low > 0.3 and alone.low < 0 < alone.high
