"""A judge measured on known verdicts: the figures by hand-made tables, the verb through an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seethink.cli import main
from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace, Verdict
from seethink.core.store import read_json, write_json, write_jsonl
from seethink.core.tables import read_table, write_table
from seethink.evals.board import Grade, Response
from seethink.evals.config import JudgeCheckConfig
from seethink.evals.judge.check import Known, kappa, measures, plain, run
from tests.fake_api import FakeApi, last_text

CHOICES = ["red", "green", "blue"]
ITEMS = [
    {"id": "a", "question": "Colour?", "gold": "B", "response": "the answer is green", "right": True, "choices": CHOICES, "extraction": "(b)"},
    {"id": "b", "question": "Colour?", "gold": "B", "response": "the answer is A", "right": False, "choices": CHOICES, "extraction": "A"},
    {"id": "c", "question": "How many?", "gold": "5", "response": "the answer is 5", "right": True},
    {"id": "d", "question": "How many?", "gold": "5", "response": "the answer is five", "right": True},
    {"id": "e", "question": "How many?", "gold": "5", "response": "the answer is six", "right": False},
    {"id": "f", "question": "Which?", "gold": "A, C", "response": "the answer is C and A", "right": True, "form": "letters"},
    {"id": "g", "question": "Which?", "gold": "A", "response": "no idea | <b>", "right": False, "form": "letters", "extraction": "zzzzz"},
]  # fmt: skip


def referee(body) -> str:
    """Finds what stands after `is`, knows one number by its name, and takes `six` for the gold."""
    text = last_text(body).partition("Now the item that counts.")[2]
    if body["response_format"]["json_schema"]["name"] == "same":
        return json.dumps({"same": "\nfive\n" in text or "\nsix\n" in text})
    said = text.partition("answer is ")[2].partition("\n")[0]
    return json.dumps({"answer": {"green": "B", "C and A": "C, A"}.get(said, said) or None})


def settings(tmp_path: Path, api: FakeApi, items=ITEMS, **more) -> JudgeCheckConfig:
    path = more.pop("path", None)
    if path is None:
        write_jsonl(path := tmp_path / "items.jsonl", items)
    judge = {"url": api.base_url, "model": "referee", "key_env": "NO_SUCH_KEY", "seconds": 20, **more.pop("judge", {})}
    return build(JudgeCheckConfig, {"out": tmp_path / "run", "items": path, "judge": judge, **more})


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ((20, 5, 10, 15), 0.4),  # agreement 0.7, by chance 0.5
        ((45, 15, 25, 15), 0.13043478260869565),  # 0.6, by chance 0.54
        ((25, 35, 5, 35), 0.25925925925925924),  # 0.6, by chance 0.46
        ((10, 0, 0, 10), 1.0),
        ((0, 10, 10, 0), -1.0),
        ((10, 0, 0, 0), None),  # chance alone agrees always
        ((0, 0, 0, 0), None),
    ],
)
def test_kappa(table, expected):
    assert kappa(*table) == (expected if expected is None else pytest.approx(expected))


def test_measures_of_a_table():
    """Known right: 6 called right, 2 wrong. Known wrong: 1 called right, 8 not (one of them without an answer). 3 unusable."""
    answers = (
        [(True, Verdict(True, "j"))] * 6 + [(True, Verdict(False, "j"))] * 2 + [(False, Verdict(True, "j"))]
        + [(False, Verdict(False, "j"))] * 7 + [(False, Verdict(None, "j", "refusal"))] + [(True, Verdict(None, "j", "grader_failed"))] * 3
    )  # fmt: skip
    sample = Sample("1", "s", (), "q", "A", "choice")
    items = [Known(Response(sample, Trace("1", "", "t")), right, "A") for right, _ in answers]
    found = measures(items, [Grade(verdict, "(a)" if verdict.ok else "B") for _, verdict in answers])
    assert [found[name] for name in ("items", "unusable", "no_answer_found")] == [20, 3, 1]
    assert [found[name] for name in ("right_right", "right_wrong", "wrong_right", "wrong_wrong")] == [6, 2, 1, 8]
    assert found["agreement"] == pytest.approx(1400 / 17) and found["false_positives"] == pytest.approx(100 / 9)
    assert found["false_negatives"] == 25.0 and found["extraction_agreement"] == pytest.approx(700 / 17)
    low, high = found["agreement_interval"]
    assert (low, high) == pytest.approx((58.97, 93.81), abs=0.01)  # Wilson, 14 of 17
    chance = (8 * 7 + 9 * 10) / 17**2
    assert found["kappa"] == pytest.approx((14 / 17 - chance) / (1 - chance))


def test_without_items_nothing_is_a_number():
    found = measures([], [])
    assert found["agreement"] is None and found["kappa"] is None and found["false_positives_interval"] is None


@pytest.mark.parametrize(
    ("a", "b", "same"), [("(A)", "a", True), ("A, C", "ac", True), ("zzzzz", "", True), ("1,200", "1200", True), ("5", "6", False)]
)  # fmt: skip
def test_how_answers_are_compared(a, b, same):
    assert (plain(a) == plain(b)) is same


def test_the_verb(tmp_path, capsys):
    with FakeApi(answer=referee) as api:
        config = settings(tmp_path, api, judge={"price": (1.0, 1.0)})
        found = run(config)
        calls = len(api.bodies)
        assert run(config) == found and len(api.bodies) == calls == 9, "seven to find answers, two to compare them"
    assert found and [found[name] for name in ("right_right", "right_wrong", "wrong_right", "wrong_wrong")] == [
        4,
        0,
        1,
        2,
    ]
    assert (found["unusable"], found["no_answer_found"]) == (0, 1)
    assert found["false_positives"] == pytest.approx(100 / 3) and found["false_negatives"] == 0.0
    assert (found["extractions_known"], found["extraction_agreement"]) == (3, 100.0)
    assert found["calls"] == 9 and found["usd"] > 0 and found["prompt_tokens"] > 9
    (row,) = read_table(tmp_path / "run" / "disagreements.parquet")
    assert (row["id"], row["known"], row["judged"], row["answer"]) == ("e", "wrong", "right", "six")
    assert "| e | wrong | right | 5 | six |" in (tmp_path / "run" / "judge_check.md").read_text()
    assert read_json(tmp_path / "run" / "done.json")["summary"] == found
    assert "agrees on 85.7 %" in capsys.readouterr().out


def test_unusable_replies_are_counted_apart_and_asked_again(tmp_path):
    bad = lambda body: "rubbish" if "idea" in last_text(body) or "is A" in last_text(body) else referee(body)  # noqa: E731
    with FakeApi(answer=bad) as api:
        found = run(settings(tmp_path, api))
        assert found and (found["unusable"], found["right_right"], found["wrong_wrong"]) == (2, 4, 0)
        rows = read_table(tmp_path / "run" / "disagreements.parquet")
        assert [(r["id"], r["reason"]) for r in rows] == [("b", "grader_failed"), ("e", ""), ("g", "grader_failed")]
        assert r"no idea \| \<b\>" in (tmp_path / "run" / "judge_check.md").read_text()
        asked = len(api.bodies)
        api.answer = referee
        found = run(settings(tmp_path, api))
        assert found and found["unusable"] == 0 and len(api.bodies) == asked + 2


def test_a_judge_that_says_nothing_is_not_measured(tmp_path):
    with FakeApi(answer=lambda body: "rubbish") as api:
        with pytest.raises(UserError, match="no usable reply on any of 7 items") as error:
            run(settings(tmp_path, api))
        assert error.value.code == 3 and not (tmp_path / "run" / "done.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"right": None}, "not complete"), ({"right": "yes"}, "'right' is a text"), ({"gold": ""}, "not complete"), ({"response": 3}, "'response'"),
        ({"choices": "abc"}, "choices is not"), ({"form": "number"}, "no form"), ({"extraction": 3}, "'extraction'"),
    ],
)  # fmt: skip
def test_bad_items_are_named(tmp_path, change, words):
    with FakeApi() as api, pytest.raises(UserError, match=words) as error:
        run(settings(tmp_path, api, items=[ITEMS[0], {**ITEMS[1], **change}]))
    assert str(error.value.where).endswith("items.jsonl:2") and not api.bodies


def test_no_items_and_no_judge(tmp_path):
    with FakeApi() as api:
        with pytest.raises(UserError, match="no items"):
            run(settings(tmp_path, api, items=[]))
        with pytest.raises(UserError, match="no judge"):
            run(settings(tmp_path, api, judge={"url": ""}))
        assert run(settings(tmp_path, api), dry_run=True) is None and not (tmp_path / "run").exists()


def evaluation(folder: Path, **row) -> Path:
    """The folder of a small evaluation on GeoQA: two decided rows, one undecided."""
    write_jsonl(folder / "test_answers.jsonl", [{"question_id": n, "text": gold} for n, gold in enumerate("BCA")])
    texts = [{"question_id": n, "text": f"Question: number {n}?", "image": "0.png"} for n in range(3)]
    write_jsonl(folder / "test_questions.jsonl", texts)
    write_json(folder / "config.json", {"task": "geoqa", "data": str(folder / "test_answers.jsonl"), "profile": ""})
    rows = [
        {"sample_id": "0", "status": "right", "text": "the answer is B", "answer": "B"},
        {"sample_id": "1", "status": "wrong", "text": "the answer is A", "answer": "A"},
        {"sample_id": "2", "status": "unparsed", "text": "?", "answer": None},
    ]
    write_table(folder / "scores.parquet", [{**r, "stop": "stop", "tokens": 1, **row} for r in rows])
    return folder / "scores.parquet"


def test_decided_rows_of_an_evaluation_are_items(tmp_path, capsys):
    with FakeApi(answer=referee) as api:
        where = ["--items", str(evaluation(tmp_path)), "--out", str(tmp_path / "run")]
        assert main(["eval", "judge-check", *where, "--judge.url", api.base_url, "--judge.model", "r", "--json"]) == 0
        assert len(api.bodies) == 2 and any("number 0?" in last_text(body) for body in api.bodies)
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"], found["kappa"], found["extraction_agreement"]) == (100.0, 1.0, 100.0)


def test_scores_without_their_folder_or_data_are_refused(tmp_path):
    path = evaluation(tmp_path)
    with FakeApi() as api:
        write_jsonl(tmp_path / "test_answers.jsonl", [{"question_id": 7, "text": "B"}])
        with pytest.raises(UserError, match="'0' is not in"):
            run(settings(tmp_path, api, path=path))
        write_json(tmp_path / "config.json", {"task": "nothing"})
        with pytest.raises(UserError, match="not the scores of an evaluation"):
            run(settings(tmp_path, api, path=path))


def test_published_extractions_as_a_judge(tmp_path, shared):
    """Real answers of LogicVista: whoever reads them as published agrees with all published verdicts; one who always says A,
    as often as `A` alone would be right."""
    runs = read_json(shared / "golden" / "logicvista_official.json")["models"]
    asked = read_json(shared / "data" / "logicvista" / "dataset.json")
    (rows,) = (run["items"] for run in runs if run["model"] == "LLAVA13B")
    items, replies = [], {}
    for row in rows:
        if not any(row["truth"]):
            continue
        question, said = asked[row["id"]]["question"].strip(), ", ".join(row["extracted"])
        replies[question, row["raw"]] = said
        texts = {"question": question, "gold": ", ".join(row["truth"]), "response": row["raw"], "extraction": said}
        items.append({"id": row["id"], **texts, "right": bool(row["match"]), "form": "letters"})

    def published(body) -> str:
        item = last_text(body).partition("Now the item that counts.\n\nQuestion: ")[2]
        question, _, rest = item.partition("\n\nResponse:\n")
        response = rest.partition("\n")[2].rpartition("\n=== ")[0]
        return json.dumps({"answer": replies[question, response]})

    with FakeApi(answer=published) as api:
        found = run(settings(tmp_path / "all", api, items=items))
    assert found and (found["items"], found["unusable"], found["agreement"], found["kappa"]) == (447, 0, 100.0, 1.0)
    assert found["right_right"] == sum(item["right"] for item in items) and found["extraction_agreement"] == 100.0
    with FakeApi(answer=lambda body: '{"answer": "A"}') as api:
        found = run(settings(tmp_path / "one", api, items=items))
    assert found and found["right_right"] + found["wrong_right"] == sum(item["gold"] == "a" for item in items)
    assert found["kappa"] < 0.5 < found["right_wrong"]
