"""MathVision: the scorers of its authors and of VLMEvalKit, against their own verdicts on real answers."""

from __future__ import annotations

import base64
import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.core.store import read_json, read_jsonl
from seethink.core.tables import read_table
from seethink.evals import run as eval_run
from seethink.evals.board import Response
from seethink.evals.boards.mathvision import BOARD
from seethink.evals.config import EvalConfig
from seethink.evals.rules.mathv_numbers import NoNumber, OverBudget
from seethink.evals.rules.mathv_text import answer_in, rounded, same
from seethink.evals.rules.mathv_value import value
from seethink.evals.rules.mathv_vlmevalkit import arithmetic, is_equal, latex
from seethink.evals.verdicts import grade, state

OFFICIAL, LEADERBOARD = BOARD.profiles["official"], BOARD.profiles["leaderboard"]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
)


def item(gold="60", options=(), **more) -> Sample:
    by_letter = dict(zip("ABCDE", options, strict=False))
    kind = "choice" if options else "math"
    return Sample("1", "mathvision", (), "q", gold, kind, tuple(options), meta={"options": by_letter, **more})


def verdict(profile, sample, text, extraction=None):
    response = Response(sample, Trace(sample.id, "m", text), extraction=extraction)
    return grade(profile, [response])[0].verdict


def samples(path):
    return {row.id: row.read.sample for row in BOARD.load(path)}


RUNS = (
    "Random-Chance", "Gemini-Pro-CoT", "Gemini-Pro", "Qwen-VL-Max", "Qwen-VL-Plus", "InternLM-XComposer2-VL", "LLaVA-v1.5-7B",
)  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_every_item_of_a_published_run_is_decided_as_the_authors_decide_it(shared, name):
    golden = read_json(shared / "golden" / "mathvision_official.json")["runs"]
    run = next(run for run in golden if run["file"].endswith(f"/{name}.jsonl"))
    items = samples(shared / "data" / "mathvision" / "test.jsonl")
    rows = [row for _, row in read_jsonl(shared / "data" / "mathvision" / "outputs" / f"{name}.jsonl")]
    responses = [Response(items[row["id"]], Trace(row["id"], "m", row["response"])) for row in rows]
    right = {r.sample.id for r, g in zip(responses, grade(OFFICIAL, responses), strict=True) if g.verdict.ok}
    rerun = {row["id"]: row["correct"] for row in rows} | {sample: now for sample, _, now, _ in run["flips"]}
    assert right == {name for name, correct in rerun.items() if correct}
    assert len(right) == run["official_rerun"]


def test_stored_answers_of_a_run_are_what_is_read_from_its_responses(shared):
    folder = shared / "data" / "mathvision" / "outputs"
    differ = [
        row["id"]
        for path in sorted(folder.glob("*.jsonl"))
        for _, row in read_jsonl(path)
        if answer_in(row["response"]) != row["model_answer"]
    ]
    assert differ == ["2394"]  # one of 21,280, which the authors' code of today reads in this way, too


def test_equality_of_vlmevalkit_on_real_pairs(shared):
    rows = read_json(shared / "golden" / "vlmevalkit_mathvision_is_equal.json")["rows"]
    assert [row for row in rows if is_equal(row["prediction"], row["answer"]) != row["expected"]] == []


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("60", "60"),
        ("So the answer is 60.", "60"),
        ("It is 1e5.", "1e5"),
        ("The answer is $\\frac{1}{2}$. Done.", "\\frac{1}{2}"),
        ("the final answer is (B)\nsince", "b"),
        ("We choose (C).", "c"),
        ("D\nbecause of this", "d"),
        ("(A) A\nbecause", "a"),
        ("First \\boxed{3}, then \\boxed{x = 4\\text{ cm}}", "4{cm}"),
        ("\\boxed{\\frac{3}{4}}", "\\frac{3}{4}"),
        ("$\\boxed{12 \\text{ units}}$", "12"),
        ("\\boxed{\\sqrt3}", "\\sqrt{3}"),
        ("\\boxed{\\sqrt2+\\frac12}", "\\sqrt{2}+\\frac{1}{2}"),
        ("\\boxed{\\frac12}", "\\frac12"),  # repaired beside a root only
        ("\\boxed{72^\\circ}", "72"),
        ("\\boxed{3/4}", "\\frac{3}{4}"),
        ("\\boxed{.5}", "\\frac{1}{2}"),
        ("\\boxed{45\\%}", "45"),
        ("\\boxed{\\approx 7 km}", "7"),
        ("3 \\approx 4 \\approx 5", "5"),
        ("", ""),
        ("\\boxed{}", "\\boxed"),
    ],
)
def test_answer_is_taken_from_a_response_in_the_authors_steps(response, answer):
    assert answer_in(response) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("60", 60),
        ("2.0", 2),
        ("0.125", 0.12),  # the even neighbour, as Python rounds
        ("1,234.5", 1234.5),
        ("4/2", 2.0),
        ("3:4", 0.75),
        ("1:3:9", 0.04),
        ("\\frac{1}{3}", 0.33),
        ("2\\frac{1}{2}", 1.0),
        ("5-4-3-2-1", -5),
        ("-2^2", -4),
        ("2--3", 5),
        ("2^{3}^{2}", 64),
        ("2\\sqrt{3}", 3.46),
        ("\\sqrt[3]{8}", 2.0),
        ("3\\pi", 9.42),
        ("$8 \\sqrt{2}$", 11.31),
        ("(\\sqrt{2}-1)^{2}", 0.17),
        ("e^2", 7.39),
        ("e^{0}", 1),
        ("\\sin(30)", -0.99),
        ("\\sin30/2", 0.65),
        ("\\tan^{-1}(1)", 0.79),
        ("\\sin^2(3)", 0.02),
        ("\\log_2(8)", 3.0),
        ("\\log100", 2.0),
        ("5!", 120),
        ("5!^2", 120),
        ("\\binom{5}{2}", 10),
        ("{5\\choose 2}", 10),
        ("(5)_{2}", 20.0),
        ("\\lfloor2.5\\rfloor", 2),
        ("50\\%", 0.5),
        ("12'", 12),
        ("3<4", 1),
        ("x=3", 3),
        ("3)", 3),
        ("3.5.2", 0.7),
        ("1101_{2}", 1101),
        ("5tr", 5),
        ("12ones", 12),
        ("3\\to4", 3),
        ("2^3_{4}", 8),
    ],
)
def test_number_is_that_of_the_longest_leading_part_which_is_understood(text, number):
    found = value(text)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "e", "3cm", "12m", "2 h", "3°", "50%", "€5", "|3|", "\\ln2", "\\infty", "1,2", "(1,2)", "3(", "3+", "3!=3", "3;4",
        "\\frac12", "\\frac{1}{0}", "\\sqrt{-1}", "(-8)^{0.5}", "e^1", "3|", "\\{1,2\\}", "90^{\\circ}", "2^-1", "\\sqrt3", "3x=6",
        "\\begin{pmatrix}1\\end{pmatrix}", "10.5^{400}", "3.5!", "(-3)!", "\\overline{3}", "[1", "1" * 5000,
    ],
)  # fmt: skip
def test_no_number_where_the_original_ends_in_an_error(text):
    with pytest.raises(NoNumber):
        value(text)


@pytest.mark.parametrize(
    "text",
    [
        "10^{10^{10}}", "9^9^9^9^9^9", "9999!", "170!!", "1" + "+1" * 600, "(" * 500 + "1" + ")" * 500, "\\sin" * 60 + "1",
        "\\binom{10^{4000}}{2000}", "2^{40000}^{2}", "(9999)_{2}",
    ],
)  # fmt: skip
def test_what_is_too_large_is_undecided(text):
    with pytest.raises(OverBudget):
        value(text)
    assert verdict(OFFICIAL, item("7"), f"\\boxed{{{text}}}").ok is not True


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("0.333", "\\frac{1}{3}", True),
        ("0.34", "\\frac{1}{3}", False),
        ("(3,-4)", "(3, -4)", True),
        ("(2.0,1)", "(2,1)", True),
        ("(4/2,1)", "(2,1)", False),
        ("[\\sqrt{2},1]", "[1.41,1]", True),
        ("(a,1)", "(a,1.0)", True),
        ("(b,1)", "(b,1.0)", False),
        ("12 ", "12", True),
        (" ", " ", False),
        ("A", "a", True),
        ("9.42", "$3 \\pi$", True),
    ],
)
def test_equality_of_the_authors(answer, gold, equal):
    assert same(answer, gold) is equal


def test_tuple_whose_elements_are_not_all_numbers_stays_as_it_is():
    assert rounded("(1/3,x)") == "(1/3,x)"
    assert rounded("(1/3,\\infty)") == "(0.33,\\infty)"
    assert rounded("(" + "1" * 4000 + "^2,1)") == "(" + "1" * 4000 + "^2,1)"  # more digits than Python prints


@pytest.mark.parametrize(
    ("text", "ok"),
    [("(D)", True), ("The answer is 24.", True), ("\\boxed{24}", True), ("23", False), ("(B)", False), ("E", False)],
)
def test_official_compares_with_the_letter_and_with_the_option(text, ok):
    assert verdict(OFFICIAL, item("D", ("9", "11", "14", "$2 \\cdot 4 \\cdot 3$", "3")), text).ok is ok


def test_stored_extraction_is_scored_as_it_is():
    assert verdict(OFFICIAL, item("60"), "no idea", extraction="60").ok
    assert verdict(OFFICIAL, item("60"), "60", extraction="The answer is 60").ok is False
    assert state(verdict(OFFICIAL, item("60"), "60", extraction="")) == "unparsed"
    assert verdict(LEADERBOARD, item("B", ("1", "2")), "no idea", extraction="B").ok


@pytest.mark.parametrize(
    ("sample", "text", "ok"),
    [
        (item("60"), " 60 ", True),
        (item("0.8"), "\\boxed{4/5}", True),
        (item("\\frac{4}{5}"), "0.8", True),
        (item("60"), "The answer is 60.", None),  # for a judge
        (item("60"), "61", None),
        (item("\\frac{1}{2}"), "\\boxed{\\frac{1}{2}}", True),
        (item("B", ("red", "blue")), "The answer is B", True),
        (item("B", ("red", "blue")), "It is red.", False),
        (item("B", ("red", "blue")), "It is red or blue.", None),
    ],
)
def test_leaderboard_reads_letters_and_right_values_and_leaves_the_rest(sample, text, ok):
    assert verdict(LEADERBOARD, sample, text).ok is ok


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("$80", "80", True), ("1/2", "0.5", True), ("2**3", "8", True), ("2\\frac{1}{2}", "5/2", True), ("5 4", "9", True),
        ("72^\\circ", "72", True), ("50%", "1/2", True), ("\\text{810}", "810", True), ("The answer is \\boxed{3}.", "3", True),
        ("\\boxed{3} or \\boxed{4}", "3", False), ("{3}", "3", False), ("3)", "3", False), ("3.46410162", "2\\sqrt{3}", False),
        ("3 cm", "3", False), ("1,234", "1234", True), ("\\frac{1}{3}", "$\\frac{3^{1008}-1}{3^{1009}}$", True),
        ("0.3333333", "1/3", True), ("007", "7", True), ("2(3)", "5", True), ("3!", "6", False), ("1:2", "0.5", True),
    ],
)  # fmt: skip
def test_equality_of_vlmevalkit(answer, gold, equal):
    assert is_equal(answer, gold) is equal


def test_nothing_of_a_text_is_run(tmp_path):
    mark = tmp_path / "run"
    for text in (
        f"__import__('pathlib').Path('{mark}').touch()",
        f"\\boxed{{open('{mark}','w')}}",
        "exit()",
        "()" * 50,
    ):
        for profile in (OFFICIAL, LEADERBOARD):
            assert verdict(profile, item("7"), text).ok is not True
        for read in (arithmetic, latex, value):
            with pytest.raises((NoNumber, OverBudget)):
                read(text)
    assert not mark.exists()


@pytest.mark.parametrize(
    "part", ["(", "\\boxed{", "1+", "is ", "oxed{}", "\\frac", "\\sqrt", "1,", "(1)_{", " ", "}", "the answer is", "9^"]
)
def test_a_megabyte_of_anything_is_decided_or_not_but_never_right(part):
    text = part * (1_000_000 // len(part))
    for profile in (OFFICIAL, LEADERBOARD):
        for sample in (item("7"), item("B", ("1", "2"))):
            assert verdict(profile, sample, f"{text}1").ok is not True
            assert verdict(profile, sample, f"\\boxed{{({text})}}").ok is not True


ROW = {"id": "7", "question": "Which?\n<image1>", "options": ["x", "y"], "answer": "B", "level": 3, "subject": "logic", "image": "images/7.jpg"}  # fmt: skip


def test_items_of_the_published_splits(shared):
    folder = shared / "data" / "mathvision"
    items = samples(folder / "test.jsonl")
    assert len(items) == 3040
    assert sum(s.kind == "choice" for s in items.values()) == 1532
    assert len(samples(folder / "testmini.jsonl")) == 304
    assert items["15"].choices[0] == "Wednesday"
    assert (items["15"].gold, items["15"].meta["part"], items["15"].meta["level"]) == ("A", "arithmetic", "2")
    assert items["1"].images == (str(folder / "images" / "1.jpg"),)
    assert "<image1>" in items["1"].question


def test_the_three_containers_hold_the_same_item(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps(ROW) + "\n")
    with open(tmp_path / "MathVision.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["index", "image", "question", "choices", "answer", "category"])
        writer.writerow(["7", base64.b64encode(PIXEL * 4).decode(), ROW["question"], "['x', 'y']", "B", "logic"])
    row = {**ROW, "decoded_image": {"bytes": PIXEL, "path": None}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "test.parquet")
    found = [
        next(iter(BOARD.load(tmp_path / name, tmp_path / "images"))).read.sample
        for name in ("test.jsonl", "MathVision.tsv", "test.parquet")
    ]
    assert len({(s.id, s.question, s.gold, s.choices, s.kind, s.meta["part"]) for s in found}) == 1
    assert all(len(s.images) == 1 for s in found)


@pytest.mark.parametrize(
    "change", [{"answer": "C"}, {"answer": None}, {"question": ""}, {"options": "nothing"}, {"options": [1]}]
)
def test_a_bad_row_is_named_in_its_place(tmp_path, change):
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({**ROW, **change}) + "\n" + json.dumps(ROW) + "\n")
    bad, good = BOARD.load(path)
    assert isinstance(bad.read, UserError)
    assert f"{path}:1" in str(bad.read)
    assert good.read.sample.gold == "B"


def test_prompts_ask_in_several_ways():
    assert list(BOARD.prompts) == ["leaderboard", "official", "direct", "reasoning"]
    assert list(BOARD.profiles) == ["leaderboard", "official", "strict"]
    sample = item("B", ("x", "y"))
    texts = {name: ask(sample).question for name, ask in BOARD.prompts.items()}
    assert len(set(texts.values())) == 4
    assert all("(B) y" in text and text.count("(A) x") == 1 for text in texts.values())
    assert "\\boxed{}" in texts["official"]
    listed = item("B", ("x", "y"))
    object.__setattr__(listed, "question", "Hint: a letter\nQuestion: q\nChoices:\n(A) x\n(B) y")
    assert BOARD.prompts["leaderboard"](listed).question == listed.question


def test_predictions_are_scored_into_a_table(tmp_path):
    rows = [{**ROW, "id": "7"}, {**ROW, "id": "8", "options": [], "answer": "\\frac{1}{3}"}, {**ROW, "id": "9"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [("7", "The answer is (B)."), ("8", "\\boxed{0.33}"), ("9", "(A)")]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in said))
    config = EvalConfig(
        out=tmp_path / "out",
        task="mathvision",
        data=tmp_path / "test.jsonl",
        predictions=tmp_path / "p.jsonl",
        profile="official",
    )
    summary = eval_run.run(config)
    assert summary is not None
    assert (summary["n"], summary["right"], summary["wrong"], summary["complete"]) == (3, 2, 1, False)
    assert summary["score"] == pytest.approx(200 / 3)
    table = read_table(tmp_path / "out" / "scores.parquet")
    assert [row["status"] for row in table] == ["right", "right", "wrong"]
    assert [row["answer"] for row in table] == ["b", "0.33", "a"]
