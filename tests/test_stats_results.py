"""What a study's results say beyond their intervals: planned pairs, matching, equivalence, kinds, and several bases."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest

from seethink.core import stats
from seethink.core.correlation import intraclass
from seethink.core.store import read_json, write_json
from seethink.core.tables import read_table, write_table
from seethink.core.tags import compose
from seethink.study import results
from seethink.study.alarms import study_alarms
from seethink.study.fair import repeats, root, short_of_compute, unmatched
from seethink.study.folder import load_study
from tests import synthetic_study

NAMES = ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")
FIRST, ADDED = ("sft-hesitant+grpo", "grpo"), ("sft-hesitant+grpo", "sft-hesitant")


@pytest.fixture
def folder(tmp_path):
    arms = {name: synthetic_study.ARMS[name] for name in NAMES}
    return synthetic_study.build(tmp_path / "study", items=60, arms=arms, steps=12)


def plan(folder, **changes):
    write_json(folder / "study.json", {**read_json(folder / "study.json"), **changes})
    return load_study(folder)


def rescore(folder, pattern, change):
    for path in sorted(folder.glob(f"arms/{pattern}/eval/scores.parquet")):
        write_table(path, [{**row, **change(row, i)} for i, row in enumerate(read_table(path))])


def summarise(folder, pattern, **changes):
    for path in folder.glob(f"arms/{pattern}/done.json"):
        done = read_json(path)
        write_json(path, {**done, "summary": {**done["summary"], **changes}})


def pairs(study):
    return {(c.a, c.b): c for c in results.contrasts(study)}


def test_what_exploring_adds_to_imitation_is_always_planned(folder):
    study = load_study(folder)
    assert study.comparisons == [FIRST] and results.planned(study) == [FIRST, ADDED]
    found = pairs(study)
    assert found[ADDED].overall == stats.compare(study.outcomes(ADDED[0]), study.outcomes(ADDED[1]))
    p = [found[pair].overall.p for pair in (FIRST, ADDED)]
    assert [found[pair].adjusted_p for pair in (FIRST, ADDED)] == pytest.approx(stats.holm(p))
    assert found[FIRST].family == 2
    assert found[FIRST].detectable == pytest.approx(found[FIRST].overall.detectable(2))
    assert found[FIRST].power(found[FIRST].detectable) == pytest.approx(0.8, abs=1e-3)
    for planned in ([ADDED], [ADDED[::-1]]):
        assert results.planned(plan(folder, comparisons=planned)) == planned


def test_an_early_export_is_not_compared_with_its_last_model(folder):
    arms = read_json(folder / "study.json")["arms"]
    arms["sft-hesitant+grpo"]["at"] = 20
    study = plan(folder, arms=arms)
    assert results.planned(study) == [FIRST]
    assert results.title_of(study, "sft-hesitant+grpo") == "SFT (hesitant), then GRPO, from sft-hesitant at 20"


def test_p_at_the_bound_of_a_bootstrap_is_printed_as_one(folder):
    c = pairs(load_study(folder))[FIRST]
    coarse = stats.compare(np.linspace(0.5, 1, 50), np.zeros(50))
    bounded = results.Contrast("a", "b", "", coarse, {}, 8 * coarse.p, "better", [])
    assert bounded.p_text == "<= 0.004" and c.p_text == stats.p_text(c.adjusted_p)
    unknown = results.Contrast("a", "b", "", None, {}, None, "not measured", [])
    assert unknown.p_text == "not measured" and unknown.detectable is None and unknown.power(0.1) is None


# ---------------------------------------------------------------------------------------------------- equivalent, matched


def test_arms_that_answer_alike_are_equivalent_within_the_plans_margin(folder):
    def alike(row, i):
        return {"ok": i % 3 > 0, "text": row["text"] + " "}

    rescore(folder, "grpo/*", alike)
    rescore(folder, "sft-hesitant+grpo/*", alike)
    study = plan(folder, equivalent_within=10.0)
    c = pairs(study)[FIRST]
    assert c.word == "equivalent" and c.equivalence_p == pytest.approx(2 * 0.9**60, rel=0.01)
    head = results.headline(study, list(pairs(study).values()))
    assert head.answer == "No difference can be seen. The arms are the same within 10 points."
    assert pairs(plan(folder, equivalent_within=1.0))[FIRST].word == "not distinguishable", "60 items cannot tell"
    assert pairs(plan(folder, equivalent_within=0.0))[FIRST].equivalence_p is None


def test_equal_arms_on_a_board_without_room_are_not_called_equivalent(folder):
    rescore(folder, "*/*", lambda row, i: {"ok": False})
    assert pairs(plan(folder, equivalent_within=20.0))[FIRST].word == "at the floor"


def test_arms_that_are_not_matched_get_no_verdict_unless_asked(folder):
    rescore(folder, "grpo/*", lambda row, i: {"ok": True})
    study = plan(folder, matched_on=["prompts", "rollouts"])
    c = pairs(study)[FIRST]  # imitation took 600 prompts more
    assert c.word == "not matched" and c.why == c.unmatched == "prompts (792 against 192)"
    head = results.headline(study, list(pairs(study).values()))
    assert head.answer == results.SILENT["not matched"] and "prompts (792 against 192)" in head.warning
    assert pairs(study)[ADDED].word != "not matched", "its further training is the named factor"
    study = plan(folder, accept_unmatched=True)
    c = pairs(study)[FIRST]
    assert (c.word, c.why) == ("worse", "") and c.title.endswith("(not matched on prompts (792 against 192))")
    assert "not matched on prompts" in results.headline(study, [c]).warning
    assert pairs(plan(folder, matched_on=["rollouts"]))[FIRST].unmatched == ""


def test_an_effort_that_was_not_recorded_is_not_matched(folder):
    study = plan(folder, matched_on=["CPU seconds"])
    assert unmatched(study, *FIRST) == "CPU seconds (not recorded)"
    assert unmatched(study, "grpo", "base") == "", "the base cost nothing and is matched to nothing"
    summarise(folder, "sft-hesitant/*/sft", rollouts=5)
    assert unmatched(plan(folder, matched_on=["rollouts"]), "sft-hesitant", "grpo") == "rollouts (5 against 1,536)"


# ---------------------------------------------------------------------------------------------------- compute, several bases


def test_a_compute_matched_arm_is_asked_for_where_there_is_none(folder):
    arms = read_json(folder / "study.json")["arms"]
    arms["sft-hesitant+grpo"]["data"] = arms["grpo"]["data"]
    ((arm, beside),) = short_of_compute(plan(folder, arms=arms))
    spent = {}
    for name, stages in (("grpo", ["grpo/*/grpo"]), ("both", ["sft-hesitant/*/sft", "sft-hesitant+grpo/*/grpo"])):
        files = [path for stage in stages for path in folder.glob(f"arms/{stage}/done.json")]
        rows = [read_json(path)["summary"] for path in files]
        spent[name] = sum(row["tokens_generated"] + 3 * row["tokens_trained"] for row in rows)
    assert (arm, beside) == ("sft-hesitant+grpo", f"grpo spent {spent['grpo'] / spent['both']:.2f} of it")
    study = load_study(folder)
    told = study_alarms(study, results.contrasts(study))
    assert any(f"{arm} has no compute-matched arm that only explores beside it ({beside};" in text for text in told)
    for seed in range(3):
        summary = read_json(folder / f"arms/grpo/seed{seed}/grpo/done.json")["summary"]
        more = (spent["both"] - spent["grpo"]) // 3 // 3
        summarise(folder, f"grpo/seed{seed}/grpo", tokens_trained=summary["tokens_trained"] + more)
    assert list(short_of_compute(load_study(folder))) == []
    arms["grpo"]["set"] = {"reward": {"placebo": "random"}}
    study = plan(folder, arms=arms)
    assert list(short_of_compute(study)) == [(arm, "none is measured")], "a placebo is no control of compute"
    assert results.title_of(study, "grpo") == "GRPO (placebo reward: random) alone"
    arms["grpo"]["set"] = {"rounds": 900}
    assert list(short_of_compute(plan(folder, arms=arms))) == []


def another_base(folder, grpo=True):
    """A second base, zero, and what GRPO makes of it."""
    arms = read_json(folder / "study.json")["arms"]
    arms["zero"] = {"stages": []}
    shutil.copytree(folder / "arms/base", folder / "arms/zero")
    rescore(folder, "zero/*", lambda row, i: {"ok": i % 4 == 0})
    if grpo:
        arms["grpo-zero"] = {**arms["grpo"], "start": "zero"}
        shutil.copytree(folder / "arms/grpo", folder / "arms/grpo-zero")
    return plan(folder, arms=arms, comparisons=[["grpo", "base"]])


def test_what_is_said_of_one_base_is_said_of_one_checkpoint(folder):
    rescore(folder, "grpo/*", lambda row, i: {"ok": True})
    question = read_json(folder / "study.json")["question"]
    study = plan(folder, comparisons=[["grpo", "base"]], question={**question, "comparisons": [["grpo", "base"]]})
    found = results.contrasts(study)
    assert found[0].word == "better" and found[0].title == "GRPO alone, against this checkpoint of the base"
    assert results.headline(study, found).answer.endswith("That is said of this base checkpoint: no other was tried.")
    study = another_base(folder)
    found = results.contrasts(study)
    assert found[0].title == "GRPO alone, against Base model" and list(found[0].elsewhere) == ["zero"]
    assert "no other was tried" not in results.headline(study, found).answer
    two = [found[0].overall, found[0].elsewhere["zero"]]
    assert two[1] == stats.compare(study.outcomes("grpo-zero"), study.outcomes("zero"))
    assert found[0].over_bases == stats.mean_interval([c.interval.estimate for c in two])


def test_a_base_that_repeats_nothing_leaves_the_other_one_checkpoint(folder):
    study = another_base(folder, grpo=False)
    (c, *_) = results.contrasts(study)
    assert c.elsewhere == {} and c.over_bases is None and "this checkpoint" in c.title


def test_every_arm_is_measured_against_its_own_base(folder):
    study = another_base(folder)
    rows = {row.name: row for row in results.arm_results(study)}
    assert root(study, "grpo-zero") == "zero" and root(study, "sft-hesitant+grpo") == root(study, "base") == "base"
    zero = study.outcomes("zero")
    assert rows["grpo-zero"].against_base == stats.compare(study.outcomes("grpo-zero"), zero)
    assert rows["zero"].against_base is None and rows["zero"].title == "Base model zero"
    assert rows["grpo-zero"].title == "GRPO alone, on zero"
    assert rows["zero, hesitant"].against_base == stats.compare(study.outcomes("zero", stage="eval-hesitant"), zero)
    digits = study.where("kind", "digit")
    gain = stats.compare(study.outcomes("grpo-zero")[:, digits], zero[:, digits])
    assert results.kind_rows(study)[0].kind == "digit" and results.kind_rows(study)[0].gains["grpo-zero"] == gain
    assert repeats(study, *FIRST) == [], "no arm imitates before exploring from zero"


def test_further_evaluations_that_ask_otherwise_make_no_row_of_the_board(folder):
    def add(name, rows):
        home = folder / f"arms/grpo/seed0/eval-{name}"
        shutil.copytree(folder / "arms/grpo/seed0/eval", home)
        write_table(home / "scores.parquet", rows)

    scores = read_table(folder / "arms/grpo/seed0/eval/scores.parquet")
    add("blank", scores)
    add("samples", [{**row, "draw": draw} for row in scores for draw in range(2)])
    add("old", [{**row, "sample_id": f"old-{i}"} for i, row in enumerate(scores)])
    study = plan(folder, evals={name: {"set": {"images": "blank"}} for name in ("blank", "samples", "old")})
    rows = {row.name: row.title for row in results.arm_results(study) if row.arm == "grpo"}
    assert rows == {"grpo": "GRPO alone", "grpo, blank": "GRPO alone, images blank"}


# ---------------------------------------------------------------------------------------------------- kinds


def test_rows_of_kinds_are_those_of_plain_loops(folder):
    study = load_study(folder)
    scores = [s for arm in study.arms.values() for run in arm.of("eval") for s in run.scores]
    for row in results.kind_rows(study):
        golds = Counter(s.gold for s in study.board.values() if s.kind == row.kind)
        assert row.items == sum(golds.values()) and row.majority_share == max(golds.values()) / row.items
        assert golds[row.majority] == max(golds.values())
        ids = {s.sample_id for s in scores if s.kind == row.kind and s.ok is not None}
        solved = {s.sample_id for s in scores if s.ok}
        assert row.never_solved == len(ids - solved) and row.never_solved_share == row.never_solved / row.items
        mask = study.where("kind", row.kind)
        assert set(row.gains) == {"grpo", "sft-hesitant", "sft-hesitant+grpo"}
        assert row.gains["grpo"] == stats.compare(study.outcomes("grpo")[:, mask], study.outcomes("base")[:, mask])
    assert sum(row.items for row in results.kind_rows(study, "ood")) == 15


def test_nobody_solves_what_nobody_was_right_on(folder):
    rescore(folder, "*/*", lambda row, i: {"ok": None if i == 0 else row["kind"] != "math"})
    rows = {row.kind: row for row in results.kind_rows(load_study(folder))}
    assert {kind: row.never_solved for kind, row in rows.items()} == {
        "digit": 0, "choice": 0, "math": 12, "box": 0, "open": 0,
    }  # fmt: skip
    (folder / "world/board.jsonl").unlink()
    gone = results.kind_rows(load_study(folder))[0]
    assert gone.majority is None and gone.majority_share is None and gone.items == 12


def test_the_headline_stands_without_the_handicapped_kinds_too(folder):
    """GRPO wins by descriptions alone, which the base answers without a thought."""
    rescore(folder, "grpo/*", lambda row, i: {"ok": row["kind"] == "open" or i % 2 == 0})
    rescore(folder, "base/*", lambda row, i: {"ok": row["kind"] != "open" and i % 2 == 0})
    asked = [["grpo", "base"]]
    question = {**read_json(folder / "study.json")["question"], "comparisons": asked}
    study = plan(folder, comparisons=asked, question=question, handicapped=["open", "box"])
    head = results.headline(study, results.contrasts(study))
    assert head.primary.word == "better" and head.without_kinds == ("box", "open")
    without = head.without.primary
    mask = ~(study.where("kind", "open") | study.where("kind", "box"))
    assert without.overall == stats.compare(study.outcomes("grpo")[:, mask], study.outcomes("base")[:, mask])
    assert without.word == "not distinguishable" and head.without.answer == "No difference can be seen."
    assert results.headline(plan(folder, handicapped=[]), results.contrasts(study)).without is None


def test_a_handicap_shows_in_empty_thinking(folder):
    def speechless(row, i):
        return {"text": compose("", "x") if row["kind"] == "open" and i % 3 else compose("I look.", "x")}

    rescore(folder, "base/*", speechless)
    assert results.handicapped(plan(folder, handicapped="auto")) == ["open"]
    assert results.handicapped(plan(folder, handicapped=["math", "elsewhere"])) == ["math"]
    assert results.handicapped(plan(folder, handicapped=[])) == []


def test_all_kinds_handicapped_leaves_nothing_measured(folder):
    study = plan(folder, handicapped=["digit", "choice", "math", "box", "open"])
    assert results.headline(study, results.contrasts(study)).without.answer == "Not measured yet."


# ---------------------------------------------------------------------------------------------------- seeds


def test_seeds_are_paired_only_where_the_plan_says_so(folder):
    study = load_study(folder)
    a, b = (study.outcomes(name) for name in FIRST)
    assert pairs(study)[FIRST].overall == stats.compare(a, b)
    assert pairs(plan(folder, pair_seeds=True))[FIRST].overall == stats.compare(a, b, pair_seeds=True)
    assert stats.compare(a, b, pair_seeds=True).df != stats.compare(a, b).df


def test_what_a_shared_seed_does_is_measured_over_all_arms(folder):
    study = load_study(folder)
    table = [[np.nanmean(run) for run in study.outcomes(name)] for name in NAMES[1:]]
    assert results.seed_correlation(study) == intraclass(np.array(table))
    for seed in (1, 2):
        for name in NAMES[1:]:
            shutil.rmtree(folder / f"arms/{name}/seed{seed}")
    assert results.seed_correlation(load_study(folder)) is None


def test_one_trained_seed_on_either_side_is_said(folder):
    for seed in (1, 2):
        shutil.rmtree(folder / f"arms/grpo/seed{seed}")
    study = load_study(folder)
    assert "single seed" in results.headline(study, results.contrasts(study)).warning
