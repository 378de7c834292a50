"""DynaMath and We-Math, whose items belong together: published results reproduced, nothing missing passed over."""

from __future__ import annotations

import base64
import csv
import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score, Trace
from seethink.core.store import read_json, write_jsonl
from seethink.core.tables import read_table
from seethink.evals.board import Board, Response
from seethink.evals.boards import dynamath, wemath
from seethink.evals.boards.wemath import split_options
from seethink.evals.rules import dynamath as rules
from seethink.evals.verdicts import grade, state
from tests.fake_api import FakeApi


def samples(board: Board, path: Path) -> list[Sample]:
    found = [row.read for row in board.load(path, None)]
    assert not [fault for fault in found if isinstance(fault, UserError)]
    return [example.sample for example in found]


def score(sample: Sample, ok: bool | None) -> Score:
    meta = sample.meta
    status = {True: "right", False: "wrong", None: "unparsed"}[ok]
    return Score(
        "b", meta["part"], sample.id, sample.kind, ok, None, status, "", "", "stop", 1, 0.0, level=meta.get("level", ""),
        cluster=meta.get("cluster", ""),
    )  # fmt: skip


def states(board: Board, profile: str, pairs: list[tuple[Sample, str]], extraction: str | None = None) -> list[str]:
    responses = [Response(s, Trace(s.id, "m", text), extraction=extraction) for s, text in pairs]
    return [state(one.verdict) for one in grade(board.profiles[profile], responses)]


def eval_with(tmp_path: Path, task: str, data: Path, rows: list[dict], profile: str) -> tuple[dict, list[dict]]:
    write_jsonl(tmp_path / "p.jsonl", rows)
    out = tmp_path / "out"
    call = ["eval", "--task", task, "--data", str(data), "--predictions", str(tmp_path / "p.jsonl")]
    assert main([*call, "--profile", profile, "--out", str(out)]) == 0
    return read_json(out / "done.json")["summary"], read_table(out / "scores.parquet")


def ask(out: Path, task: str, data: Path, answer: str, *more: str) -> tuple[dict, int]:
    """Summary of an evaluation through an endpoint that always says the same, and how many pictures it was sent."""
    with FakeApi(answer=lambda body: answer) as api:
        call = ["eval", "--task", task, "--data", str(data), "--out", str(out), "--profile", "official", *more]
        assert main([*call, "--base_url", api.base_url, "--model", "name"]) == 0
        parts = [part for body in api.bodies for part in body["messages"][-1]["content"]]
    return read_json(out / "done.json")["summary"], sum(part["type"] == "image_url" for part in parts)


def test_real_pictures_are_asked_about_in_whole_groups(shared, tmp_path, capsys):
    data = shared / "data"
    summary, sent = ask(tmp_path / "w", "wemath", data / "wemath" / "testmini.json", "Answer: B", "--limit", "36")
    assert (sent, summary["problems"], summary["incomplete"], summary["n"]) == (36, 12, 0, 36)
    assert summary["score"] is not None and not summary["complete"]
    reply = '{"solution": "so", "short answer": "4"}'
    summary, sent = ask(tmp_path / "d", "dynamath", data / "dynamath", reply, "--limit", "120", "--skip_bad")
    assert summary["n"] == 48 and summary["questions"] == 12
    assert sent == 44, "four variants equal others, word for word and pixel for pixel, and are asked once"
    assert summary["score"] is None and "72 of (question, variant) missing" in summary["no_score"]
    assert 0 < summary["average"] < 100
    summary, sent = ask(tmp_path / "e", "dynamath", data / "dynamath", reply, "--limit", "4")
    assert sent == summary["n"] == 4 and summary["score"] is None
    call = [
        "eval",
        "--task",
        "dynamath",
        "--data",
        str(data / "dynamath"),
        "--limit",
        "5",
        "--out",
        str(tmp_path / "f"),
    ]
    assert main([*call, "--base_url", "http://127.0.0.1:9", "--model", "name"]) == 2
    assert "trial5/dataset.json:1" in capsys.readouterr().err


# DynaMath


def item(answer_type: str, gold: str, name: str = "1/1") -> Sample:
    kind = "choice" if answer_type == "multiple choice" else "math"
    meta = {"part": "algebra", "level": "high school", "cluster": name.partition("/")[0], "answer_type": answer_type}
    return Sample(name, "dynamath", (), "q", gold, kind, meta=meta)


def test_dynamath_is_all_there(shared):
    found = samples(dynamath.BOARD, shared / "data" / "dynamath")
    assert [s.id for s in found[:11]] == [*(f"1/{v}" for v in range(1, 11)), "2/1"]
    assert len(found) == len({s.id for s in found}) == 5010
    assert found == samples(dynamath.BOARD, shared / "data" / "dynamath" / "10trials")
    assert Counter(s.meta["answer_type"] for s in found) == {"float": 2960, "multiple choice": 1740, "text": 310}
    assert len({s.meta["part"] for s in found}) == 9 and "scientific figure" in {s.meta["part"] for s in found}
    (trial,) = {Path(s.images[0]).parents[1].name for s in found if s.id.endswith("/4")}
    assert trial == "trial4" and Path(found[3].images[0]).is_file()


@pytest.mark.parametrize("model", ["GPT4o", "Gemini1.5-Pro", "InternVL2-26b"])
def test_published_aggregates_of_dynamath(shared, model):
    known = {s.id: s for s in samples(dynamath.BOARD, shared / "data" / "dynamath")}
    scores = []
    with open(shared / "data" / "dynamath" / f"{model}-result.csv", encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            if row["Question ID"].startswith("Q"):
                for v in range(1, 11):
                    sample = known[f"{row['Question ID'][1:]}/{v}"]
                    scores.append(score(sample, row[f"Variant {v}"] == "correct"))
    golden = json.loads((shared / "golden" / "dynamath_aggregation.json").read_text())["models"]
    (want,) = [g for g in golden if g["model"].lower().replace("-", "") == model.lower().replace("-", "")]
    found = dynamath.metric(scores)
    assert "no_score" not in found and found["questions"] == want["n_questions"]
    assert found["score"] == pytest.approx(want["worst_percent"])
    assert found["average"] == pytest.approx(want["average_percent"])
    assert found["best"] == pytest.approx(want["best_percent"])
    assert found["score_interval"][0] < found["score"] < found["score_interval"][1]
    assert found["average_interval"][0] < found["average"] < found["average_interval"][1]
    for name, key in (("worst_by_part", "by_subject"), ("worst_by_level", "by_level")):
        got = {value: (row["questions"], row["average"], row["worst"]) for value, row in found[name].items()}
        assert got.keys() == want[key].keys()
        for value, row in want[key].items():
            assert got[value] == pytest.approx((row["n"], row["avg"], row["worst"]))


def test_no_worst_case_of_missing_or_doubled_variants():
    whole = [score(item("float", "1", f"{q}/{v}"), True) for q in (1, 2) for v in range(1, 11)]
    assert dynamath.metric(whole)["score"] == 100
    for scores, said in (
        (whole[:-1], "1 of (question, variant) missing, the first 2/10"),
        (whole[1:], "1 of (question, variant) missing, the first 1/1"),
        ([*whole, whole[3]], "1 of (question, variant) given more than once, the first 1/4"),
        ([s for s in whole if s.sample_id.endswith("/1")], "18 of (question, variant) missing, the first 1/2"),
    ):
        found = dynamath.metric(scores)
        assert found["score"] is found["score_interval"] is found["best"] is None and said in found["no_score"]
        assert found["average"] == 100 and found["worst_by_part"]["algebra"]["worst"] is None
    undecided = [replace(whole[0], ok=None), *whole[1:]]
    assert dynamath.metric(undecided)["score"] == 50 and dynamath.metric(undecided)["average"] == 95
    assert dynamath.metric([])["score"] is None


def test_rules_of_vlmevalkit_for_dynamath(shared):
    """All 267 but the two where an empty answer to a question of type text is right upstream: here it is no answer."""
    differing = []
    for row in json.loads((shared / "golden" / "vlmevalkit_dynamath_rules.json").read_text())["rows"]:
        sample, want = item(row["answer_type"], row["answer"]), row["expected"]
        (got,) = grade(dynamath.BOARD.profiles["leaderboard"], [Response(sample, Trace("1/1", "m", row["prediction"]))])
        expected = "unparsed" if not want["parse"] else "right" if want["correct"] else "wrong"
        if state(got.verdict) != expected:
            differing.append((row["note"], want, state(got.verdict)))
        elif want["parse"]:
            found = want["extracted"]
            assert rules.number(got.answer) == pytest.approx(found) if sample.meta["answer_type"] == "float" else True
            assert sample.kind != "choice" or found in got.answer.upper()
            assert sample.meta["answer_type"] != "text" or found == got.answer
    empty = {"parse": True, "extracted": "", "correct": True}
    assert differing == [("empty string passes", empty, "unparsed"), ("empty response", empty, "unparsed")]


@pytest.mark.parametrize(
    ("answer_type", "gold", "text", "leaderboard", "official"),
    [
        ("float", "2.0944", '{"short answer": 2.0944}', "unparsed", "right"),
        ("float", "2.0944", '{"short answer": "2.0955"}', "wrong", "wrong"),
        ("float", "2.0944", "2.0944", "right", "unparsed"),
        ("float", "6.2832", '{"short answer": "2\N{GREEK SMALL LETTER PI}"}', "right", "right"),
        ("float", "4", '{"solution": "a\nb", "short answer": "4 cm"}', "right", "right"),
        ("float", "4", '{"short answer": "nan"}', "wrong", "wrong"),
        ("float", "4", '{"short answer": "1e999"}', "wrong", "wrong"),
        ("float", "4", '{"short answer": "\N{SUPERSCRIPT TWO}"}', "unparsed", "unparsed"),
        ("float", "4", '{"short answer": true}', "unparsed", "unparsed"),
        ("float", "4", '["short answer", "4"]', "unparsed", "unparsed"),
        ("float", "4", '{"short answer": "10**10**10"}', "unparsed", "unparsed"),
        ("float", "4", '{"short answer": "__import__(\'os\')"}', "unparsed", "unparsed"),
        ("float", "4", '{"short answer": ' + "9" * 5000 + "}", "unparsed", "unparsed"),
        ("multiple choice", "B", '{"short answer": "b"}', "right", "wrong"),
        ("multiple choice", "B", '{"short answer": "(B) no"}', "right", "right"),
        ("multiple choice", "B", '{"short answer": "A or B"}', "unparsed", "wrong"),
        ("multiple choice", "F", '{"short answer": "F"}', "right", "right"),
        ("multiple choice", "B", 'so {x} ```json\n{"short answer": "B"}```', "unparsed", "unparsed"),
        ("multiple choice", "B", "<think>no</think><answer>B</answer>", "right", "unparsed"),
        ("text", "Cape Town", '{"short answer": "town"}', "right", "wrong"),
        ("text", "Cape Town", '{"short answer": "It is Cape Town."}', "wrong", "right"),
        ("text", "May", "", "unparsed", "unparsed"),
        ("text", "743", '{"short answer": 743}', "unparsed", "right"),
    ],
)
def test_the_profiles_of_dynamath_differ_as_their_originals_do(answer_type, gold, text, leaderboard, official):
    pair = [(item(answer_type, gold), text)]
    assert states(dynamath.BOARD, "leaderboard", pair) == [leaderboard]
    assert states(dynamath.BOARD, "official", pair) == [official]


@pytest.mark.parametrize(("profile", "rules_first"), [("leaderboard", True), ("official", False)])
def test_a_stored_extraction_stands_for_the_judge_or_for_the_whole_reading(profile, rules_first):
    for extraction, want in (("4.0004", "right"), ("5", "wrong"), ("", "unparsed")):
        read = [(item("float", "4"), '{"short answer": "4"}')]
        assert states(dynamath.BOARD, profile, read, extraction) == ["right" if rules_first else want]
        assert states(dynamath.BOARD, profile, [(item("float", "4"), "?")], extraction) == [want]


@pytest.mark.parametrize("profile", ["leaderboard", "official"])
@pytest.mark.parametrize(
    "text", ["{" * 1_000_000, "[" * 1_000_000, '{"a":' * 200_000, "9" * 1_000_000, '{"short answer": "' + "9" * 1_000_000 + '"}']
)  # fmt: skip
def test_a_megabyte_is_no_number(profile, text):
    assert states(dynamath.BOARD, profile, [(item("float", "4"), text)]) == ["unparsed"]


def test_dynamath_by_command(shared, tmp_path, capsys):
    golden = json.loads((shared / "golden" / "dynamath_aggregation.json").read_text())["models"][0]
    rows = []
    for sample in samples(dynamath.BOARD, shared / "data" / "dynamath"):
        question, variant = sample.id.split("/")
        right = golden["matrix"][f"Q{question}"][int(variant) - 1] == "1"
        wrong = {"float": "-99999", "multiple choice": "Z"}.get(sample.meta["answer_type"], "neither of them")
        reply = {"solution": "so", "short answer": sample.gold if right else wrong}
        rows.append({"id": sample.id, "text": json.dumps(reply)})
    summary, scores = eval_with(tmp_path, "dynamath", shared / "data" / "dynamath", rows, "official")
    assert (summary["n"], summary["right"], summary["wrong"]) == (5010, golden["correct_total"], 5010 - 3173)
    assert round(summary["score"], 2) == 34.73 and round(summary["average"], 2) == 63.33 and summary["complete"]
    assert {row["sample_id"] for row in scores} == {row["id"] for row in rows}
    capsys.readouterr()


def test_dynamath_from_a_table_and_from_shards(tmp_path):
    tsv, shard = tmp_path / "DynaMath.tsv", tmp_path / "data"
    lines = ["index\tqid\tvarid\timage\tquestion\tanswer\tanswer_type\tsubject\tknowledge_level"]
    lines += [
        f"{n}\t7\t{v}\tx.png\tHow many?\t{v}\tfloat\tsolid  geometry\thigh school" for n, v in enumerate((1, 2, 10))
    ]
    tsv.write_text("\n".join(lines) + "\n")
    shard.mkdir()
    for v in (1, 2, 10):
        row = {"id": 7, "question": "How many?", "ground_truth": str(v), "image": "x.png", "answer_type": "float"}
        row |= {"subject": "solid  geometry", "knowledge_level": "high school"}
        pq.write_table(pa.Table.from_pylist([row]), shard / f"sample_variant{v}-00000-of-00001.parquet")
    for path in (tsv, shard):
        found = samples(dynamath.BOARD, path)
        assert sorted((s.id, s.gold, s.meta["part"], s.meta["level"]) for s in found) == [
            (f"7/{v}", str(v), "solid geometry", "high school") for v in (1, 10, 2)
        ]
    tsv.write_text(
        "\n".join([*lines, lines[-1], "9\t7\t11\tx.png\tq\t1\tfloat\ta\tb", "9\t7\t3\tx.png\tq\tone\tfloat\ta\tb"])
    )
    faults = [row.read.what for row in dynamath.load(tsv) if isinstance(row.read, UserError)]
    assert (
        len(faults) == 3 and "already used" in faults[0] and "none of 1 to 10" in faults[1] and "no number" in faults[2]
    )


def test_what_is_asked_on_dynamath():
    asked = {name: [f(item(t, "1")) for t in ("float", "text")] for name, f in dynamath.BOARD.prompts.items()}
    for name in ("leaderboard", "official"):
        assert all('"short answer"' in s.question and '"solution"' in s.question for s in asked[name])
    assert asked["leaderboard"][0].question != asked["leaderboard"][1].question
    assert asked["direct"][0].question == "q" and asked["reasoning"][0].question.startswith("q\n")


# We-Math


@pytest.fixture(scope="module")
def wemath_golden() -> dict:
    path = Path(__file__).parents[2] / "shared" / "golden" / "wemath_official_synthetic.json"
    return {case["name"]: case for case in json.loads(path.read_text())["cases"]} if path.is_file() else {}


CASES = (
    "all_correct",
    "all_wrong",
    "sub_right_multi_wrong",
    "sub_wrong_multi_right",
    "mix_a",
    "mix_b",
    "mix_c_formats",
)


@pytest.mark.parametrize("name", CASES)
def test_official_scores_of_we_math(shared, wemath_golden, name):
    case = wemath_golden[name]
    by_id = {s.id: s for s in samples(wemath.BOARD, shared / "data" / "wemath" / "testmini.json")}
    raw = json.loads((shared / "data" / "wemath" / "testmini.json").read_text())
    asked = [by_id[f"{row['ID']}/{row['key']}"] for row in raw]
    responses = [Response(s, Trace(s.id, "m", text)) for s, text in zip(asked, case["responses"], strict=True)]
    grades = grade(wemath.BOARD.profiles["official"], responses)
    scores = [score(s, one.verdict.ok) for s, one in zip(asked, grades, strict=True)]
    found = wemath.metric(scores)
    assert found["problems"] == 525 and found["incomplete"] == 0
    if "error" in case:
        assert found["rm_rate"] is found["rm_rate_loose"] is None and found["score"] == found["score_loose"]
        assert found["score"] == {"all_wrong": 0, "sub_right_multi_wrong": 50}[name]
        return
    assert [one.answer for one in grades] == case["processed"]
    names = {"IK": "InsufficientKnowledge", "IG": "InadequateGeneralization", "CM": "CompleteMastery"}
    for kind, score_key in (("strict", "score"), ("loose", "score_loose")):
        title, table = kind.capitalize(), found["four_dimensions"][kind]
        assert f"{found[score_key]:.2f}%" == case["scores"][f"Score ({title})"]
        low, high = found[f"{score_key}_interval"]
        assert low <= found[score_key] <= high
        for short, long in names.items():
            assert f"{table[short]['percent']:.2f}% ({table[short]['n']})" == case["scores"][f"{long} ({title})"]
        assert f"{table['RM rate']:.2f}% ({table['RM']['n']})" == case["scores"][f"RoteMemorization ({title})"]
    steps = {"S1": "One-step(S1)", "S2": "Two-step(S2)", "S3": "Three-step(S3)"}
    assert {long: f"{found[short]:.2f}%" for short, long in steps.items()}.items() <= case["accuracy"].items()
    concepts = defaultdict(list)  # the rest are means over means of concepts, whose table stands beside the items
    for one in scores:
        concepts[one.part].append(one.ok is True)
    groups = defaultdict(list)
    for node in json.loads((shared / "data" / "wemath" / "knowledge_structure_nodes.json").read_text()):
        groups[node["root2"]].append(fmean(concepts[node["full node"].rpartition("_")[2]]))
    assert {root: f"{100 * fmean(means):.2f}%" for root, means in groups.items()}.items() <= case["accuracy"].items()


@pytest.mark.parametrize("name", ["mix_c_formats", "sub_right_multi_wrong"])
def test_we_math_by_command(shared, wemath_golden, tmp_path, capsys, name):
    raw = json.loads((shared / "data" / "wemath" / "testmini.json").read_text())
    case = wemath_golden[name]
    rows = [{"id": f"{r['ID']}/{r['key']}", "text": t} for r, t in zip(raw, case["responses"], strict=True)]
    summary, scores = eval_with(tmp_path, "wemath", shared / "data" / "wemath" / "testmini.json", rows, "official")
    assert summary["n"] == 1740 and sum(summary[s] for s in ("right", "wrong", "unparsed", "judge_failed")) == 1740
    assert {row["sample_id"] for row in scores} == {row["id"] for row in rows}
    if name == "mix_c_formats":
        assert summary["unparsed"] == case["processed"].count(None)
        assert (round(summary["score"], 2), round(summary["score_loose"], 2)) == (1.52, 5.14)
    else:
        assert summary["score"] == summary["score_loose"] == 50 and summary["rm_rate"] is None
    capsys.readouterr()


def steps_of(problem: str, n: int) -> list[Sample]:
    keys = [*(f"{n}steps_{i}" for i in range(1, n + 1)), f"{n}steps_multi"]
    levels = [*["1 step"] * n, f"{n} steps"]
    return [
        Sample(
            f"{problem}/{key}", "wemath", (), "q", "A", "choice", meta={"part": "p", "level": level, "cluster": problem}
        )
        for key, level in zip(keys, levels, strict=True)
    ]


def test_kinds_of_problems_by_hand():
    two, three = steps_of("a", 2), steps_of("b", 3)
    scores = [score(s, ok) for s, ok in zip(two + three, [True, False, True, True, True, True, None], strict=True)]
    found = wemath.metric(scores)
    assert (found["score"], found["score_loose"]) == (25, 75)  # a: rote, loosely mastered; b: not generalised
    assert (found["S1"], found["S2"], found["S3"]) == (80, 100, 0)
    assert found["rm_rate"] == 100 and found["rm_rate_loose"] == 0
    incomplete = wemath.metric(scores[:-1])
    assert (incomplete["problems"], incomplete["incomplete"], incomplete["score"]) == (1, 1, 0)
    for broken in (scores[:2], [*scores[:3], scores[0]]):
        assert wemath.metric(broken)["score"] is None and wemath.metric(broken)["no_score"]
    assert wemath.metric([])["score"] is None


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("A. 300, 400;B. 400, 300; C. 5", {"A": "300, 400", "B": "400, 300", "C": "5"}),
        ("A. \N{CIRCLED DIGIT ONE};B\N{FULLWIDTH FULL STOP}2;C. 3", {"A": "\N{CIRCLED DIGIT ONE}", "B": "2", "C": "3"}),
        (
            "A. up to ;C.; B. to B, then ;C.  ;C. No; D. x",
            {"A": "up to ;C.", "B": "to B, then ;C.", "C": "No", "D": "x"},
        ),
        ("A. 1; 3;B. 2; 3", {"A": "1; 3", "B": "2; 3"}),
        ("A. Yes.;C. No.; F. x", {"A": "Yes.", "C": "No.", "F": "x"}),
        ("nothing", {}),
        ("A." * 5, {"A": "A.A.A.A."}),
        (";A.;" * 100_000, {}),
    ],
)
def test_options_are_split(text, want):
    assert split_options(text) == want


def test_every_published_option_list_is_read(shared):
    found = samples(wemath.BOARD, shared / "data" / "wemath" / "testmini.json")
    letters = Counter("".join(s.meta["options"]) for s in found)
    assert letters == {"ABCDE": 1175, "ABCD": 559, "ABCDEF": 3, "ABCDEFG": 2, "ABCF": 1}
    assert all(s.gold in s.meta["options"] and all(s.meta["options"].values()) for s in found)
    assert Counter(s.meta["level"] for s in found) == {"1 step": 1215, "2 steps": 360, "3 steps": 165}
    assert [s.meta["cluster"] for s in found[:3]] == ["2steps_1"] * 3 and len({s.meta["cluster"] for s in found}) == 525
    assert sum(Path(s.images[0]).is_file() for s in found) == 60 and all(
        Path(s.images[0]).is_file() for s in found[:36]
    )


@pytest.mark.parametrize(
    ("text", "leaderboard", "official"),
    [
        ("<Thought process>: <<so>> <Answer>: <<C>>", "unparsed", "right"),
        ("The correct option is (C).", "right", "unparsed"),
        ("C", "right", "right"),
        ("<think>A</think><answer>C</answer>", "right", "unparsed"),
        ("Answer: 3000, 4000", "right", "unparsed"),
        ("B", "wrong", "wrong"),
        ("I cannot say.", "unparsed", "unparsed"),
        ("Z", "wrong", "unparsed"),
        ("Answer" * 100_000, "unparsed", "unparsed"),
    ],
)
def test_the_profiles_of_we_math(text, leaderboard, official):
    meta = {"options": {"A": "300, 400", "B": "400, 300", "C": "3000, 4000", "D": "4000, 3000"}}
    sample = Sample("2steps_1/2steps_1", "wemath", (), "q", "C", "choice", meta=meta)
    assert states(wemath.BOARD, "leaderboard", [(sample, text)]) == [leaderboard]
    assert states(wemath.BOARD, "official", [(sample, text)]) == [official]


def test_we_math_from_a_table_and_from_parquet(shared, tmp_path):
    raw = json.loads((shared / "data" / "wemath" / "testmini.json").read_text())[:4]
    want = samples(wemath.BOARD, shared / "data" / "wemath" / "testmini.json")
    by_id = {s.id: s for s in want}
    png = (shared / "data" / "wemath" / raw[0]["image_path"]).read_bytes()
    pq.write_table(
        pa.Table.from_pylist([{**r, "image_path": {"bytes": png, "path": r["image_path"]}} for r in raw]),
        tmp_path / "testmini.parquet",
    )
    names = ["index", "ID", "key", "question", "answer", "image", *"ABCDE", "knowledge concept", "hint"]
    with open(tmp_path / "WeMath.tsv", "w", newline="") as f:
        table = csv.writer(f, delimiter="\t")
        table.writerow(names)
        for n, row in enumerate(raw):
            options = split_options(row["option"])
            row = {**row, "index": n, "hint": "", **{letter: options.get(letter, "") for letter in "ABCDE"}}
            table.writerow([{**row, "image": base64.b64encode(png).decode()}[name] for name in names])
    for name in ("testmini.parquet", "WeMath.tsv"):
        found = [row.read.sample for row in wemath.load(tmp_path / name, tmp_path / "pictures")]
        assert [(s.id, s.gold, s.choices, s.meta) for s in found] == [
            (s.id, s.gold, s.choices, s.meta) for s in (by_id[f"{r['ID']}/{r['key']}"] for r in raw)
        ]
        assert all(Path(s.images[0]).read_bytes() == png for s in found)
    (tmp_path / "cut.json").write_text(
        json.dumps([{**raw[0], "key": "2steps_3"}, {**raw[1], "answer": "H"}, {"ID": "a"}])
    )
    assert [row.read.what for row in wemath.load(tmp_path / "cut.json")] == [
        "key '2steps_3' names no step", "answer 'H' is none of the options A, B, C, D, E", "row has no 'key'",
    ]  # fmt: skip


def test_what_is_asked_on_we_math(shared):
    first = samples(wemath.BOARD, shared / "data" / "wemath" / "testmini.json")[0]
    asked = {name: ask(first).question for name, ask in wemath.BOARD.prompts.items()}
    assert list(asked) == ["leaderboard", "official", "direct", "reasoning"]
    assert all(text.startswith(asked["leaderboard"]) for text in asked.values())
    assert asked["leaderboard"].endswith("\nD. 4000, 3000\nE. No correct answer") and "<Answer>" in asked["official"]
