"""Evaluations as files of other programs: what they must hold, and what is refused in words."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from seethink.cli import main
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, Verdict
from seethink.core.store import DataRow, save_samples, write_json, write_jsonl
from seethink.data.config import ExportConfig
from seethink.evals import run as eval_run
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.boards import BOARDS
from seethink.evals.config import TASKS, EvalConfig
from seethink.evals.export import inspect as to_inspect
from seethink.evals.export.export import run
from seethink.evals.export.vlmevalkit import FAILED, TARGETS
from seethink.evals.files.records import read_records
from seethink.evals.metrics import right_share

HOSTILE = '=cmd|"/c calc"\t<script>alert(1)</script>\r\nline "two"\0 __import__("os")'


def board(name: Callable[[str, dict], str], gold: str = "answer") -> Board:
    """A board in small: items are right where the last word is the gold."""

    def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
        for file in sorted(path.glob("*/*.json")) if path.is_dir() else [path]:
            for where, key, row, images in read_records(file, pictures):
                sample = Sample(name(key or file.parent.name, row), "s", images, row["question"], row[gold], "math")
                yield DataRow(where, sample.id, Example(sample, ""))

    def read(sample: Sample, text: str) -> Reading | None:
        return Reading(text.split()[-1], "last word") if text.strip() else None

    def score(sample: Sample, answer: str) -> Verdict:
        return Verdict(answer == sample.gold, "equal")

    profiles = {"plain": Profile(read, per_item(score))}
    prompts = {"plain": asked_as(lambda sample: f"Asked: {sample.question}")}
    return Board("a board in small", load, profiles, prompts, right_share)


SMALL = {
    "mathvista": board(lambda key, row: str(row.get("pid") or row["index"])),
    "mathvision": board(lambda key, row: row["id"]),
    "mathverse": board(lambda key, row: row["sample_index"]),
    "dynamath": board(lambda key, row: f"{row['id']}/{key.removeprefix('trial')}"),
    "wemath": board(lambda key, row: f"{row['ID']}/{row['key']}"),
    "logicvista": board(lambda key, row: key),
}
META = {"task": "figure question answering", "skills": ["logical reasoning", "arithmetic"]}
FILES = {
    "mathvista": {
        "1": {"pid": "1", "question": "q1", "choices": ["yes", "no"], "answer": "no", "question_type": "multi_choice", "answer_type": "text", "metadata": META},
        "2": {"pid": "2", "question": "q2", "choices": None, "answer": "1.2", "question_type": "free_form", "answer_type": "float", "metadata": META},
    },
    "mathvision": [{"id": "7", "question": "q", "options": ["A", "B"], "answer": "B", "subject": "algebra"}],
    "mathverse": [{"sample_index": "5", "problem_index": "1", "problem_version": "Vision Only", "question": "q", "answer": "D", "question_type": "multi-choice", "question_for_eval": "full", "metadata": {"source": "It's", "subject": "Plane", "subfield": "Angle"}}],
    "wemath": [{"ID": "2steps_1", "key": "2steps_multi", "question": "q", "answer": "C"}],
    "logicvista": {"v1_3": {"question": "q", "answer": "A, C", "skill": ["inductive"]}},
}  # fmt: skip


def evaluated(folder: Path, task: str, data: object, texts: dict[str, str | None], monkeypatch, **more) -> Path:
    """The folder of an evaluation of predictions; an item without a text gets none."""
    monkeypatch.setitem(BOARDS, task, SMALL.get(task) or BOARDS[task])
    path = folder / f"{task}.json"
    if isinstance(data, Path):
        path = data
    else:
        write_json(path, data)
    write_jsonl(folder / "p.jsonl", ({"id": key, "text": text} for key, text in texts.items() if text is not None))
    config = EvalConfig(out=folder / "run", task=task, data=path, predictions=folder / "p.jsonl", **more)
    eval_run.run(config)
    return folder / "run"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def exported(data: Path, out: Path, form: str = "vlmevalkit", **more) -> Path:
    """What one export has written."""
    before = set(out.rglob("*")) if out.is_dir() else set()
    run(ExportConfig(data=data, format=form, out=out, **more))
    return out if out.is_file() else next(p for p in out.rglob("*") if p.is_file() and p not in before)


@pytest.mark.parametrize(
    ("task", "ids", "expected"),
    [
        ("mathvista", ["1", "2"], {"index": "1", "question": "Asked: q1", "choices": "['yes', 'no']", "answer": "no", "answer_option": "B", "task": META["task"], "skills": str(META["skills"])}),
        ("mathvision", ["7"], {"index": "7", "choices": "['A', 'B']", "answer": "B", "category": "algebra"}),
        ("mathverse", ["5"], {"index": "5", "question_for_eval": "full", "problem_version": "Vision Only"}),
        ("logicvista", ["v1_3"], {"index": "3", "answer": "A, C", "skill": "['inductive']"}),
    ],
)  # fmt: skip
def test_a_table_has_the_columns_that_are_read(task, ids, expected, tmp_path, monkeypatch):
    data = evaluated(tmp_path, task, FILES[task], dict.fromkeys(ids, "It is no"), monkeypatch, model="org/my model")
    path = exported(data, tmp_path / "out")
    assert path.name == f"org--my-model_{TARGETS[task][0]}.tsv" and path.parent.parent.name == "org--my-model"
    rows = table(path)
    assert {key: rows[0][key] for key in expected} == expected and [r["prediction"] for r in rows] == [
        "It is no"
    ] * len(ids)
    assert {"index", "question", *TARGETS[task][2]} <= rows[0].keys()
    if task == "mathverse":  # as it is read there: quotes exchanged, then JSON
        assert json.loads(rows[0]["metadata"].replace("'", '"'))["subject"] == "Plane"
    assert exported(data, path.parent / "mine.tsv").read_bytes() == path.read_bytes()


def test_variants_are_numbered_as_the_worst_case_is_looked_up(tmp_path, monkeypatch):
    rows = [
        {"id": str(n), "question": "q", "answer": "1", "answer_type": "float", "subject": "s", "level": "l"}
        for n in (1, 2)
    ]
    for variant in (1, 10):
        (tmp_path / "data" / f"trial{variant}").mkdir(parents=True)
        write_json(tmp_path / "data" / f"trial{variant}" / "dataset.json", rows)
    ids = {f"{q}/{v}": "1" for q in (1, 2) for v in (1, 10)}
    found = table(exported(evaluated(tmp_path, "dynamath", tmp_path / "data", ids, monkeypatch), tmp_path / "out"))
    places = {(int(r["qid"]), int(r["varid"])): int(r["index"]) for r in found}
    assert places == {(1, 1): 1, (2, 1): 2, (1, 10): 4510, (2, 10): 4511}
    assert found[0]["knowledge_level"] == "l"


def test_the_scored_part_is_the_prediction_and_text_stays_data(tmp_path, monkeypatch):
    texts = {"1": f"<think>x</think><answer>{HOSTILE}</answer>", "2": None}
    (row, other) = table(
        exported(evaluated(tmp_path, "mathvista", FILES["mathvista"], texts, monkeypatch), tmp_path / "out")
    )
    assert row["prediction"] == HOSTILE.replace("\0", "\ufffd").strip()
    assert other["prediction"] == FAILED


def test_a_text_that_a_table_would_take_for_none_stays_one(tmp_path, monkeypatch):
    texts = {"1": "<answer></answer>", "2": "None"}
    path = exported(evaluated(tmp_path, "mathvista", FILES["mathvista"], texts, monkeypatch), tmp_path / "out")
    assert [row["prediction"] for row in table(path)] == [" ", " None"]
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; what it reads is tested where it is")
    assert list(pandas.read_csv(path, sep="\t")["prediction"]) == [" ", " None"]


def test_its_own_table_is_passed_on_as_it_is(tmp_path, monkeypatch):
    """Also where the evaluation read another file: We-Math's answers are looked up by the index of that table."""
    run_folder = evaluated(tmp_path, "wemath", FILES["wemath"], {"2steps_1/2steps_multi": "C"}, monkeypatch)
    with pytest.raises(UserError, match=r"wemath.json:1: no column 'index'.*--table"):
        exported(run_folder, tmp_path / "out")
    header, row = "index\tID\tkey\tquestion\tanswer\thint\timage\n", "77\t2steps_1\t2steps_multi\ttheirs\tC\th\t\n"
    (tmp_path / "WeMath.tsv").write_text(header + row)
    (found,) = table(exported(run_folder, tmp_path / "out", table=tmp_path / "WeMath.tsv"))
    assert (found["index"], found["question"], found["hint"], found["prediction"]) == ("77", "theirs", "h", "C")
    (tmp_path / "Other.tsv").write_text(header + row.replace("C", "B"))
    with pytest.raises(UserError, match="1 of 1 items have other answers in this table"):
        exported(run_folder, tmp_path / "more", table=tmp_path / "Other.tsv")
    (tmp_path / "Other.tsv").write_text(header + row.replace("2steps_1", "2steps_9"))
    with pytest.raises(UserError, match="1 items are not in this table"):
        exported(run_folder, tmp_path / "more", table=tmp_path / "Other.tsv")


def test_what_can_be_no_export_is_refused(tmp_path, monkeypatch):
    texts = {"1": "no", "2": "1.2"}
    run_folder = evaluated(tmp_path, "mathvista", FILES["mathvista"], texts, monkeypatch)
    (tmp_path / "notes").mkdir()
    for data, what in (
        (tmp_path / "p.jsonl", "no folder of an evaluation"),
        (tmp_path / "notes", "holds no evaluation"),
    ):
        with pytest.raises(UserError, match=what):
            exported(data, tmp_path / "out")
    write_json(
        tmp_path / "mathvista.json", {**FILES["mathvista"], "1": {**FILES["mathvista"]["1"], "question": "other"}}
    )
    for form in ("vlmevalkit", "inspect"):
        with pytest.raises(UserError, match="not what it was when the evaluation read it"):
            exported(run_folder, tmp_path / "out", form)
    (tmp_path / "mathvista.json").unlink()
    with pytest.raises(UserError, match="not there any more"):
        exported(run_folder, tmp_path / "out", "inspect")
    (run_folder / "done.json").unlink()
    with pytest.raises(UserError, match="no finished evaluation"):
        exported(run_folder, tmp_path / "out")


def test_foreign_files_stay(tmp_path, monkeypatch):
    run_folder = evaluated(tmp_path, "mathvista", FILES["mathvista"], {"1": "no", "2": "1"}, monkeypatch)
    path = exported(run_folder, tmp_path / "out")
    assert exported(run_folder, path.parent.parent.parent / "x.tsv")
    path.write_text("mine")
    with pytest.raises(UserError, match="none that seethink writes"):
        run(ExportConfig(data=run_folder, format="vlmevalkit", out=tmp_path / "out"))
    assert path.read_text() == "mine"
    assert main(["export", "--data", str(run_folder), "--format", "inspect", "--out", str(run_folder)]) == 2


def test_settings_of_the_one_are_none_of_the_other():
    for wrong in (
        ["--format", "trl", "--task", "x"],
        ["--format", "inspect", "--table", "x"],
        ["--format", "inspect", "--system", "x"],
    ):
        with pytest.raises(UserError, match="setting|leave"):
            resolve(ExportConfig, ["--data", "d", "--out", "o", *wrong])


def own_rows(folder: Path, pictures: int = 1) -> Path:
    """A finished evaluation on rows of our own: right, wrong, unreadable, with a picture."""
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    images = (str(folder / "a.png"),) * pictures
    items = [Sample(str(n), "s", images, "How many?", "3", "digit") for n in range(4)]
    save_samples(folder / "board.jsonl", items)
    texts = ["<think>so</think><answer>3</answer>", "<think>so</think><answer>4</answer>", f"{HOSTILE}"]
    write_jsonl(folder / "p.jsonl", ({"id": str(n), "text": text} for n, text in enumerate(texts)))
    eval_run.run(EvalConfig(out=folder / "run", data=folder / "board.jsonl", predictions=folder / "p.jsonl"))
    return folder / "run"


def test_a_log_says_what_was_asked_and_why_it_is_scored_so(tmp_path):
    path = exported(own_rows(tmp_path), tmp_path / "logs", "inspect")
    log = json.loads(path.read_text())
    assert (log["version"], log["status"]) == (2, "success")
    first, _, third, last = log["samples"]
    scores = [next(iter(sample["scores"].values())) for sample in log["samples"]]
    assert [score["value"] for score in scores] == ["C", "I", "I", "N"]
    assert [(sample["id"], sample["epoch"], sample["target"]) for sample in log["samples"]] == [
        (str(n), 1, "3") for n in range(4)
    ]
    picture, question = first["input"][0]["content"]
    ((name, data),) = first["attachments"].items()
    assert picture["image"] == f"attachment://{name}" and data.startswith("data:image/png;base64,")
    assert question == {"type": "text", "text": "How many?"}
    assert (
        first["messages"][-1]["content"] == first["output"]["completion"]
        and "<answer>3" in first["output"]["completion"]
    )
    assert "right, decided by rule" in scores[0]["explanation"]
    assert third["output"]["completion"] == HOSTILE and scores[2]["metadata"]["reason"] == "no_format"
    assert (
        last["output"]["error"]
        and last["messages"] == last["input"]
        and scores[3]["metadata"]["reason"] == "no_response"
    )
    (result,) = log["results"]["scores"]
    assert (result["scored_samples"], result["unscored_samples"]) == (3, 1)
    assert result["metrics"]["right"]["value"] == 1 and "score" not in result["metrics"], (
        "no score while answers are missing"
    )
    assert (
        path.name[10:].startswith("T")
        and path.read_text() == exported(tmp_path / "run", tmp_path / "again.json", "inspect").read_text()
    )


def test_pictures_that_are_large_or_not_there_are_named(tmp_path, monkeypatch):
    run_folder = own_rows(tmp_path)
    monkeypatch.setattr(to_inspect, "PICTURE_BYTES", 10)
    text = exported(run_folder, tmp_path / "large.json", "inspect").read_text()
    assert "[picture a.png: left out for its size]" in text and "base64" not in text
    monkeypatch.setattr(to_inspect, "PICTURE_BYTES", 1 << 20)
    monkeypatch.setattr(to_inspect, "LOG_BYTES", 2 * (tmp_path / "a.png").stat().st_size)
    assert exported(run_folder, tmp_path / "some.json", "inspect").read_text().count("base64") == 2


def test_inspect_reads_the_log(tmp_path):
    log = pytest.importorskip(
        "inspect_ai.log", reason="inspect-ai is not installed; the structure is tested beside this"
    )
    path = exported(own_rows(tmp_path), tmp_path / "logs", "inspect")
    read = log.read_eval_log(str(path))
    assert [sample.scores["strict"].value for sample in read.samples] == ["C", "I", "I", "N"]
    log.write_eval_log(read, str(tmp_path / "again.json"))
    again = log.read_eval_log(str(tmp_path / "again.json"))
    outside = {"location", "etag"}
    assert again.model_dump(exclude=outside) == read.model_dump(exclude=outside)
    assert [Path(found.name).name for found in log.list_eval_logs(str(tmp_path / "logs"))] == [path.name]


def test_help_names_every_board():
    assert set(BOARDS) <= set(TASKS) and set(TARGETS) <= set(TASKS)


def test_a_board_of_real_files_goes_through(tmp_path, shared):
    """Of every board that is here: its published file, predictions that repeat the gold, the table read back."""
    files = {"mathvista": "mathvista/testmini.json", "mathvision": "mathvision/test.jsonl", "dynamath": "dynamath", "logicvista": "logicvista/dataset.json"}  # fmt: skip
    tried = [task for task in files if task in BOARDS]
    if not tried:
        pytest.skip("no board of the six is registered")
    for task in tried:
        folder, data = tmp_path / task, shared / "data" / files[task]
        rows = [row.read.sample for row in BOARDS[task].load(data, None) if isinstance(row.read, Example)]
        write_jsonl(folder / "p.jsonl", ({"id": s.id, "text": s.gold} for s in rows))
        eval_run.run(EvalConfig(out=folder / "run", task=task, data=data, predictions=folder / "p.jsonl"))
        found = table(exported(folder / "run", folder / "out"))
        assert [row["prediction"] for row in found] == [s.gold for s in rows]
        assert len({row["index"] for row in found}) == len(rows)
