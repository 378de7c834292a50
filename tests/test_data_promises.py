"""What a data run promises: kills, faults and limits cost little, a budget holds, a key stays secret, nobody else is called."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter

import pipeline as bench  # benchmarks/pipeline.py
import pytest

from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.store import load_examples, read_jsonl
from seethink.data.config import DataConfig
from seethink.data.pipeline import run
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import MODELS, settings

ONE_MODEL = [word for role in bench.ROLES for word in (f"--{role}.model", "teacher")]


def one_teacher(body):
    """All roles by one name; the prompts tell them apart."""
    text = str(body["messages"])
    role = (
        "captioner"
        if "image_url" in text
        else "judge"
        if "<reference>" in text
        else "rewriter"
        if "<text>" in text
        else "x"
    )
    return teacher({**body, "model": role})


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "case", [bench.kills, bench.saturation, bench.faults, bench.key], ids=lambda case: case.__name__
)
def test_promises_that_are_measured(case):
    """Four kills lose no finished result; see the functions for the others."""
    found = case(Namespace(kills=4, seed=7))
    assert found["ok"], found


def test_a_budget_holds_with_200_in_flight():
    found = bench.budget(Namespace())
    assert found["ok"], found


def test_steps_that_ask_one_model_share_its_places_and_finish_samples_early(tmp_path):
    """With four in flight, samples are judged while others have not begun."""
    source = make_samples(tmp_path, 60)
    with FakeApi(one_teacher, latency=0.01) as api:
        run(resolve(DataConfig, ["--source", str(source), "--out", str(tmp_path / "run"), "--base_url", api.base_url,
                                 *ONE_MODEL, "--in_flight", "4", "--rule_first", "false"]))  # fmt: skip
        assert api.most_in_flight == 4
        steps = ["image_url" in str(b) and "caption" or "<reference>" in str(b) and "verify" for b in api.bodies]
    assert steps.index("verify") < len(steps) / 4, "captions of all items were not asked first"
    assert len(steps) - steps[::-1].index("caption") > len(steps) / 2 and load_examples(tmp_path / "run" / "sft.jsonl")


def test_one_model_has_one_rate(tmp_path):
    rates = ("--rewriter.rpm", "60", "--rewriter.model", "m", "--judge.model", "m")
    config = settings(tmp_path / "x", tmp_path, "http://127.0.0.1:9/v1", *rates)
    assert config.rates_of(config.judge) == (60, None) and config.rates_of(config.reasoner) == (None, None)
    with pytest.raises(UserError, match="the same model 'm' have different rpm or tpm"):
        settings(tmp_path / "x", tmp_path, "http://127.0.0.1:9/v1", *rates, "--judge.rpm", "61")


def test_a_rate_is_kept_over_all_steps_of_a_model(tmp_path):
    """600 a minute: ten at once, and ten a second after them."""

    source, arrivals = make_samples(tmp_path, 14), []
    with FakeApi(lambda body: arrivals.append(time.monotonic()) or one_teacher(body)) as api:
        run(resolve(DataConfig, ["--source", str(source), "--out", str(tmp_path / "run"), "--base_url", api.base_url,
                                 *ONE_MODEL, "--rule_first", "false", "--captioner.rpm", "600"]))  # fmt: skip
    assert len(arrivals) > 25
    assert all(later - first > 0.9 for first, later in zip(arrivals, arrivals[21:], strict=False)), (
        "ten, and ten a second"
    )


def test_what_a_kill_left_open_is_said_and_on_record(tmp_path, capsys):
    source, out = make_samples(tmp_path, 20), tmp_path / "run"
    prices = [word for role in bench.ROLES for word in (f"--{role}.price", "[1, 2]")]
    with FakeApi(teacher, latency=0.2) as api:
        command = ["data", "--source", str(source), "--out", str(out), "--base_url", api.base_url, *MODELS, *prices]
        child = subprocess.Popen([sys.executable, "-m", "seethink", *command], stderr=subprocess.DEVNULL)
        while not api.in_flight:
            assert child.poll() is None
        child.kill()
        child.wait()
        run(resolve(DataConfig, command[1:]))
    spend = [row for _, row in read_jsonl(out / "spend.jsonl")]
    lost = sum(row["lost"] for row in spend)
    assert lost > 0 and all(row["lost_usd"] > 0 for row in spend if row["lost"])
    assert capsys.readouterr().err.count(f"{lost} requests possibly paid, result unknown, at most 0.0") == 2, (
        "start and end"
    )


def test_nobody_but_the_endpoint_is_called(tmp_path, monkeypatch):
    """No other connection, no look-up of a name."""
    reached: Counter[object] = Counter()
    connect = socket.socket.connect

    def watched(self, address):
        reached[address[:2] if isinstance(address, tuple) else address] += 1
        return connect(self, address)

    def no_names(host, *rest, **more):
        assert host in ("127.0.0.1", None), f"looked up {host}"
        return look_up(host, *rest, **more)

    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", watched)
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    with FakeApi(teacher) as api:
        run(settings(make_samples(tmp_path, 20), tmp_path / "run", api.base_url))
        port = int(api.base_url.split(":")[2].split("/")[0])
    assert api.bodies and set(reached) <= {("127.0.0.1", port)}


def test_sock_connect_of_the_loop_is_watched_too(monkeypatch):
    """The oracle of the test above: asyncio connects through the method that it watches."""
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: (_ for _ in ()).throw(OSError("watched")))

    async def connect():
        await asyncio.open_connection("127.0.0.1", 9)

    with pytest.raises(OSError, match="watched"):
        asyncio.run(connect())
