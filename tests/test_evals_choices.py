"""Boards of choices: MathVista, LogicVista, GeoQA, and the rules that read a letter."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Trace
from seethink.core.tables import read_table
from seethink.evals import run as eval_run
from seethink.evals.board import Response
from seethink.evals.boards import BOARDS, geoqa, logicvista, mathvista
from seethink.evals.config import EvalConfig
from seethink.evals.rules.nearest import distance, nearest
from seethink.evals.rules.options import can_infer, lettered
from seethink.evals.verdicts import grade


def items(board, path):
    return {row.id: row.read.sample for row in board.load(path) if isinstance(row.read, Example)}


def answered(samples, texts, extractions=None):
    """Responses to the items named by `texts`."""
    extractions = extractions or {}
    return [Response(samples[i], Trace(i, "m", text), extraction=extractions.get(i)) for i, text in texts.items()]


def evaluated(tmp_path, task, data, rows, profile):
    """(summary, scores by id) of a file of predictions, scored as the command does."""
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = EvalConfig(out=tmp_path / "out", task=task, data=data, predictions=predictions, profile=profile)
    summary = eval_run.run(config)
    return summary, {row["sample_id"]: row for row in read_table(tmp_path / "out/scores.parquet")}


# Option letters.


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("The answer is (B) No.", ["yes", "no"], "B"),
        ("I'm sorry, but without the image provided I cannot say", ["yes", "no"], "Z"),
        ("Z", ["yes", "no"], "Z"),
        ("Failed to obtain answer via API.", ["fail", "pass"], None),
        ("(A) or (B)", ["x", "y"], None),
        ("B is what I would choose of them all", ["x", "y"], None),  # named too far from the end
        ("Of A and B, the answer is **a** I think", ["x", "y"], "A"),
        ("Of A and B, the answer is based on what I see", ["x", "y"], "B"),  # as the original
        ("Of A and B, the answer is D", ["x", "y"], None),
        ("so it is increasing", ["increasing", "decreasing"], "A"),
        ("so it is increasing, after all that was said about it here", ["rising", "falling"], None),
        ("yes and no", ["yes", "no"], None),
        ("", ["yes", "no"], None),
    ],
)
def test_can_infer(text, options, letter):
    assert can_infer(text, lettered(options)) == letter


def test_can_infer_as_vlmevalkit_does(shared):
    rows = json.loads((shared / "golden/vlmevalkit_can_infer.json").read_text())["rows"]
    assert len(rows) == 690
    differ = [
        r["pid"] for r in rows if can_infer(r["response"], lettered(list(map(str, r["choices"])))) != r["expected"]
    ]
    assert differ == []


@pytest.mark.parametrize("text", ["answer " * 150_000, "answer is " + " *" * 500_000, "A " * 500_000, "(" * 10**6])
def test_a_long_text_is_bounded(text):
    assert can_infer(text, lettered(["yes", "no"])) in ("A", None)
    assert nearest(text, lettered(["yes", "no"])) in ("yes", "no")


@given(st.text("abc é", max_size=70), st.text("abc é", max_size=90))
def test_distance_is_that_of_the_table(one, other):
    row = list(range(len(one) + 1))
    for j, b in enumerate(other, 1):
        above, row[0] = row[0], j
        for i, a in enumerate(one, 1):
            above, row[i] = row[i], min(row[i] + 1, row[i - 1] + 1, above + (a != b))
    assert distance(one, other) == row[-1]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("(B) 3", "40"),
        ("(b)", "40"),
        ("B", "40"),
        ("b", "4"),  # a small letter alone is no letter
        ("4O0", "40"),
        ("(x)", "4"),  # no such option: the nearest to X, the first of those at one distance
        (" A ", "4"),
    ],
)
def test_nearest_option(answer, text):
    assert nearest(answer, lettered(["4", "40"])) == text


# MathVista.


@pytest.fixture(scope="module")
def vista(shared):
    return items(mathvista.BOARD, shared / "data/mathvista/testmini.json")


def test_mathvista_runs_as_published(shared, vista):
    """Both scorers on eleven runs: the authors' code of today, VLMEvalKit's without a judge and with stored replies."""
    official, leaderboard = (mathvista.BOARD.profiles[name] for name in ("official", "leaderboard"))
    runs = json.loads((shared / "golden/mathvista.json").read_text())["runs"]
    for run in runs:
        rows = json.loads((shared / "data/mathvista/results" / run["file"].rpartition("/")[2]).read_text())
        texts = {pid: row["response"] for pid, row in rows.items()}
        stored = {pid: row.get("extraction") or "" for pid, row in rows.items()}
        grades = grade(official, answered(vista, texts, stored))
        assert sum(g.verdict.ok is True for g in grades) == run["official_code_now_correct"], run["file"]
        assert sum(g.verdict.ok is None for g in grades) == sum(not e.strip() for e in stored.values())
        by_rules = grade(leaderboard, answered(vista, texts))
        read = {pid: g for pid, g in zip(texts, by_rules, strict=True) if g.answer}
        later = grade(leaderboard, answered(vista, {p: t for p, t in texts.items() if p not in read}, stored))
        right = sum(g.verdict.ok is True for g in by_rules)
        expected = run["vlmevalkit"]
        assert len(read) == expected["prefetch_hits_the_rule"]
        assert right == expected["correct_prefetch_only"]
        assert (
            right + sum(g.verdict.ok is True for g in later) == expected["correct_prefetch_then_stored_gpt4_extraction"]
        )


def test_a_dead_judge_never_chooses_the_nearest_option(shared, tmp_path):
    data = shared / "data/mathvista/testmini.json"
    rows = [{"id": str(i), "text": "Let me see.", "extraction": ""} for i in range(1, 1001)]
    summary, _ = evaluated(tmp_path, "mathvista", data, rows, "official")
    assert (summary["unparsed"], summary["right"], summary["score"]) == (1000, 0, 0.0)


def test_mathvista_predictions(shared, tmp_path):
    data = shared / "data/mathvista/testmini.json"
    rows = json.loads((shared / "data/mathvista/results/output_claude.json").read_text())
    predictions = [{"id": i, "text": r["response"], "extraction": r["extraction"]} for i, r in rows.items()]
    summary, scores = evaluated(tmp_path, "mathvista", data, predictions, "official")
    assert (summary["n"], summary["right"], round(summary["score"], 9)) == (1000, 264, 26.4)
    assert summary["complete"] and set(scores) == set(rows)
    assert {i for i, score in scores.items() if score["ok"]} == {i for i, r in rows.items() if r["true_false"]}


def vista_item(**more):
    row = {
        "question": "q",
        "image": "images/1.jpg",
        "answer": "7",
        "answer_type": "integer",
        "question_type": "free_form",
    }
    return {**row, "choices": None, "metadata": {"task": "t", "grade": "college"}, **more}


def one(tmp_path, **more):
    file = tmp_path / "testmini.json"
    file.write_text(json.dumps({"1": {**vista_item(**more), "pid": "1"}}))
    (row,) = mathvista.load(file)
    return row.read.sample


LETTERS = {"question_type": "multi_choice", "answer_type": "text", "choices": ["4", "40"], "answer": "40"}


@pytest.mark.parametrize(
    ("item", "profile", "text", "extraction", "ok", "answer"),
    [
        ({}, "official", "7", None, True, "7"),
        ({}, "official", "It is 7", None, None, None),
        ({}, "official", "x", "7.9", True, "7.9"),
        ({}, "official", "x", "seven", False, "seven"),
        ({}, "official", "7", "", None, ""),
        ({}, "official", "x", "1e400", False, "1e400"),
        ({}, "official", "9" * 10**6, None, None, None),
        ({"answer": "-3"}, "official", "-3", None, True, "-3"),
        ({"answer": "1.2", "answer_type": "float", "precision": 1.0}, "official", "x", "1.234", True, "1.234"),
        ({"answer": "1.2", "answer_type": "float", "precision": 1.0}, "official", "1.2", None, True, "1.2"),
        ({"answer": "[1, 2]", "answer_type": "list"}, "official", "x", "[1, 2]", True, "[1, 2]"),
        (LETTERS, "official", "40", None, True, "40"),
        (LETTERS, "official", "B", None, None, None),  # only a whole option is read without a judge
        (LETTERS, "official", "x", "B", True, "B"),
        ({}, "leaderboard", "7", None, True, "7"),
        ({}, "leaderboard", "8", None, None, None),  # a number that is not the answer is left to a judge
        ({"answer": "0"}, "leaderboard", "0", None, None, None),  # as the original
        ({}, "leaderboard", "x", "7.0", None, "7.0"),
        ({"answer": "1.2", "answer_type": "float", "precision": 1.0}, "leaderboard", "x", "1.23", False, "1.23"),
        ({"answer": "[1, 2]", "answer_type": "list"}, "leaderboard", "x", "[1, 2]", False, "[1, 2]"),
        (LETTERS, "leaderboard", "I choose (A).", None, False, "A"),
        (LETTERS, "leaderboard", "Cannot determine the answer", None, False, "Z"),
    ],
)
def test_mathvista_profiles(tmp_path, item, profile, text, extraction, ok, answer):
    sample = one(tmp_path, **item)
    (found,) = grade(
        mathvista.BOARD.profiles[profile], [Response(sample, Trace("1", "m", text), extraction=extraction)]
    )
    assert (found.verdict.ok, found.answer) == (ok, answer)


def test_mathvista_in_other_files(tmp_path, vista):
    """The table of VLMEvalKit and the parquet of Hugging Face give the items of the authors' file."""
    chosen = next(s for s in vista.values() if s.kind == "choice")
    free = next(s for s in vista.values() if s.meta.get("precision") == 2)
    options = list(chosen.meta["options"].values())
    query = f"Hint: a letter.\nQuestion: {chosen.question}\nChoices:\n(A) x"
    hint = f"Hint: a number with two decimal places.\nQuestion: {free.question}"
    with open(tmp_path / "MathVista_MINI.tsv", "w", newline="") as f:
        table = csv.writer(f, delimiter="\t")
        columns = "index image question choices answer answer_option question_type answer_type task skills"
        table.writerow(columns.split())
        task = chosen.meta["part"]
        table.writerow([chosen.id, "", query, str(options), options[0], "A", "multi_choice", "text", task, "['s']"])
        table.writerow([free.id, "", hint, "", free.gold, "", "free_form", "float", task, "['s']"])
    first, second = (row.read.sample for row in mathvista.load(tmp_path / "MathVista_MINI.tsv"))
    assert (first.id, first.question, first.meta["options"], first.gold) == (
        chosen.id, chosen.question, chosen.meta["options"], "A",
    )  # fmt: skip
    assert (second.gold, second.meta["precision"], second.question) == (free.gold, 2, free.question)
    assert mathvista.BOARD.prompts["leaderboard"](first).question == query
    rows = [
        {**vista_item(pid="1", precision=None, query="Hint: q"), "decoded_image": {"bytes": b"\x89PNG1", "path": None}},
        {
            **vista_item(pid="2", answer="1.5", answer_type="float", precision=1.0, query="Hint: r"),
            "decoded_image": None,
        },
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "testmini-00000.parquet")
    first, second = (row.read.sample for row in mathvista.load(tmp_path, tmp_path / "pictures"))
    assert first.images[0].endswith(".png") and second.images == (str(tmp_path / "images/1.jpg"),)
    assert (first.kind, first.meta["level"], second.meta["precision"]) == ("math", "college", 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"answer": ""},
        {"answer_type": "poem"},
        {**LETTERS, "choices": "__import__('os').system('x')"},
        {**LETTERS, "choices": "[" * 9_000},
        {**LETTERS, "answer": "41"},
    ],
)
def test_a_row_that_is_no_item_is_named(tmp_path, wrong):
    file = tmp_path / "testmini.json"
    file.write_text(json.dumps({"9": vista_item(**wrong)}))
    (row,) = mathvista.load(file)
    assert isinstance(row.read, UserError) and row.id == "9" and "testmini.json:9" in row.where


# LogicVista.


def test_logicvista_as_published(shared, tmp_path):
    data = shared / "data/logicvista/dataset.json"
    for model in json.loads((shared / "golden/logicvista_official.json").read_text())["models"]:
        rows = [{"id": r["id"], "text": r["raw"], "extraction": ", ".join(r["extracted"])} for r in model["items"]]
        folder = tmp_path / model["model"]
        folder.mkdir()
        summary, scores = evaluated(folder, "logicvista", data, rows, "official")
        assert (summary["n"], summary["right"]) == (447, model["correct"])
        match = {r["id"]: bool(r["match"]) for r in model["items"] if r["id"] in scores}
        assert match == {name: score["ok"] is True for name, score in scores.items()}
        assert {s: c["correct"] for s, c in model["by_skill"].items()} == {
            skill: sum(s["part"] == skill and s["ok"] is True for s in scores.values()) for skill in logicvista.SKILLS
        }
        assert list(summary["left_out"]) == ["v1_382"] and summary["complete"]


@pytest.mark.parametrize(
    ("profile", "gold", "extraction", "ok"),
    [
        ("official", "A, C", "c, a", True),
        ("official", "A, C", "a", False),
        ("official", "A", "zzzzz", None),
        ("official", "A", "", None),
        ("official", "3", "3", True),
        ("leaderboard", "A, C", "CA", True),
        ("leaderboard", "A, C", "A, C", True),
        ("leaderboard", "A", "a", None),
        ("leaderboard", "A", "Z", False),
        ("leaderboard", "3", "3", None),
        ("strict", "A, C", "A and C", True),
        ("strict", "A, C", "A", False),
        ("strict", "3", "three", True),
    ],
)
def test_logicvista_profiles(tmp_path, profile, gold, extraction, ok):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"v1_0": {"imagename": "0.png", "question": "q", "answer": gold, "skill": ["spatial"]}}))
    sample = items(logicvista.BOARD, file)["v1_0"]
    assert sample.images == (str(tmp_path / "images/0.png"),)
    (found,) = grade(
        logicvista.BOARD.profiles[profile], answered({"v1_0": sample}, {"v1_0": "x"}, {"v1_0": extraction})
    )
    assert found.verdict.ok is ok


def test_logicvista_text_is_left_to_a_judge(shared):
    samples = items(logicvista.BOARD, shared / "data/logicvista/dataset.json")
    (found,) = grade(logicvista.BOARD.profiles["official"], answered(samples, {"v1_0": "?"}))
    assert (found.verdict.ok, found.answer) == (None, "zzzzz")
    (found,) = grade(logicvista.BOARD.profiles["official"], answered(samples, {"v1_0": "It is C"}))
    assert (found.verdict.ok, found.answer) == (None, None)


# GeoQA.


def test_geoqa_as_published(shared, tmp_path):
    folder = shared / "data/geoqa_gllava"
    golden = json.loads((shared / "golden/geoqa_gllava.json").read_text())
    answers = [json.loads(line) for line in (folder / "Gllava-test_merged.jsonl").read_text().splitlines()]
    rows = [{"id": a["question_id"], "text": a["text"]} for a in answers]
    summary, scores = evaluated(tmp_path, "geoqa", folder / "test_answers.jsonl", rows, "official")
    assert (summary["n"], summary["right"], summary["unparsed"]) == (754, 484, 1)
    assert [scores[str(a["question_id"])]["answer"] for a in answers] == golden["extracted"]


def test_geoqa_questions_stand_beside_the_answers(shared, tmp_path):
    samples = items(geoqa.BOARD, shared / "data/geoqa_gllava/test_answers.jsonl")
    assert samples["0"].meta["options"] == {"A": "40°", "B": "60°", "C": "120°", "D": "140°"}
    alone = tmp_path / "test_answers.jsonl"
    alone.write_text(
        '{"question_id": 0, "text": "D"}\n{"question_id": "1", "text": "C"}\n{"question_id": 2, "text": ""}\n'
    )
    kinds = [isinstance(row.read, UserError) for row in geoqa.load(alone)]
    assert kinds == [False, True, True]
    with pytest.raises(UserError, match="test_questions"):
        list(geoqa.load(alone, tmp_path / "pictures"))


# All three.


def test_prompts(vista, shared):
    boards = {
        "mathvista": vista["2"],
        "logicvista": items(logicvista.BOARD, shared / "data/logicvista/dataset.json")["v1_0"],
        "geoqa": items(geoqa.BOARD, shared / "data/geoqa_gllava/test_answers.jsonl")["0"],
    }
    for name, sample in boards.items():
        asked = {prompt: ask(sample) for prompt, ask in BOARDS[name].prompts.items()}
        assert list(asked)[-3:] == ["official", "direct", "reasoning"]
        assert all(sample.question in one.question and not one.choices for one in asked.values())
        assert "step by step" in asked["reasoning"].question and "nothing else" in asked["direct"].question


@pytest.mark.parametrize("text", ["__import__('os').abort()", "(" * 10**6, "9" * 10**6, "is A" * 250_000, "10**10**10"])
@pytest.mark.parametrize("name", ["mathvista", "logicvista", "geoqa"])
def test_hostile_text_is_read_or_not(shared, vista, name, text):
    files = {"logicvista": "logicvista/dataset.json", "geoqa": "geoqa_gllava/test_answers.jsonl"}
    samples = vista if name == "mathvista" else items(BOARDS[name], shared / "data" / files[name])
    some = dict(list(samples.items())[:4])
    for profile in BOARDS[name].profiles.values():
        grades = grade(profile, answered(some, dict.fromkeys(some, text)))
        grades += grade(profile, answered(some, dict.fromkeys(some, "x"), dict.fromkeys(some, text)))
        assert not any(g.verdict.ok is True for g in grades) or "A" in text
