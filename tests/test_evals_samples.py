"""Several answers to one item: pass@k and majority@k against enumeration, and means that keep their intervals."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethink.core.nouns import Score
from seethink.evals.metrics import figures, right_share
from seethink.evals.samples import majority, over_draws, pass_at, passed

STATUS = {True: "right", False: "wrong", None: "unparsed"}


def score(item: str, draw: int, ok: bool | None, answer: str | None = "?", cluster: str = "") -> Score:
    answer = {True: "right", False: "wrong", None: None}[ok] if answer == "?" else answer
    return Score("b", "all", item, "math", ok, None, STATUS[ok], answer, "", "stop", 1, 0.0, cluster=cluster, draw=draw)


def grid(rows: list[list[bool | None]], clusters: tuple[str, ...] = ()) -> list[Score]:
    """Scores of items x draws."""
    return [
        score(str(i), draw, ok, cluster=clusters[i] if clusters else "")
        for i, row in enumerate(rows)
        for draw, ok in enumerate(row)
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=7).flatmap(lambda r: st.tuples(st.just(r), st.integers(1, len(r)))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(case):
    row, k = case
    subsets = list(combinations(row, k))
    assert pass_at(len(row), sum(row), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(
    ("n", "c", "k", "value"), [(1, 0, 1, 0), (1, 1, 1, 1), (4, 4, 2, 1), (4, 1, 4, 1), (500, 0, 500, 0)]
)
def test_pass_at_k_at_its_ends(n, c, k, value):
    assert pass_at(n, c, k) == value


VOTE = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([True, False, None]))


@given(st.lists(VOTE, min_size=1, max_size=6))
def test_majority_is_the_mean_over_every_pick_among_the_tied(votes):
    """The oracle picks every answer that could be the majority's, then every draw that gave it."""
    counts = Counter(answer for answer, ok in votes if ok is not None)
    tied = [answer for answer in counts if counts[answer] == max(counts.values())]
    picks = [fmean([ok for said, ok in votes if said == answer and ok is not None]) for answer in tied]
    scores = [score("i", draw, ok, answer if ok is not None else None) for draw, (answer, ok) in enumerate(votes)]
    assert majority(scores) == pytest.approx(fmean(picks) if picks else 0.0)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("B", True), (" b ", True), ("C", False)], 1.0),  # space around it and case tell nothing apart
        ([("B", True), ("C", False)], 0.5),
        ([("B", True), (None, None), ("C", False), ("C", False)], 0.0),
        ([(None, None), (None, None)], 0.0),
        ([(None, False), ("", False), ("7", True)], 1.0),  # wrong without an answer is no vote
        ([("4", True), ("5", False), ("6", False), ("4", True), ("5", False)], 0.5),
    ],
)
def test_majority_on_written_cases(answers, expected):
    assert majority([score("i", d, ok, answer) for d, (answer, ok) in enumerate(answers)]) == expected


def test_undecided_answers_count_as_not_right_and_are_counted():
    found = over_draws(right_share, grid([[True, None], [None, None], [True, True]]))
    assert found["undecided_answers"] == 3 and (found["items"], found["draws"]) == (3, 2)
    assert found["score"] == pytest.approx(50) and found["pass@1"] == pytest.approx(50)
    assert found["pass@2"] == pytest.approx(200 / 3) == found["majority@2"]


def test_one_draw_is_the_metric_itself():
    scores = grid([[True], [False], [None]])
    assert over_draws(right_share, scores) == right_share(scores)


def test_the_mean_and_its_interval_take_items_as_draws():
    """Answers that always agree say no more than one of them; independent ones say more."""
    rows = [[i % 3 == 0] * 4 for i in range(60)]
    one, four = over_draws(right_share, grid([row[:1] for row in rows])), over_draws(right_share, grid(rows))
    assert four["score"] == pytest.approx(one["score"])
    widths = [found["score_interval"][1] - found["score_interval"][0] for found in (one, four)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    mixed = over_draws(right_share, grid([[(i + d) % 3 == 0 for d in range(4)] for i in range(60)]))
    assert mixed["score_interval"][1] - mixed["score_interval"][0] < 0.5 * widths[0]
    assert mixed["pass@1"] == pytest.approx(mixed["score"])
    assert [mixed[f"pass@{k}"] for k in range(1, 5)] == sorted(mixed[f"pass@{k}"] for k in range(1, 5))
    low, high = mixed["pass@2_interval"]
    assert low <= mixed["pass@2"] <= high


def test_items_of_a_cluster_are_drawn_together():
    rows = [[c % 2 == 0] * 2 for c in range(20) for _ in range(5)]
    alone, together = (
        over_draws(right_share, grid(rows, clusters))["pass@2_interval"]
        for clusters in ((), tuple(str(i // 5) for i in range(100)))
    )
    assert together[1] - together[0] > 1.8 * (alone[1] - alone[0])


def worst_case(scores: list[Score]) -> dict:
    clusters: dict[str, list[bool]] = {}
    for one in scores:
        clusters.setdefault(one.cluster, []).append(one.ok is True)
    worst = figures("score", [float(all(row)) for row in clusters.values()])
    table = {"all": sum(map(all, clusters.values())), "share": None if len(clusters) > 9 else 1.0}
    return {**worst, "average": 100 * fmean(s.ok is True for s in scores), "table": table, "kind": "worst"}


def test_every_number_of_another_metric_is_the_mean_over_draws():
    rows = [[True, True], [True, False], [True, True], [False, True]]
    scores = grid(rows, ("x", "x", "y", "y"))
    draws = [worst_case([s for s in scores if s.draw == d]) for d in range(2)]
    found = over_draws(worst_case, scores)
    assert found["score"] == fmean(d["score"] for d in draws) == 50 and found["average"] == 75
    assert found["score_interval"] == pytest.approx([fmean(d["score_interval"][i] for d in draws) for i in range(2)])
    assert found["table"] == {"all": 1.0, "share": 1.0} and found["kind"] == "worst"
    assert found["pass@2"] == 100 and passed(scores[:2], 1) == 1.0


def test_a_number_that_a_draw_lacks_is_none():
    found = over_draws(lambda s: {"score": None if s[0].draw else 1.0, "x": 2.0}, grid([[True, True]]))
    assert found["score"] is None and found["x"] == 2.0
