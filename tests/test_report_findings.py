"""One page from several studies: answers, intervals and limits are those of the folders, pictures lie beside it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.store import read_json, write_json
from seethink.show.config import FindingsConfig
from seethink.show.findings import run
from tests import synthetic_study
from tests.test_report_hostile import EVIL

DICE = synthetic_study.Dice
CLEAR = {
    "base": ((), "", "base", DICE(0.3)),
    "grpo": (("grpo",), "", "base", DICE(0.9)),
    "sft-hesitant": (("sft",), "hesitant", "base", DICE(0.1)),
    "sft-hesitant+grpo": (("sft", "grpo"), "hesitant", "sft-hesitant", DICE(0.3)),
}
ALIKE = {"base": CLEAR["base"], "grpo": (("grpo",), "", "base", DICE(0.3))}


def build(folder, arms, **question):
    synthetic_study.build(folder, seeds=(0, 1, 2), items=60, arms=arms, steps=6)
    plan = read_json(folder / "study.json")
    plan["question"] |= {"comparisons": plan["comparisons"][:1], **question}
    write_json(folder / "study.json", plan)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    home = tmp_path_factory.mktemp("findings")
    studies = [
        build(home / "first", CLEAR, text="Does imitation cost?", not_shown="Whether a larger model would recover."),
        build(home / "Second one", ALIKE, text="Does | nothing `happen`?"),
    ]
    out = home / "docs" / "findings.md"
    assert main(["findings", *map(str, studies), "--out", str(out)]) == 0
    return out


def section(page, name):
    return re.split(r'<a id="', page.read_text())[1 + ["first", "second-one"].index(name)]


def test_an_answer_stands_with_its_interval(page):
    def right(arm, seed):
        from pyarrow import parquet

        folder = page.parents[1] / f"first/arms/{arm}/seed{seed}/eval"
        return np.array(parquet.read_table(folder / "scores.parquet")["ok"].to_pylist(), dtype=float)

    differences = [right("sft-hesitant+grpo", seed) - right("grpo", seed) for seed in (0, 1, 2)]
    shown = f"{100 * np.nanmean(differences):+.1f}".replace("-", "−")
    text = section(page, "first")
    assert "**Explore. Imitating first hurt.**" in text and f"against GRPO alone: {shown} points [" in text
    assert text.count("worse") >= 2 and "| sft-hesitant+grpo − grpo | " + shown in text


def test_a_picture_lies_beside_the_page_and_brings_its_colours(page):
    for name in ("first", "second-one"):
        link = re.search(r"!\[[^]]+\]\(([^)]+)\)", section(page, name))[1]
        root = ElementTree.parse(page.parent / link).getroot()
        drawn = "".join(root.itertext())
        used = set(re.findall(r"var\((--[\w-]+)\)", (page.parent / link).read_text()))
        assert root.tag.endswith("svg") and used and all(f"{name}:" in drawn for name in used)
        assert "prefers-color-scheme: dark" in drawn and "points of accuracy" in drawn


def test_what_is_not_shown_is_said(page):
    first, second = section(page, "first"), section(page, "second-one")
    assert "* Whether a larger model would recover." in first and "other base checkpoints than this one" in first
    assert "differences below" not in first
    assert re.search(r"\* differences below \d+\.\d points", second) and "No difference can be seen." in second


def test_the_page_begins_with_all_answers(page):
    table = page.read_text().split("<a id=")[0]
    assert r"| [Does \| nothing \`happen\`?](#second-one) | No difference can be seen." in table
    assert "(#first) | Explore. Imitating first hurt." in table


def test_a_page_is_rendered_again_but_never_over_another_text(page, tmp_path):
    study, before = page.parents[1] / "first", page.read_bytes()
    both = [str(study), str(page.parents[1] / "Second one")]
    assert main(["findings", *both, "--out", str(page)]) == 0 and page.read_bytes() == before
    notes = tmp_path / "notes.md"
    notes.write_text("# Mine\n")
    assert main(["findings", str(study), "--out", str(notes)]) == 2 and notes.read_text() == "# Mine\n"
    with pytest.raises(UserError, match="two studies are called 'first'"):
        run(FindingsConfig(runs=[study, study], out=tmp_path / "f.md"))


def test_a_study_that_is_not_finished_says_so(tmp_path):
    study = build(tmp_path / "s", ALIKE)
    for done in (study / "arms").rglob("eval*/done.json"):
        done.unlink()
    run(FindingsConfig(runs=[study], out=tmp_path / "f.md"))
    text = (tmp_path / "f.md").read_text()
    assert "Not measured yet." in text and "![" not in text and "no finished evaluation" in text


def test_no_text_of_a_study_becomes_markup(tmp_path):
    study = build(tmp_path / "s", ALIKE, text=EVIL, same=EVIL, not_shown=EVIL)
    run(FindingsConfig(runs=[study], out=tmp_path / "f.md"))
    text = (tmp_path / "f.md").read_text()
    assert not re.search(r"<script|<img|\x1b|\u202e|(?<!\\)\[x|(?<!\\)[`$]|\]\(javascript", text)
    assert "\n# h" not in text and "\n- l" not in text
    assert "<script" not in (tmp_path / "f" / "s.svg").read_text()
