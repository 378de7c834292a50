"""What a report says beside its verdicts: controls by what they are, published tables, checkpoints, verdicts in words."""

from dataclasses import replace

import pytest

from seethink.core.stats import VERDICTS, Interval
from seethink.core.store import read_json, write_json
from seethink.show.beside import beside_published, empty_thinking_said, notes_of, other_checkpoints, this_checkpoint
from seethink.show.report import ReportConfig, marks_of, run
from seethink.study.folder import load_study
from seethink.study.results import contrasts
from tests import rich_study, synthetic_study
from tests.page_tables import Page

DICE = synthetic_study.Dice
ARMS = {
    "base": ((), "", "base", DICE(0.4)),
    "grpo": (("grpo",), "", "base", DICE(0.6)),
    "coin": (("grpo",), "", "base", DICE(0.4)),
    "after-coin": (("grpo",), "", "coin", DICE(0.4)),
    "other": ((), "", "", DICE(0.3)),
}


@pytest.fixture
def small(tmp_path):
    folder = synthetic_study.build(tmp_path / "s", seeds=(0, 1), items=20, arms=ARMS, steps=3)
    rich_study.edit(folder / "arms", "coin", lambda config: config["reward"].update(placebo="random"))
    return folder


def planned(folder, **values):
    write_json(folder / "study.json", {**read_json(folder / "study.json"), **values})
    return load_study(folder)


def test_a_placebo_is_called_one_wherever_it_stands_and_so_is_what_starts_from_it(small):
    rich_study.edit(small / "arms", "grpo", lambda config: config.update(images="shuffled"))
    study = load_study(small)
    notes = notes_of(study)
    assert notes["coin"] == notes["after-coin"] == {"placebo": "placebo: a coin for a reward"}
    assert notes["grpo"] == {"shuffled pictures": "grpo on shuffled pictures"} and notes.keys() == {
        "coin",
        "after-coin",
        "grpo",
    }
    assert {name: mark.tag for name, mark in marks_of(study).items() if mark.tag}["after-coin"] == "placebo"


def test_verdicts_that_need_words_are_explained_where_they_stand(small):
    for seed in (0, 1):
        file = small / f"arms/grpo/seed{seed}/grpo/done.json"
        write_json(file, {**read_json(file), "summary": {**read_json(file)["summary"], "prompts": 999}})
    planned(small, comparisons=[["grpo", "coin"]], matched_on=["prompts"])
    run(ReportConfig(study=small, gallery=0))
    page = Page((small / "report.html").read_text())
    row = page.tables["Planned comparisons"].rows[0]
    assert row[1].text == "not matched" and "prompts (999 against 48)" in row[1].small[0]
    assert VERDICTS["not matched"] in page.sections["arms"] and row[0].small == ["− coin (placebo)"]
    assert "coin placebo" in [cells[0].text for cells in page.tables["Arms"].rows]


@pytest.mark.parametrize(
    ("reference", "told"), [("published.toml#nowhere", "no published table 'nowhere'"), ("", None)]
)
def test_a_table_that_cannot_be_shown_says_why(small, reference, told):
    found = beside_published(planned(small, published=reference))
    assert found is None if told is None else told in found


def test_a_benchmark_of_ours_stands_under_the_published_number(small):
    evaluation = small / "arms/grpo/seed0/eval"
    for seed in (0, 1):
        rich_study.rewrite(small / f"arms/grpo/seed{seed}/eval", "eval-mathverse", lambda row, _: [row])
        home = small / f"arms/grpo/seed{seed}/eval-mathverse"
        write_json(home / "done.json", {"summary": {"score": 40.0 + seed, "task": "mathverse", "profile": "strict"}})
    assert (evaluation / "done.json").exists()
    found = beside_published(planned(small, published="published.toml#rewards"))
    row = next(row for row in found.rows if row.row.arm == "grpo")
    assert dict(zip(found.table.columns, row.benchmarks, strict=True)) == {
        "mathvision": None,
        "mathverse": 40.5,
        "wemath": None,
    }
    assert any(note.startswith("mathverse: scored by the rules of the profile strict") for note in found.not_matched)
    assert found.source == "arXiv 2504.11468" and "its own board, 20 items" in " ".join(found.not_matched)


def test_what_is_said_of_a_base_is_said_of_its_checkpoint(small):
    found = contrasts(planned(small, comparisons=[["grpo", "base"]]))
    assert "this checkpoint alone" in this_checkpoint(found) and "than this one" in other_checkpoints(found)
    arms = {**ARMS, "grpo-other": (("grpo",), "", "other", DICE(0.5))}
    folder = synthetic_study.build(small.parent / "two", seeds=(0, 1), items=20, arms=arms, steps=3)
    found = contrasts(planned(folder, comparisons=[["grpo", "base"]]))
    back = replace(found[0], elsewhere={"base": found[0].overall})  # the same comparison, told from the other base
    assert other_checkpoints([*found, back]) == other_checkpoints(found)
    assert (
        "(other)" in this_checkpoint(found)
        and other_checkpoints(found) == "base checkpoints other than these: base, other"
    )


def test_empty_thinking_is_said_in_a_sentence():
    share = lambda value: Interval(value, 0, 1)  # noqa: E731
    base = {"all": share(0.3), "open": share(0.77), "box": share(0.32), "digit": share(0.01), "math": None}
    said = empty_thinking_said({"base": base, "grpo": {"all": share(0.0)}})
    assert (
        said
        == "The base leaves its thinking empty on 77 % of open and 32 % of box items; no other arm leaves it empty anywhere."
    )
    assert "more than 4 % of all" in empty_thinking_said({"base": base, "grpo": {"all": share(0.04)}})
    assert empty_thinking_said({"base": {"all": share(0.0), "open": share(0.0)}}) == "" == empty_thinking_said({})
