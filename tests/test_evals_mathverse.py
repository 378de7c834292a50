"""MathVerse: which rows are the board, and its two stages of judging."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.evals.board import Response
from seethink.evals.boards import mathverse
from seethink.evals.verdicts import grade, state
from tests.test_evals_groups import samples, score, states


def vision_only(n: int, version: str = "Vision Only", **more) -> dict:
    """A row as testmini.json has it."""
    about = {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Angle"}
    row = {
        "sample_index": str(n),
        "problem_index": str(n),
        "problem_version": version,
        "question": "",
        "image": f"{n}.png",
    }
    row |= {
        "answer": "D",
        "question_type": "multi-choice",
        "metadata": about,
        "query_wo": "Reply.",
        "query_cot": "Reason.",
    }
    return row | {"question_for_eval": f"How large is angle {n}?"} | more


def test_only_the_rows_of_vision_only_are_the_board(tmp_path):
    versions = ["Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only"]
    path = tmp_path / "testmini.json"
    path.write_text(json.dumps([vision_only(n, versions[n % 5]) for n in range(50)]))
    found = samples(mathverse.BOARD, path)
    assert [s.id for s in found] == [str(n) for n in range(4, 50, 5)]
    assert {(s.meta["part"], s.kind, s.gold) for s in found} == {("Plane Geometry", "choice", "D")}
    assert found[0].images == (str(tmp_path / "4.png"),)
    tsv = tmp_path / "MathVerse_MINI_Vision_Only.tsv"
    rows = [vision_only(n, metadata=str(vision_only(n)["metadata"]), index=n) for n in range(4, 50, 5)]
    lines = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
    tsv.write_text("".join("\t".join(line) + "\n" for line in lines))
    pq.write_table(pa.Table.from_pylist([vision_only(n) for n in range(4, 50, 5)]), tmp_path / "testmini.parquet")
    for other in (tsv, tmp_path / "testmini.parquet"):
        assert [(s.id, s.meta, s.question) for s in samples(mathverse.BOARD, other)] == [
            (s.id, s.meta, s.question) for s in found
        ]
    asked = {name: ask(found[0]).question for name, ask in mathverse.BOARD.prompts.items()}
    assert asked == {"leaderboard": "Reply.", "reasoning": "Reason."}


def test_files_of_mathverse_that_are_not_the_board(shared, tmp_path):
    text_only = shared / "data" / "mathverse" / "testmini_text_only.json"
    found = samples(mathverse.BOARD, text_only)
    assert len(found) == 788 and not any(s.images for s in found)
    assert {s.meta["part"] for s in found} == {
        f"Text Only: {p}" for p in ("Plane Geometry", "Solid Geometry", "Functions")
    }
    assert Counter(s.kind for s in found)["choice"] == 426
    assert mathverse.metric([score(s, True) for s in found])["problem_version"] == "Text Only"
    path = tmp_path / "rows.json"
    for rows, said in (
        (
            [vision_only(1, "Text Lite"), vision_only(2, "Text Only")],
            "no row with problem_version 'Vision Only', but 'Text",
        ),
        ([{"a": 1}], "but ''"),
        ([], "but none at all"),
    ):
        path.write_text(json.dumps(rows))
        with pytest.raises(UserError, match=said):
            list(mathverse.load(path))
    path.write_text(
        json.dumps([vision_only(1), vision_only(1), vision_only(2, answer=None), vision_only(3, metadata="{")])
    )
    assert [row.read.what for row in mathverse.load(path) if isinstance(row.read, UserError)] == [
        f"id '1' was already used in {path}:1", "row has no 'answer'", "'metadata' is no object",
    ]  # fmt: skip


@pytest.mark.parametrize("profile", ["leaderboard", "official"])
def test_mathverse_needs_a_judge_except_for_equal_extractions(profile):
    meta = {"question_for_eval": "How large is angle 1?"}
    sample = Sample("4", "mathverse", (), "Reply.", "D ", "choice", meta=meta)
    assert states(mathverse.BOARD, profile, [(sample, "D")]) == ["unparsed"]
    for extraction, want in (("D", "right"), ("Extracted Answer: D", "right"), ("null", "unparsed"), ("C", "unparsed")):
        assert states(mathverse.BOARD, profile, [(sample, "so D")], extraction) == [want]
    two_stages = mathverse.BOARD.profiles[profile]
    assert two_stages.extract and two_stages.grade
    assert mathverse.with_question(sample).question == "How large is angle 1?"


class FakeJudge:
    """Extracts what it is told to, and finds that answers mean the same where it is told to."""

    name = "fake"

    def __init__(self, reply: str | None, same: bool | None):
        self.reply, self.same, self.asked = reply, same, 0

    def extract(self, questions):
        self.asked += len(questions)
        return [self.reply] * len(questions)

    def grade(self, questions):
        self.asked += len(questions)
        return [self.same] * len(questions)


@pytest.mark.parametrize(
    ("reply", "same", "want", "asked"),
    [
        ("D", None, "right", 1),
        ("140", True, "right", 2),
        ("140", False, "wrong", 2),
        ("140", None, "judge_failed", 2),
        (None, True, "judge_failed", 1),
        ("", True, "unparsed", 1),
    ],
)
def test_two_stages_of_mathverse(monkeypatch, reply, same, want, asked):
    for name in ("ask_value", "ask_same"):
        monkeypatch.setattr(mathverse, name, lambda sample, text: f"{sample.question} {text}")
    sample = Sample("4", "m", (), "Reply.", "D", "choice", meta={"question_for_eval": "How large?"})
    judge = FakeJudge(reply, same)
    (got,) = grade(mathverse.BOARD.profiles["leaderboard"], [Response(sample, Trace("4", "m", "so 140"))], judge)
    assert (state(got.verdict), judge.asked) == (want, asked)
