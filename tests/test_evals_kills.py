"""Evaluations of real pictures, killed with SIGKILL and started again: nothing is asked or computed twice, tables are the same."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from seethink.core.nouns import Sample
from seethink.core.run import read_log
from seethink.core.store import read_json, save_samples
from seethink.core.tags import compose
from seethink.evals import run as eval_run
from seethink.evals.config import EvalConfig
from tests.fake_api import FakeApi, last_text
from tests.test_evals_answers import BASE, ROOT, sent_pictures, summary_of, table, world  # noqa: F401

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
KILLS, IN_FLIGHT = 10, 4
PATIENCE = 600  # seconds until something hangs, on any machine


@pytest.fixture(scope="module")
def pictures(shared, tmp_path_factory) -> Path:
    """LogicVista and We-Math questions with their pictures, as a board of rows."""
    logic, maths = shared / "data" / "logicvista", shared / "data" / "wemath"
    found = []
    for name, row in read_json(logic / "dataset.json").items():
        image = logic / "images" / row["imagename"]
        if image.is_file() and row["answer"] in set("ABCDE"):
            found.append((name, image, row["question"], row["answer"]))
    found = found[:40]
    for row in read_json(maths / "testmini.json"):
        image = maths / row["image_path"]
        if image.is_file():
            found.append((f"{row['ID']}/{row['key']}", image, f"{row['question']} {row['option']}", row["answer"]))
    samples = [
        Sample(name, "s", (str(image),), f"{name}: {question}", gold, "choice", choices=tuple("ABCDE"))
        for name, image, question, gold in found[:64]
    ]
    assert len(samples) == 64
    path = tmp_path_factory.mktemp("pictures") / "board.jsonl"
    save_samples(path, samples)
    return path


def guess(body: dict) -> str:
    """A letter that depends on the question and on the pixels."""
    seen = last_text(body).encode() + b"".join(sent_pictures(body))
    return compose("so", "ABCDE"[sha256(seen).digest()[0] % 5])


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "seethink", "eval", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*arguments: str) -> str:
    child = start(*arguments)
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 0, output
    return output


def kill_when(child: subprocess.Popen, happened) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert child.poll() is None and time.monotonic() < deadline, child.communicate()[0]
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()


@pytest.mark.slow
def test_ten_kills_at_an_endpoint(pictures, tmp_path):
    with FakeApi(answer=guess, latency=0.03) as api:
        shared = ["--data", str(pictures), "--base_url", api.base_url, "--model", "name", "--batch", str(IN_FLIGHT)]
        shared += ["--max_pixels", "200000"]
        config = EvalConfig(
            out=tmp_path / "calm",
            data=pictures,
            base_url=api.base_url,
            model="name",
            batch=IN_FLIGHT,
            max_pixels=200000,
        )
        calm = eval_run.run(config)
        assert len(api.bodies) == 64 and len({tuple(sent_pictures(b)) for b in api.bodies}) > 40
        api.bodies.clear()
        for _ in range(KILLS):
            before = len(api.bodies)
            child = start("--out", str(tmp_path / "run"), *shared)
            kill_when(child, lambda before=before: len(api.bodies) >= before + 5)
        finish("--out", str(tmp_path / "run"), *shared)
        asked = Counter(last_text(body) for body in api.bodies)
    assert table(tmp_path / "run") == table(tmp_path / "calm")
    summary = summary_of(tmp_path / "run")
    spent = summary.pop("spending")
    assert summary == {name: value for name, value in (calm or {}).items() if name != "spending"}
    with sqlite3.connect(tmp_path / "run" / "ledger.sqlite") as ledger:
        answered = dict(ledger.execute("SELECT key, count(*) FROM attempt WHERE status = 'ok' GROUP BY key"))
        lost = ledger.execute("SELECT count(*) FROM attempt WHERE status = 'lost'").fetchone()[0]
    assert len(asked) == 64 == len(answered) and set(answered.values()) == {1}, "no answer that came is asked for again"
    assert 64 <= len(api.bodies) <= 64 + lost and lost <= KILLS * IN_FLIGHT, "only what a kill cut off is"
    assert spent["calls"] == 64


@pytest.mark.long
def test_kills_of_the_tiny_model(pictures, tmp_path):
    shared = ["--data", str(pictures), "--model", str(BASE), "--batch", "2", "--max_tokens", "24", "--limit", "10"]
    shared += ["--device", "cpu", "--max_pixels", "12544", "--samples", "2", "--temperature", "1"]
    finish("--out", str(tmp_path / "calm"), *shared)
    log = tmp_path / "run" / "responses.jsonl"
    for _ in range(2):
        before = len(read_log(log))
        child = start("--out", str(tmp_path / "run"), *shared)
        kill_when(child, lambda before=before: len(read_log(log)) >= before + 4)
    finish("--out", str(tmp_path / "run"), *shared)
    assert table(tmp_path / "run") == table(tmp_path / "calm") and len(read_log(log)) == 20
    assert summary_of(tmp_path / "run") == summary_of(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_are_killed_and_give_the_answers_of_one(world, tmp_path):  # noqa: F811
    shared = ["--data", str(world / "board.jsonl"), "--model", str(BASE), "--batch", "2", "--max_tokens", "48"]
    shared += ["--device", "cpu"]
    finish("--out", str(tmp_path / "one"), *shared)
    child = start("--out", str(tmp_path / "two"), "--gpus", "2", *shared)
    kill_when(child, lambda: any(read_log(path) for path in (tmp_path / "two").glob("responses-*.jsonl")))
    with open(tmp_path / "two" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its processes end with it
    output = finish("--out", str(tmp_path / "two"), "--gpus", "2", *shared)
    assert output.count("eval: finished, score") == 1, "only the first rank speaks"
    texts = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(tmp_path / name / "responses.jsonl")]
        for name in ("one", "two")
    ]
    assert texts[0] == texts[1] and table(tmp_path / "one") == table(tmp_path / "two")
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())


def test_what_several_processes_left_behind_is_put_together(tmp_path, monkeypatch):
    """Their number may be another when they go on; a line cut by a kill is nothing."""
    items = [Sample(str(i), "s", (), f"q{i}", "3", "digit") for i in range(4)]
    save_samples(tmp_path / "board.jsonl", items)
    shared = dict(out=tmp_path / "run", data=tmp_path / "board.jsonl", model="name")
    with FakeApi(answer=lambda body: compose("so", "3")) as api:
        config = EvalConfig(base_url=api.base_url, **shared)
        before = eval_run.run(config)
        log = tmp_path / "run" / "responses.jsonl"
        lines = log.read_text().splitlines(keepends=True)
        (tmp_path / "run" / "done.json").unlink()
        (tmp_path / "run" / "responses-0.jsonl").write_text(lines[3] + lines[0])
        (tmp_path / "run" / "responses-1.jsonl").write_text(lines[0] + lines[2] + lines[1][:20])
        log.write_text(lines[1])
        (tmp_path / "run" / "ledger.sqlite").unlink()
        after = eval_run.run(config)
    assert len(api.bodies) == 4 and log.read_text() == "".join(lines)
    assert not list((tmp_path / "run").glob("responses-*")) and after and before
    assert after["score"] == before["score"] == 100
