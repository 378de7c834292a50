"""Evaluation: what counts as right, what stays undecided, and that nothing is asked or computed twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.core.store import read_json, save_samples
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.evals import run as eval_run
from seethink.evals.grade import grade, summarise
from seethink.evals.run import EvalConfig
from seethink.rewards import Rewarder
from tests.fake_api import FakeApi, last_text

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"


def sample(kind="digit", gold="3", part="iid", **more) -> Sample:
    return Sample(
        id=more.pop("id", kind), source="s", images=(), question="q", gold=gold, kind=kind, meta={"part": part, **more}
    )


@pytest.mark.parametrize(
    ("item", "answer", "stop", "ok"),
    [
        (sample(), "3", "stop", True),
        (sample(), "4", "stop", False),
        (sample(gold="many"), "3", "stop", None),
        (sample(), "3", "error", None),
        (sample("choice", "B"), "B", "stop", True),
        (sample("math", "y = 2x + 1"), "y = 1 + 2x", "stop", True),
        (sample("box", "(0, 0),( 40, 40)", coords="pixel", image_size=[112, 112]), "(0, 0),( 40, 24)", "stop", True),
        (sample("box", "(0, 0),( 40, 40)", coords="pixel", image_size=[112, 112]), "(0, 0),( 40, 16)", "stop", False),
        (sample("open", "red circle blue square"), "red circle blue square", "stop", True),
        (sample("open", "red circle blue square"), "green cross", "stop", False),
    ],
)
def test_right_wrong_undecided(item, answer, stop, ok):
    trace = Trace(item.id, "m", compose("so", answer), stop)
    assert grade("board", [item], [trace], [0.0], Rewarder())[0].ok is ok


def test_summary_counts_undecided_apart():
    items = [sample(id="a"), sample(id="b"), sample(id="c", gold="many"), sample(id="d", part="ood")]
    texts = [compose("so", "3"), compose("so", "4"), compose("so", "3"), "cut"]
    traces = [Trace(s.id, "m", t, "stop" if t != "cut" else "length") for s, t in zip(items, texts, strict=True)]
    summary = summarise(grade("board", items, traces, [0.0] * 4, Rewarder()))
    assert (summary["n"], summary["undecided"], summary["cut"]) == (3, 1, 1)
    assert summary["accuracy"] == pytest.approx(1 / 3)
    assert summary["by_part"]["iid"]["accuracy"] == 0.5 and summary["by_part"]["ood"]["accuracy"] == 0.0


def test_endpoint_failures_stay_undecided_and_answers_are_kept(tmp_path):
    items = [sample(id=str(i)) for i in range(6)]
    items = [Sample(**{**{f: getattr(s, f) for f in s.__slots__}, "question": f"q{s.id}"}) for s in items]
    save_samples(tmp_path / "board.jsonl", items)

    def refuse(_, body):
        return "400" if "q0" in last_text(body) else None

    with FakeApi(answer=lambda body: compose("so", "3"), fault=refuse) as api:
        config = EvalConfig(out=tmp_path / "run", model="name", base_url=api.base_url, board=tmp_path / "board.jsonl")
        eval_run.run(config)
        assert len(api.bodies) == 6
        eval_run.run(config)
        assert len(api.bodies) == 6, "the same command again asks nothing"
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert (summary["n"], summary["undecided"], summary["accuracy"]) == (5, 1, 1.0)
    statuses = {r["sample_id"]: r["status"] for r in read_table(tmp_path / "run" / "scores.parquet")}
    assert statuses["0"] == "no_response" and statuses["1"] == "ok"


def test_local_evaluation_resumes_to_equal_scores(tmp_path):
    from seethink.pocket.build import build

    build(tmp_path / "world", seed=3, sft=0, rl=0, board=24, ood=0)
    shared = dict(model=str(BASE), board=tmp_path / "world" / "board.jsonl", batch=8, max_tokens=64)
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
        eval_run.run(EvalConfig(out=tmp_path / "run", model="m", board=tmp_path / "board.jsonl"))
