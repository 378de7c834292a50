"""Two evaluations item by item: what is paired, what is told apart, what is refused, and the page over it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.store import read_json, save_samples, write_jsonl
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.evals.config import CompareConfig
from seethink.evals.evaluated import read_evaluation
from seethink.evals.metrics import figures
from seethink.evals.pairs import board_difference, difference, disagreements, flips, pair, same_responses
from seethink.show import compare
from tests import browser, synthetic_evals, synthetic_study
from tests.test_view import rows_of

needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
score = synthetic_evals.score


def sides(tmp_path, a, b, changes_a=None, changes_b=None):
    """Two evaluations from their scores."""
    folders = [
        synthetic_evals.folder(tmp_path / name, rows, **{"model": name, **(changes or {})})
        for name, rows, changes in (("a", a, changes_a), ("b", b, changes_b))
    ]
    return [read_evaluation(folder) for folder in folders]


def verdicts(marks, **changes):
    """Scores from a text of +, - and ?."""
    return [score(i, {"+": True, "-": False, "?": None}[mark], **changes) for i, mark in enumerate(marks)]


def compared(tmp_path, a, b, changes_a=None, changes_b=None):
    one, other = sides(tmp_path, a, b, changes_a, changes_b)
    return compare.run(CompareConfig(input=one.folder, other=other.folder, out=tmp_path / "out"))


def test_flips_both_ways_and_the_exact_test(tmp_path):
    a, b = verdicts("+" * 30 + "-" * 30), verdicts("-" * 5 + "+" * 25 + "+" * 18 + "-" * 12)
    pairs = pair(*sides(tmp_path, a, b))
    found = difference(pairs)
    assert flips(pairs)["better"] == 18 and flips(pairs)["worse"] == 5 and flips(pairs)["same"] == 37
    assert found.interval.estimate == pytest.approx(13 / 60) and found.p == pytest.approx(binomtest(18, 23).pvalue)
    assert found.interval.low < 13 / 60 < found.interval.high


def test_what_is_undecided_on_one_side_is_neither_right_nor_wrong(tmp_path):
    pairs = pair(*sides(tmp_path, verdicts("++--??+-"), verdicts("+-+-+-??")))
    assert flips(pairs) == {
        "better": 1, "worse": 1, "same": 2, "undecided on A": 2, "undecided on B": 2, "undecided on both": 0
    }  # fmt: skip
    assert difference(pairs).items == 4 and difference(pairs).interval.estimate == 0
    assert difference(pair(*sides(tmp_path, verdicts("??"), verdicts("+-")))) is None


def test_items_of_a_cluster_are_one_draw(tmp_path):
    rng = np.random.default_rng(0)
    marks = ["".join("+" * 10 if right else "-" * 10 for right in rng.random(40) < share) for share in (0.4, 0.6)]
    alone = pair(*sides(tmp_path, *(verdicts(m) for m in marks)))
    rows = [[replace(s, cluster=f"q{i // 10}") for i, s in enumerate(verdicts(m))] for m in marks]
    together = pair(*sides(tmp_path, *rows))
    a, b = difference(alone).interval, difference(together).interval
    assert a.estimate == pytest.approx(b.estimate) and b.high - b.low > 2 * (a.high - a.low)


def test_the_boards_own_score_is_compared_by_clusters(tmp_path):
    """Worst case of groups: one wrong variant costs the whole group."""

    def worst(scores):
        groups = {}
        for one in scores:
            groups.setdefault(one.cluster, []).append(one.ok is True)
        return figures("score", [float(all(g)) for g in groups.values()])

    a = [replace(s, cluster=f"q{i // 2}") for i, s in enumerate(verdicts("+++-" * 10 + "?+"))]
    b = [replace(s, cluster=f"q{i // 2}") for i, s in enumerate(verdicts("++++" * 10 + "++"))]
    pairs = pair(*sides(tmp_path, a, b))
    found = board_difference(pairs, worst)
    assert found.items == 20 and found.interval.estimate == 0.5, "the group with an undecided item is left out"
    assert difference(pairs).interval.estimate == pytest.approx(10 / 41)
    assert board_difference(pair(*sides(tmp_path, verdicts("+-"), verdicts("++"))), worst) is None


def test_several_draws_are_a_mean_per_item(tmp_path):
    a = [score(i, ok, draw=d) for i in range(20) for d, ok in enumerate((True, False, None, i % 2 == 0))]
    b = [score(i, True, draw=d) for i in range(20) for d in range(2)]
    pairs = pair(*sides(tmp_path, a, b))
    assert pairs[0].values == (2 / 3, 1.0) and pairs[1].values == (1 / 3, 1.0)
    assert difference(pairs).interval.estimate == pytest.approx(0.5) and flips(pairs)["better"] == 20
    found = compared(tmp_path, a, b)
    assert found["test"].startswith("bootstrap") and len(rows_of(tmp_path / "out")[0]["attempts"]) == 6


def test_the_same_responses_under_two_profiles(tmp_path):
    """What two sets of rules decide differently, by the rungs of both."""
    a = [score(i, i % 2 == 0, decided_by="can_infer", answer="B") for i in range(20)]
    b = [
        replace(s, ok=None, status="unparsed", decided_by="rule", reason="refusal", answer=None) if i < 3
        else replace(s, ok=not s.ok, status="wrong" if s.ok else "right", decided_by="box") if i < 8
        else s
        for i, s in enumerate(a)
    ]  # fmt: skip
    pairs = pair(*sides(tmp_path, a, b))
    assert same_responses(pairs)
    groups = disagreements(pairs)
    assert [(d.rung_a, d.rung_b, d.states, len(d.ids)) for d in groups] == [
        ("can_infer", "box", ("wrong", "right"), 3),
        ("can_infer", "box", ("right", "wrong"), 2),
        ("can_infer", "rule", ("right", "unparsed"), 2),
        ("can_infer", "rule", ("wrong", "unparsed"), 1),
    ]
    found = compared(tmp_path, a, b, {"model": "m"}, {"model": "m", "profile": "strict"})
    assert found["same_responses"] and [d["n"] for d in found["disagreements"]] == [3, 2, 2, 1]
    assert found["a"]["name"] == "profile leaderboard" and found["b"]["name"] == "profile strict"
    assert found["flips"]["undecided on B"] == 3 and found["flips"]["worse"] == 2
    md = (tmp_path / "out" / "compare.md").read_text()
    assert r"| can\_infer | box | wrong | right | 3 |" in md and "refusal" in md
    assert "1: B, refusal" in md and "5: B" in md and "B, B" not in md


def test_other_responses_are_no_disagreement_of_rules(tmp_path):
    a, b = verdicts("+-+-"), verdicts("+-+-", text="other")
    assert compared(tmp_path, a, b)["same_responses"] is False


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "geoqa", "board": "GeoQA test"}, "these are two boards: MathVision test and GeoQA test"),
        ({"dataset_hash": "d2"}, "MathVision test, but of other items: dataset hash d1 and d2"),
    ],
)
def test_different_boards_are_refused(tmp_path, changes, said):
    a, b = sides(tmp_path, verdicts("+-"), verdicts("+-"), None, changes)
    with pytest.raises(UserError, match=said):
        pair(a, b)
    with pytest.raises(UserError, match="no finished evaluation"):
        compare.run(CompareConfig(input=tmp_path, other=a.folder, out=tmp_path / "out"))


@pytest.mark.parametrize(("swapped", "images"), [(False, "blank"), (True, "shuffled")])
def test_what_a_score_owes_to_the_picture(tmp_path, swapped, images):
    own, blind = verdicts("+" * 60 + "-" * 40), verdicts("+" * 20 + "-" * 80, text="blind")
    changes = [{"model": "m"}, {"model": "m", "images": images}]
    found = compared(
        tmp_path, *(reversed((own, blind)) if swapped else (own, blind)), *(changes[::-1] if swapped else changes)
    )
    html, md = (tmp_path / "out" / "compare.html").read_text(), (tmp_path / "out" / "compare.md").read_text()
    for text in (html, md):
        assert "What the score owes to the picture" in text and "With the picture 60.0 % of the items are right" in text
        assert "20.0 %: +40.0 points" in text
    assert found["changed"] == {"images": [images, "own"] if swapped else ["own", images]}


def test_a_picture_that_makes_no_difference_is_said_so(tmp_path):
    compared(tmp_path, verdicts("+-" * 20), verdicts("+-" * 20), {"model": "m"}, {"model": "m", "images": "blank"})
    assert "makes no difference that can be told" in (tmp_path / "out" / "compare.html").read_text()


def test_parts_and_levels_have_their_own_difference(tmp_path):
    found = compared(tmp_path, verdicts("+-" * 30), verdicts("++" * 30))
    parts = found["by_part"]
    assert parts["algebra"]["difference"] == 100 and parts["geometry"]["difference"] == 0
    assert parts["algebra"]["p_holm"] == pytest.approx(2 * parts["algebra"]["p"]) and set(found["by_level"]) == set(
        "123"
    )


def test_what_is_written_holds_every_pair(tmp_path):
    a, b = verdicts("++--?"), verdicts("+-+-+")
    found = compared(tmp_path, a, b)
    out = tmp_path / "out"
    assert found == read_json(out / "compare.json")
    table = read_table(out / "pairs.parquet")
    assert [row["outcome"] for row in table] == ["same", "worse", "better", "same", "undecided on A"]
    assert "The scores themselves lie +20.0 points apart" in (out / "compare.md").read_text()
    assert table[4]["value_a"] is None and table[4]["reason_a"] == "invalid_response_format"
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ["1", "2", "4", "0", "3"], "what differs comes first"
    assert rows[0]["flags"] == ["worse", "flipped"] and rows[2]["flags"] == ["undecided on A", "undecided", "right"]
    assert [attempt["label"] for attempt in rows[0]["attempts"]] == ["A a", "B b"]


def test_by_the_command_line_with_pictures(tmp_path, capsys):
    samples = [synthetic_study.draw_sample(i, tmp_path, "iid") for i in range(12)]
    save_samples(tmp_path / "board.jsonl", samples)
    for name, wrong in (("a", 3), ("b", 4)):
        rows = [{"id": s.id, "text": compose("so", "E" if i % wrong == 0 else s.gold)} for i, s in enumerate(samples)]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
        call = ["eval", "--data", str(tmp_path / "board.jsonl"), "--predictions", str(tmp_path / f"{name}.jsonl")]
        assert main([*call, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    call = ["eval", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    assert main([*call, "--dry-run"]) == 0 and not (tmp_path / "out").exists()
    capsys.readouterr()
    for _ in range(2):  # a second time over the first
        assert main([*call, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["items"] == 12 and found["task"] == "rows"
    rows = rows_of(tmp_path / "out")
    assert all((tmp_path / "out" / image).is_file() for row in rows for image in row["images"]) and rows[0]["question"]
    (tmp_path / "board.jsonl").unlink()
    assert main(call) == 0 and "Questions and pictures are not shown" in (tmp_path / "out" / "compare.html").read_text()


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_comparison_in_a_browser(tmp_path, width, dark):
    a = [replace(s, answer=f"<b>{s.sample_id}</b>", text=synthetic_study.HOSTILE) for s in verdicts("+-?" * 20)]
    b = [replace(s, ok=True, status="right", decided_by="box") for s in a]
    compared(tmp_path, a, b, {"model": "m"}, {"model": "m", "profile": "strict"})
    shown = "document.getElementById('shown').textContent"
    scripts = [
        "document.querySelector('[data-flag=better]').click()",
        shown,
        "document.querySelector('a[href^=\"#item\"]').click()",
    ]
    scripts += [shown, "document.activeElement.dataset.id", "document.querySelectorAll('.attempts b').length"]
    seen = browser.look(tmp_path / "out" / "compare.html", width, dark, scripts)
    assert seen.errors == [] and seen.overflow == [] and "owned" not in seen.title
    assert seen.results[1].startswith("20 of 60") and seen.results[3].startswith("60 of 60")
    assert seen.results[4] == "1" and seen.results[5] == 0
