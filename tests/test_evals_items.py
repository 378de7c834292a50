"""What is asked and what was answered elsewhere: prompts, previews, ids, pictures inside files, predictions, settings."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.run import read_log
from seethink.core.store import DataRow, save_samples, write_json, write_jsonl
from seethink.core.tags import compose
from seethink.evals import run as eval_run
from seethink.evals.answers import local as eval_local
from seethink.evals.answers.predictions import read_predictions
from seethink.evals.boards import BOARDS, rows
from seethink.evals.config import EvalConfig
from seethink.evals.files.records import read_records
from seethink.train.model.policy import EncodedPrompt, _expand_images, rope_positions
from seethink.train.rollout.sampler import LocalSampler
from seethink.train.rollout.vllm import Answer
from tests.fake_api import FakeApi, last_text
from tests.test_evals_answers import (  # noqa: F401
    asking,
    board,
    by_seed,
    local,
    picture,
    sent_pictures,
    summary_of,
    table,
    world,
)
from tests.tiny import plain_policy

CHOICE = Sample("c", "s", (), "Which one?", "B", "choice", choices=("red", "blue"))


# ---- prompts and previews


def test_a_template_is_a_prompt_and_is_named_by_its_hash(tmp_path):
    save_samples(tmp_path / "board.jsonl", [CHOICE])
    file = tmp_path / "ask.txt"
    file.write_text('Answer as {"answer": letter}.\n{question}\n{options}\nThink first.')
    with FakeApi(answer=lambda body: compose("so", "B")) as api:
        summary = eval_run.run(asking(tmp_path, api, prompt=f"@{file}"))
        asked = 'Answer as {"answer": letter}.\nWhich one?\nA. red\nB. blue\nThink first.'
        assert last_text(api.bodies[0]) == asked and summary["prompt"].startswith("template ")
        assert summary["score"] == 100.0
        file.rename(tmp_path / "moved.txt")
        assert eval_run.run(asking(tmp_path, api, prompt=f"@{tmp_path / 'moved.txt'}")) == summary
        (tmp_path / "moved.txt").write_text("{question} {options}")
        with pytest.raises(UserError, match="other settings or inputs"):
            eval_run.run(asking(tmp_path, api, prompt=f"@{tmp_path / 'moved.txt'}"))
        plain = eval_run.run(asking(tmp_path, api, out=tmp_path / "plain"))
        assert plain["dataset_hash"] == summary["dataset_hash"] and plain["prompt_hash"] != summary["prompt_hash"]


@pytest.mark.parametrize(
    ("text", "what"),
    [("{question} {choices}", "unknown placeholder {choices}"), ("What?", "no {question}"), (None, "file not found")],
)
def test_a_template_that_cannot_be_meant_is_refused(tmp_path, text, what):
    save_samples(tmp_path / "board.jsonl", [CHOICE])
    if text is not None:
        (tmp_path / "ask.txt").write_text(text)
    with FakeApi() as api, pytest.raises(UserError) as error:
        eval_run.run(asking(tmp_path, api, prompt=f"@{tmp_path / 'ask.txt'}"))
    assert what in str(error.value) and not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be_asked_and_does_nothing(tmp_path, capsys):
    board(tmp_path, 5, (100, 10))
    with FakeApi() as api:
        more = dict(price=(1.0, 2.0), max_tokens=1000, samples=4, temperature=1.0, max_pixels=1020, limit=4)
        assert eval_run.run(asking(tmp_path, api, judge={"url": api.base_url, "model": "j"}, **more), True) is None
        assert not api.bodies and not (tmp_path / "run").exists()
    said = capsys.readouterr().out
    for words in (
        "4 items of", "at most 16 calls to name (4 per item), at most 1000 tokens each", "[image]question 0",
        "4 pictures (own), pixel budget: at most 1020, which 1 do not keep as they are", "calls to the judge j", "no system prompt",
    ):  # fmt: skip
        assert words in said
    usd = float(said.partition("answers cost at most ")[2].split()[0])
    assert usd == pytest.approx((16 * 1000 * 2 + 16 * (1.5 * 1102 + 100)) / 1e6, abs=0.01)


# ---- items


def twice(path: Path, pictures: Path | None) -> Iterator[DataRow]:
    for at, name in ((1, "a"), (2, "b"), (3, "a")):
        yield DataRow(f"{path}:{at}", name, Example(replace(CHOICE, id=name), ""))


def in_file(path: Path, pictures: Path | None) -> Iterator[DataRow]:
    for where, _, row, images in read_records(path, pictures):
        yield DataRow(
            where, row["index"], Example(Sample(row["index"], "s", images, row["question"], "3", "digit"), "")
        )


def test_an_id_stands_for_one_item_on_every_board(tmp_path, monkeypatch):
    monkeypatch.setitem(BOARDS, "geoqa", replace(rows.BOARD, load=twice))
    (tmp_path / "board.jsonl").write_text("")
    with FakeApi() as api, pytest.raises(UserError, match="id 'a' was already used in .*:1"):
        eval_run.run(asking(tmp_path, api, task="geoqa"))


def test_pictures_inside_a_file_survive_an_overwritten_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(BOARDS, "geoqa", replace(rows.BOARD, load=in_file))
    png = Path(picture(tmp_path / "own.png", (30, 20), 1)).read_bytes()
    data = base64.b64encode(png).decode()
    (tmp_path / "board.tsv").write_text(f"index\tquestion\timage\n1\tquestion 1\t{data}\n2\tquestion 2\t1\n")
    with FakeApi(answer=by_seed) as api:
        shared = dict(task="geoqa", data=tmp_path / "board.tsv")
        eval_run.run(asking(tmp_path, api, **shared), True)
        assert not (tmp_path / "run").exists()
        eval_run.run(asking(tmp_path, api, **shared))
        eval_run.run(asking(tmp_path, api, overwrite=True, max_tokens=7, **shared))
        assert len(api.bodies) == 4 and all(sent_pictures(b) == [png] for b in api.bodies)


# ---- predictions


def predict(folder: Path, *predictions: dict, **changes) -> dict:
    """The summary of a board of two items, both 3, scored with these predictions."""
    if not (folder / "board.jsonl").exists():
        save_samples(folder / "board.jsonl", [Sample(i, "s", (), f"q{i}", "3", "digit") for i in "01"])
    write_jsonl(folder / "p.jsonl", predictions)
    settings = dict(out=folder / "run", data=folder / "board.jsonl", predictions=folder / "p.jsonl", overwrite=True)
    summary = eval_run.run(EvalConfig(**{**settings, **changes}))
    assert summary and summary["n"] == sum(summary[s] for s in ("right", "wrong", "unparsed", "judge_failed"))
    return summary


RIGHT, WRONG = compose("so", "3"), compose("so", "4")


def test_predictions_of_several_draws(tmp_path):
    lines = [{"id": i, "text": t, "draw": d} for i in (0, 1) for d, t in enumerate((RIGHT, WRONG if i else RIGHT))]
    summary = predict(tmp_path, *reversed(lines))
    assert (summary["samples"], summary["n"], summary["pass@1"], summary["pass@2"]) == (2, 4, 75.0, 100.0)
    assert [r["draw"] for r in table(tmp_path / "run")] == [0, 1, 0, 1]
    assert summary["max_tokens"] is summary["temperature"] is summary["prompt"] is None


def test_a_missing_prediction_is_undecided_and_takes_the_score_away(tmp_path):
    summary = predict(tmp_path, {"id": "1", "text": RIGHT})
    assert (summary["unparsed"], summary["failed"], summary["score"], summary["score_interval"]) == (1, 1, None, None)
    (first, _) = table(tmp_path / "run")
    assert (first["status"], first["reason"], first["ok"]) == ("unparsed", "no_response", None)
    assert [a["alarm"] for a in read_log(tmp_path / "run" / "alarms.jsonl")] == ["failed"]
    assert predict(tmp_path, {"id": "1", "text": RIGHT}, accept_failures=True)["score"] == 50.0
    assert predict(tmp_path, {"id": "1", "text": RIGHT}, {"id": 0, "text": WRONG})["score"] == 50.0
    assert read_log(tmp_path / "run" / "alarms.jsonl") == []


def test_answers_of_one_evaluation_are_predictions_of_the_next(tmp_path):
    board(tmp_path, 4)
    with FakeApi(answer=by_seed) as api:
        eval_run.run(asking(tmp_path, api, samples=2, temperature=1.0))
    before = table(tmp_path / "run")
    config = EvalConfig(
        out=tmp_path / "again", data=tmp_path / "board.jsonl", predictions=tmp_path / "run" / "responses.jsonl"
    )
    eval_run.run(config)
    assert table(tmp_path / "again") == before and summary_of(tmp_path / "again")["spending"]["calls"] == 0


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([{"id": "9", "text": ""}], "id '9' is not on the board"),
        ([{"id": True, "text": ""}], "row has no id"),
        ([{"text": ""}], "row has no id"),
        ([{"id": "1"}], "row has no text"),
        ([{"id": "1", "text": 3}], "'text' is a whole number"),
        ([{"id": "1", "text": ""}, {"id": 1, "text": ""}], "id '1' was already given"),
        ([{"id": "1", "text": "", "draw": 1}], "no prediction has draw 0"),
        ([{"id": "1", "text": "", "draw": -1}], "draw -1"),
        ([{"id": "1", "text": "", "draw": 10**18}], "draw 1000000000000000000"),
        ([{"id": "1", "text": "", "draw": "x"}], "'draw' is a text"),
        ([], "no predictions"),
    ],
)
def test_predictions_that_cannot_be_meant_are_refused(tmp_path, lines, what):
    with pytest.raises(UserError) as error:
        predict(tmp_path, *lines)
    assert what in str(error.value)


# ---- settings and engines


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"model": "m", "base_url": "http://h/v1", "gpus": 2}, "gpus and engine are for a model folder"),
        ({"predictions": "p", "engine": "vllm"}, "gpus and engine are for a model folder"),
        ({"predictions": "p", "max_pixels": 9}, "leave min_pixels and max_pixels out"),
        ({"predictions": "p", "samples": 2}, "leave base_url, samples and images out"),
        ({"model": "m", "gpus": 2, "engine": "vllm"}, "engine vllm is for one process"),
        ({"model": "m", "budget": 2}, "price and budget are for an endpoint"),
        ({"model": "m", "samples": 2}, "samples at temperature 0 are all the same"),
        ({"model": "m", "min_pixels": 3, "max_pixels": 2}, "min_pixels is larger than max_pixels"),
        ({}, "nobody answers"),
    ],
)
def test_settings_that_exclude_each_other(settings, what):
    with pytest.raises(UserError, match=what):
        build(EvalConfig, {"out": "o", "data": "d", **settings})


class StandIn:
    """In vLLM's place: the local sampler, given what vLLM would be given: one id per image, and images of their final size."""

    def __init__(self, folder, device, dtype, max_tokens, memory):
        self.policy, self.closed = plain_policy(folder), False
        assert dtype == torch.float32 and max_tokens > 48

    def generate(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request) -> Answer:
        policy, p = self.policy, request.params
        seen = policy.image_processor(images=request.images, do_resize=False, return_tensors="pt")
        ids = torch.tensor(_expand_images(request.ids, seen["image_grid_thw"], policy))
        grids = seen["image_grid_thw"]
        prompt = EncodedPrompt(ids, rope_positions(policy, ids, grids), seen["pixel_values"], grids, ("one",))
        policy.features.clear()
        (group,) = LocalSampler(policy).rollout([prompt], p["n"], p["max_tokens"], p["temperature"], p["seed"])
        return Answer(ids.tolist(), [(c.ids.tolist(), c.log_probs.tolist(), c.stop) for c in group])

    def close(self) -> None:
        self.closed = True


def test_vllm_is_asked_for_the_same_answers(world, tmp_path, monkeypatch):  # noqa: F811
    eval_run.run(local(world, tmp_path / "local", max_pixels=50176, limit=5))
    monkeypatch.setattr(eval_local, "InProcessEngine", StandIn)
    eval_run.run(local(world, tmp_path / "vllm", max_pixels=50176, limit=5, engine="vllm"))
    assert table(tmp_path / "vllm") == table(tmp_path / "local")
    draws = eval_run.run(local(world, tmp_path / "draws", engine="vllm", samples=2, temperature=1.0, limit=3))
    assert draws and draws["n"] == 6


def test_vllm_where_it_is_not_installed(world, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="vLLM cannot be imported"):
        eval_run.run(local(world, tmp_path / "run", engine="vllm"))


def test_half_a_character_that_a_model_wrote_is_no_fault(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "text": "5 \\ud83d"}\n')
    samples = [Sample("a", "s", (), "q", "5", "digit")]
    (response,) = read_predictions(tmp_path / "p.jsonl", samples, {}, "m")
    assert response.trace.text == "5 \ufffd"


@pytest.mark.parametrize(("stored", "read"), [("5", "5"), (5, "5"), (0.5, "0.5"), (None, None)])
def test_a_stored_extraction_may_be_a_number(stored, read, tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [{"id": "a", "text": "so", "extraction": stored}])
    (response,) = read_predictions(tmp_path / "p.jsonl", [Sample("a", "s", (), "q", "5", "digit")], {}, "m")
    assert response.extraction == read


def test_what_only_a_judge_could_read_is_said_where_there_is_none(tmp_path):
    rows = {
        f"v1_{i}": {"imagename": "a.png", "question": "Which?", "answer": "B", "skill": ["spatial"]} for i in (0, 1)
    }
    write_json(tmp_path / "dataset.json", rows)
    write_jsonl(tmp_path / "p.jsonl", [{"id": name, "text": "It is B."} for name in rows])
    shared = dict(task="logicvista", data=tmp_path / "dataset.json", predictions=tmp_path / "p.jsonl")
    eval_run.run(EvalConfig(out=tmp_path / "rules", profile="leaderboard", **shared))
    said = {row["alarm"]: row["text"] for row in read_log(tmp_path / "rules" / "alarms.jsonl")}
    assert said.keys() == {"undecided", "no_judge", "subset"} and said["no_judge"].startswith("2 of 2 answers")
    eval_run.run(EvalConfig(out=tmp_path / "own", profile="strict", **shared))
    assert {row["alarm"] for row in read_log(tmp_path / "own" / "alarms.jsonl")} == {"subset"}
