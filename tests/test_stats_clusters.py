"""Intervals of means over clusters of any size: one formula, against a bootstrap over clusters and against truths that are known."""

import numpy as np
import pytest

from seethink.core.nouns import Reward, Score
from seethink.core.stats import Interval, cluster_parts, clustered, estimate, wilson
from seethink.evals.metrics import figures, right_share
from seethink.evals.pairs import ScorePair, difference
from seethink.evals.samples import mean_of_items
from seethink.rewards.answers import RewardTally

SIZES = {
    "equal": [4] * 40,
    "two sizes": [2] * 60 + [10] * 30,
    "one to forty": list(range(1, 41)),
    "mostly single": [1] * 100 + [2] * 40 + [3] * 20 + [5] * 5,
}


def draw(sizes: list[int], seed: int) -> tuple[list[float], list[str]]:
    """Zeros and ones, alike within a cluster; the cluster of each."""
    rng = np.random.default_rng(seed)
    values = [float(rng.random() < share) for n in sizes for share in [rng.beta(0.7, 0.7)] for _ in range(n)]
    return values, [f"c{c}" for c, n in enumerate(sizes) for _ in range(n)]


def scores(values: list[float], clusters: list[str]) -> list[Score]:
    return [
        Score("b", "all", f"i{i}", "math", value == 1, None, "ok" if value else "wrong", "", "", "stop", 1, 0.0, cluster=cluster)
        for i, (value, cluster) in enumerate(zip(values, clusters, strict=True))
    ]  # fmt: skip


def resampled(values: list[float], clusters: list[str], draws: int = 4000) -> tuple[float, float]:
    """The oracle: clusters drawn with replacement, the mean over all items drawn."""
    of = np.unique(clusters, return_inverse=True)[1]
    sums, sizes = np.bincount(of, values), np.bincount(of)
    rows = np.random.default_rng(5).integers(0, len(sizes), (draws, len(sizes)))
    low, high = np.quantile(sums[rows].sum(1) / sizes[rows].sum(1), [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_share_right_has_the_interval_of_a_bootstrap_over_clusters(sizes):
    for seed in range(3):
        values, clusters = draw(sizes, seed)
        found, (low, high) = right_share(scores(values, clusters)), resampled(values, clusters)
        assert found["score"] == pytest.approx(100 * np.mean(values))
        assert found["score_interval"] == pytest.approx([100 * low, 100 * high], abs=0.12 * 100 * (high - low))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_place_that_takes_clusters_has_that_formula(sizes):
    """A board's score, pass@k, a difference from nothing right, a mean reward."""
    values, clusters = draw(sizes, 7)
    known, rows = clustered(values, clusters, share=True), scores(values, clusters)
    percent = [pytest.approx(100 * limit) for limit in (known.low, known.high)]
    assert right_share(rows)["score_interval"] == percent == figures("x", values, clusters)["x_interval"]
    items = {row.sample_id: [row] for row in rows}
    assert mean_of_items("x", {s.sample_id: float(s.ok) for s in rows}, items)["x_interval"] == percent
    tally = RewardTally()
    for value, cluster in zip(values, clusters, strict=True):
        tally.add(cluster, "math", Reward(value, "ok", None, "math"))
    assert tally.summary()["mean_reward_interval"] == [known.low, known.high]
    found = difference([ScorePair([row], [row], (0.0, float(row.ok))) for row in rows])
    assert found.items == len(sizes) and found.interval.estimate == pytest.approx(np.mean(values))
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (known.low, known.high), abs=0.1 * (known.high - known.low)
    )


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 7), (7, 7), (1, 1), (160, 400)])
def test_one_item_per_cluster_has_wilsons_interval(right, n):
    known, values = wilson(right, n), [1.0] * right + [0.0] * (n - right)
    assert clustered(values, range(n), share=True) == known
    for clusters in ([""] * n, [f"c{i}" for i in range(n)]):
        found = right_share(scores(values, clusters))
        assert found == {"score": 100 * right / n, "score_interval": [100 * known.low, 100 * known.high]}


@pytest.mark.parametrize(
    ("values", "clusters", "expected"),
    [
        ([1, 1, 1, 1], "aaab", wilson(2, 2)),  # nothing varies: as many draws as clusters
        ([0, 0, 0, 0], "aaab", wilson(0, 2)),
        ([1, 1, 0, 0], "aabb", Interval(0.5, 0.0, 1.0)),
        ([1, 0, 1], "aaa", Interval(2 / 3, 0.0, 1.0)),  # of one draw nothing is known
        ([1, 1, 1, 0], "aaab", Interval(0.75, 0.0, 1.0)),
    ],
)
def test_a_share_stays_a_share(values, clusters, expected):
    found = clustered(values, clusters, share=True)
    assert (found.estimate, found.low, found.high) == pytest.approx((expected.estimate, expected.low, expected.high))


def test_parts_have_the_mean_of_the_values_and_say_what_a_cluster_does_to_it():
    values, clusters = draw([1, 2, 3, 5, 30], 3)
    parts = cluster_parts(values, clusters)
    assert parts.mean() == pytest.approx(np.mean(values))
    left = [
        np.mean([v for v, c in zip(values, clusters, strict=True) if c != name]) for name in dict.fromkeys(clusters)
    ]
    variance = (len(left) - 1) / len(left) * np.sum((left - np.mean(left)) ** 2)  # the jackknife, from its definition
    assert parts.var(ddof=1) / len(parts) == pytest.approx(variance)
    assert cluster_parts([1, 0, 0.5], "abc").tolist() == [1, 0, 0.5]
    assert cluster_parts([1, 0, 0, 0], "aabb").tolist() == [0.5, 0]
    assert estimate(cluster_parts([1, 1, 1, 0, 0, 0] * 2, [*"aaabbb", *"cccddd"]), share=True) == wilson(2, 4)
    with pytest.raises(ValueError, match="4 values of 3 clusters"):
        cluster_parts([1, 0, 0, 0], "aab")


@pytest.mark.parametrize(("sizes", "least"), [*((s, 0.925) for s in SIZES.values()), ([1] * 20 + [20], 0.85)])
def test_the_truth_is_held(sizes, least):
    """Half of all items are right in truth; the residuals alone hold that in 18 to 49 of 100 cases beside one large cluster."""
    held = 0
    for seed in range(400):
        found = clustered(*draw(sizes, 1000 + seed))
        held += found.low <= 0.5 <= found.high
    assert held / 400 >= least
