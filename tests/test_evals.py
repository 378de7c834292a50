"""Evaluation: what counts as right, what stays undecided, and that nothing is asked or computed twice."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.core.store import read_json, save_samples
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.evals import run as eval_run
from seethink.evals.board import Response
from seethink.evals.boards import BOARDS
from seethink.evals.config import EvalConfig
from seethink.evals.metrics import summarise
from seethink.pocket.build import build
from tests.fake_api import FakeApi, last_text

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"


def sample(kind="digit", gold="3", part="iid", **more) -> Sample:
    return Sample(
        id=more.pop("id", kind), source="s", images=(), question="q", gold=gold, kind=kind, meta={"part": part, **more}
    )


def graded(samples, traces):
    config = EvalConfig(out=Path("out"), model="m", data=Path("board.jsonl"))
    responses = [Response(s, trace) for s, trace in zip(samples, traces, strict=True)]
    return eval_run.graded(BOARDS["rows"], "strict", responses, config)


@pytest.mark.parametrize(
    ("item", "answer", "stop", "ok", "by"),
    [
        (sample(), "3", "stop", True, "rule"),
        (sample(), "4", "stop", False, "rule"),
        (sample(gold="many"), "3", "stop", None, "rule"),
        (sample(), "3", "error", None, "endpoint"),
        (sample("choice", "B"), "B", "stop", True, "rule"),
        (sample("math", "y = 2x + 1"), "y = 1 + 2x", "stop", True, "rule"),
        (
            sample("box", "(0, 0),( 40, 40)", coords="pixel", image_size=[112, 112]),
            "(0, 0),( 40, 24)",
            "stop",
            True,
            "rule",
        ),
        (
            sample("box", "(0, 0),( 40, 40)", coords="pixel", image_size=[112, 112]),
            "(0, 0),( 40, 16)",
            "stop",
            False,
            "rule",
        ),
        (sample("open", "red circle blue square"), "red circle blue square", "stop", True, "lexical"),
        (sample("open", "red circle blue square"), "green cross", "stop", False, "lexical"),
        (sample("open", " "), "green cross", "stop", None, "rule"),
    ],
)
def test_right_wrong_undecided_and_by_whom(item, answer, stop, ok, by):
    (score,) = graded([item], [Trace(item.id, "m", compose("so", answer), stop)])
    assert (score.ok, score.decided_by) == (ok, by) and (score.reward is None) == (ok is None)


def test_summary_counts_undecided_apart():
    items = [sample(id="a"), sample(id="b"), sample(id="c", gold="many"), sample(id="d", part="ood")]
    texts = [compose("so", "3"), compose("so", "4"), compose("so", "3"), "cut"]
    traces = [Trace(s.id, "m", t, "stop" if t != "cut" else "length") for s, t in zip(items, texts, strict=True)]
    summary = summarise(graded(items, traces))
    assert (summary["n"], summary["decided"], summary["unparsed"], summary["cut"]) == (4, 3, 1, 1)
    assert summary["accuracy"] == pytest.approx(1 / 3)
    assert summary["by_part"]["iid"]["accuracy"] == 0.5 and summary["by_part"]["ood"]["accuracy"] == 0.0


def test_endpoint_failures_stay_undecided_and_answers_are_kept(tmp_path):
    items = [sample(id=str(i)) for i in range(6)]
    items = [Sample(**{**{f: getattr(s, f) for f in s.__slots__}, "question": f"q{s.id}"}) for s in items]
    save_samples(tmp_path / "board.jsonl", items)

    def refuse(_, body):
        return "400" if "q0" in last_text(body) else None

    with FakeApi(answer=lambda body: compose("so", "3"), fault=refuse) as api:
        config = EvalConfig(out=tmp_path / "run", model="name", base_url=api.base_url, data=tmp_path / "board.jsonl")
        eval_run.run(config)
        assert len(api.bodies) == 6
        eval_run.run(config)
        assert [last_text(body) for body in api.bodies[6:]] == ["q0"], "the same command asks for what failed"
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert (summary["n"], summary["unparsed"], summary["accuracy"], summary["score"]) == (6, 1, 1.0, None)
    rows = {r["sample_id"]: r for r in read_table(tmp_path / "run" / "scores.parquet")}
    assert [(rows[i]["status"], rows[i]["reason"], rows[i]["decided_by"]) for i in "01"] == [
        ("unparsed", "no_response", "endpoint"), ("right", "", "rule")
    ]  # fmt: skip
    with FakeApi(answer=lambda body: compose("so", "3")) as api:
        for _ in range(2):
            eval_run.run(endpoint(tmp_path, api))
        assert len(api.bodies) == 1, "and what is answered stays so"
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert (summary["n"], summary["unparsed"], summary["failed"], summary["score"]) == (6, 0, 0, 100.0)


def test_an_endpoint_that_answers_nothing_is_no_evaluation(tmp_path):
    save_samples(tmp_path / "board.jsonl", [sample(id=str(i)) for i in range(3)])
    with FakeApi(fault=lambda n, body: "400") as api:
        for _ in range(2):
            with pytest.raises(UserError, match="answered none of 3 questions.*fault 400") as error:
                eval_run.run(endpoint(tmp_path, api))
    assert error.value.code == 3 and not (tmp_path / "run" / "done.json").exists()


def test_local_evaluation_resumes_to_equal_scores(tmp_path):
    build(tmp_path / "world", seed=3, sft=0, rl=0, board=24, ood=0)
    shared = dict(model=str(BASE), data=tmp_path / "world" / "board.jsonl", batch=8, max_tokens=64)
    eval_run.run(EvalConfig(out=tmp_path / "whole", **shared))
    cut = EvalConfig(out=tmp_path / "cut", **shared)
    eval_run.run(cut)
    responses = (tmp_path / "cut" / "responses.jsonl").read_text().splitlines()
    (tmp_path / "cut" / "responses.jsonl").write_text("\n".join(responses[:11]) + '\n{"sample_id": "bo')
    (tmp_path / "cut" / "done.json").unlink()
    eval_run.run(cut)
    drop = {"seconds"}
    tables = [
        [{k: v for k, v in r.items() if k not in drop} for r in read_table(tmp_path / n / "scores.parquet")]
        for n in ("cut", "whole")
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 24
    assert (
        len({json.loads(line)["sample_id"] for line in (tmp_path / "cut" / "responses.jsonl").read_text().splitlines()})
        == 24
    )


def test_empty_board_is_refused(tmp_path):
    (tmp_path / "board.jsonl").write_text("")
    with pytest.raises(UserError, match="no samples"):
        eval_run.run(EvalConfig(out=tmp_path / "run", model=str(BASE), data=tmp_path / "board.jsonl"))


def endpoint(tmp_path, api, **changes):
    shared = dict(out=tmp_path / "run", model="name", base_url=api.base_url, data=tmp_path / "board.jsonl")
    return EvalConfig(**{**shared, **changes})


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_address_counts_where_overwriting_is_asked_for(tmp_path, capsys, overwrite):
    """A model that has moved goes on; whoever says --overwrite means the endpoint that is named now."""
    save_samples(tmp_path / "board.jsonl", [sample()])
    with FakeApi(answer=lambda body: compose("so", "3")) as api:
        eval_run.run(endpoint(tmp_path, api))
        eval_run.run(endpoint(tmp_path, api, overwrite=overwrite))
        assert len(api.bodies) == 1 and "done before" in capsys.readouterr().out
    with FakeApi(answer=lambda body: compose("so", "4")) as api:
        eval_run.run(endpoint(tmp_path, api, overwrite=overwrite))
        assert len(api.bodies) == overwrite
    with FakeApi(fault=lambda n, body: "400") as api, pytest.raises(UserError) if overwrite else nullcontext():
        eval_run.run(endpoint(tmp_path, api, overwrite=overwrite))
    assert (tmp_path / "run" / "scores.parquet").exists() is not overwrite, "nor is an older result left behind"


def test_a_changed_picture_or_prompt_is_another_run(tmp_path, monkeypatch):
    """The address of the endpoint is not, nor a system.txt that happens to lie about."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    save_samples(tmp_path / "board.jsonl", [replace(sample(), images=(str(tmp_path / "a.png"),))])
    with FakeApi(answer=lambda body: compose("so", "3")) as api:
        eval_run.run(endpoint(tmp_path, api))
        assert [m["role"] for m in api.bodies[0]["messages"]] == ["user"]
    (tmp_path / "system.txt").write_text("Be brief.")
    with FakeApi() as api:
        eval_run.run(endpoint(tmp_path, api))
        with pytest.raises(UserError, match="system:  -> Be brief"):
            eval_run.run(endpoint(tmp_path, api, system="@system.txt"))
        Image.new("RGB", (4, 4), "white").save(tmp_path / "a.png")
        with pytest.raises(UserError, match="pictures"):
            eval_run.run(endpoint(tmp_path, api))
        assert not api.bodies


def test_a_model_folder_without_torch_is_one_line(tmp_path, monkeypatch):
    save_samples(tmp_path / "board.jsonl", [sample()])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="needs torch"):
        eval_run.run(EvalConfig(out=tmp_path / "run", model=str(BASE), data=tmp_path / "board.jsonl"))
    assert not (tmp_path / "run").exists()
