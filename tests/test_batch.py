"""Batches: a run by them makes the tables of a run without; nobody who is killed pays twice; whatever comes back is named."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from seethink.ask import Budget, CallFailed, Client, Endpoint, Ledger, NotCached, batch, user_message
from seethink.ask.batch import Batches
from seethink.ask.batch_book import BatchBook
from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.store import read_jsonl
from seethink.data import batches
from seethink.data.pipeline import run
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi, last_text
from tests.test_data import MODELS, settings, tables

PRICED = {"price": (1.0, 1e6), "params": {"max_tokens": 4}}  # a dollar a token of the answer; each has two


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batch, "POLL_FIRST", 0.01)


class Asker:
    """Asks one model in batches, with a ledger and a book of its own."""

    def __init__(self, base_url, budget=None, **endpoint):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "ledger.sqlite")
        self.ledger, self.book, self.budget = Ledger(self.path), BatchBook(self.path), budget
        self.endpoint = Endpoint(base_url=base_url, model="m", **endpoint)
        self.problems = []

    def ask(self, texts, rounds=10):
        """Replies or CallFailed, in the order of `texts`; NotCached after that many rounds."""
        return asyncio.run(self.main(texts, rounds))

    async def main(self, texts, rounds):
        async with Client(self.endpoint, self.ledger, self.budget, dry=True, backoff=0.001) as client:
            of_step = Batches(client, "s", self.book)
            for made in await of_step.take_up():
                self.problems.append((await of_step.collect(made)).problem)
            for left in range(rounds, -1, -1):
                chats = (client.chat(user_message(text), step="s") for text in texts)
                results = await asyncio.gather(*chats, return_exceptions=True)
                calls = {r.call.key: r.call for r in results if isinstance(r, NotCached)}
                if not calls or not left:
                    return results
                for made in await of_step.submit(list(calls.values())):
                    self.problems.append((await of_step.collect(made)).problem)

    def read(self, query="SELECT status, usd FROM attempt ORDER BY id"):
        self.ledger.flush()
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(query).fetchall()


def test_a_batch_is_answered_at_half_the_price():
    with FakeApi() as api:
        asker = Asker(api.base_url, **PRICED)
        replies = asker.ask(["a", "b", "a"])
        (name,) = api.batches.batches
        lines = [json.loads(line) for line in api.batches.files["file-0"].splitlines()]
    assert [reply.text for reply in replies] == ["echo a", "echo b", "echo a"]
    assert [row[0] for row in asker.read()] == ["ok", "ok"]
    assert replies[0].usd == pytest.approx(0.5 * (1 * 1.0 + 2 * 1e6) / 1e6)
    order = api.batches.batches[name]
    assert (order["endpoint"], order["completion_window"]) == ("/v1/chat/completions", "24h")
    assert [line["custom_id"] for line in lines] == [row[0] for row in asker.read("SELECT key FROM call ORDER BY at")]
    assert lines[0] | {"custom_id": ""} == {
        "custom_id": "",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": user_message("a"), "max_tokens": 4},
    }


@pytest.mark.parametrize(("setting", "value", "lines"), [("MOST_LINES", 3, 3), ("MOST_SIZE", 500, 2)])
def test_a_file_keeps_the_bounds_of_the_interface(setting, value, lines, monkeypatch):
    monkeypatch.setattr(batch, setting, value)
    with FakeApi() as api:
        assert len({reply.text for reply in Asker(api.base_url).ask([str(n) for n in range(10)])}) == 10
        files = [data for name, data in api.batches.files.items() if name.startswith("file")]
    assert [data.count(b"\n") for data in files] == [lines] * (10 // lines) + [10 % lines] * (10 % lines > 0)
    assert setting == "MOST_LINES" or all(len(data) <= 500 for data in files)


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [("400", "refused", 1), ("filter", "filtered", 1), ("429", "rate_limit", 4), ("500", "server", 4), ("empty", "empty", 4)],
)  # fmt: skip
def test_a_line_that_fails_is_asked_again_or_fails_alone(fault, reason, requests):
    with FakeApi(fault=lambda n, body: fault if last_text(body) == "bad" else None) as api:
        good, bad = Asker(api.base_url).ask(["good", "bad"])
        assert good.text == "echo good" and isinstance(bad, CallFailed) and bad.reason == reason
        assert sum(last_text(body) == "bad" for body in api.bodies) == requests
    with FakeApi(fault=lambda n, body: fault if n == 0 else None) as api:
        asker = Asker(api.base_url, **PRICED)
        (reply,) = asker.ask(["a"])
        assert isinstance(reply, CallFailed) if requests == 1 else reply.text == "echo a"
        assert (asker.read()[0][1] > 0) == (fault == "empty"), "what was answered is paid"


@pytest.mark.parametrize(("fault", "word"), [("401", "OPENAI_API_KEY"), ("402", "credit"), ("quota", "credit")])
def test_what_no_question_survives_ends_the_run_once_all_else_is_settled(fault, word):
    with FakeApi(fault=lambda n, body: fault if last_text(body) == "bad" else None) as api:
        asker = Asker(api.base_url)
        asker.ask(["good", "bad"], rounds=1)
        assert asker.problems[0].code == 3 and word in str(asker.problems[0]) and not asker.book.open()
        assert [row[0] for row in asker.read()].count("ok") == 1


@pytest.mark.parametrize(
    ("end", "problem", "answered", "status"),
    [("expired", None, 2, "expired"), ("cancelled", "has cancelled", 2, "cancelled"), ("failed", "no such line", 0, "failed")],
)  # fmt: skip
def test_a_batch_that_ends_early_keeps_what_was_answered(end, problem, answered, status):
    with FakeApi() as api:
        api.batches.ends = [end]
        asker = Asker(api.base_url, budget=Budget(100.0), **PRICED)
        results = asker.ask(["a", "b", "c", "d"], rounds=1)
        assert sum(isinstance(result, NotCached) for result in results) == 4 - answered
        assert [row[0] for row in asker.read()].count(status) == 4 - answered
        assert str(asker.problems[0] or "") == "" if problem is None else problem in str(asker.problems[0])
        assert asker.budget.spent == pytest.approx(answered * 1.0000005) and asker.ledger.spent() == pytest.approx(
            asker.budget.spent
        )
        assert {r.text for r in asker.ask(["a", "b", "c", "d"])} == {"echo a", "echo b", "echo c", "echo d"}
        assert len(api.bodies) == 4, "nothing was asked twice"


def spoiled(*changes):
    """Changes the first files of results, one after the other, and none after that."""
    left = list(changes)
    return lambda data, errors: left.pop(0)(data.splitlines(keepends=True)) if left else data


EMPTY = json.dumps({"response": {"status_code": 200, "body": {"choices": []}}})


@pytest.mark.parametrize(
    ("change", "said", "statuses"),
    [
        (lambda rows: b"".join(rows + rows), "lines left out: 2 twice", ["ok", "ok"]),
        (lambda rows: b"".join([*rows, rows[0].replace(b'"custom_id": "', b'"custom_id": "x')]), "1 of unknown calls", ["ok", "ok"]),
        (lambda rows: b"".join([*rows, rows[0].replace(b'"custom_id": "', b'"custom_id": [7], "id": "')]), "1 of unknown calls", ["ok", "ok"]),
        (lambda rows: b"".join([b"7\n", b"\xff\xfe\n", *rows, b"\n"]), "2 unreadable", ["ok", "ok"]),
        (lambda rows: rows[0] + rows[1][:-20], "its file is cut", ["ok", "cut", "ok"]),
        (lambda rows: rows[0], "1 of 2 calls answered", ["ok", "unanswered", "ok"]),
        (lambda rows: rows[0] + rows[1].rstrip(), "2 of 2 calls answered", ["ok", "ok"]),
        (lambda rows: rows[0] + rows[1].replace(b'"choices"', b'"none"'), "1 of 2", ["ok", "unreadable", "ok"]),
        (lambda rows: rows[0] + rows[1].replace(b'"response"', b'"respond"'), "1 of 2", ["ok", "error", "ok"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_of_results_is_said(change, said, statuses, capsys):
    with FakeApi() as api:
        api.batches.spoil = spoiled(change)
        asker = Asker(api.base_url)
        assert [reply.text for reply in asker.ask(["a", "b"])] == ["echo a", "echo b"]
    assert [row[0] for row in asker.read()] == statuses
    assert said in capsys.readouterr().err


def test_an_answer_without_counts_is_counted_by_us():
    with FakeApi(lambda body: "twelve words") as api:
        api.batches.spoil = lambda data, errors: data.replace(b'"usage"', b'"used"')
        (reply,) = Asker(api.base_url, **PRICED).ask(["four words of text"])
    assert (reply.prompt_tokens, reply.completion_tokens) == (4, 3) and reply.usd == pytest.approx(1.5 + 2e-6)


def test_a_file_that_comes_half_is_fetched_again():
    fetched = []

    def half_once(method, path):
        if path.endswith("content"):
            fetched.append(path)
            if len(fetched) == 1:
                return 200, api.batches.files[path.split("/")[1]][:-30]
        return None

    with FakeApi() as api:
        api.batches.fault = half_once
        asker = Asker(api.base_url)
        assert [reply.text for reply in asker.ask(["a", "b"])] == ["echo a", "echo b"]
    assert [row[0] for row in asker.read()] == ["ok", "ok"] and len(fetched) == 2


@pytest.mark.parametrize(
    "told",
    [
        lambda info: {"data": info},
        lambda info: {"job": {**info, "status": info["status"].upper()}},
        lambda info: {**info, "status": None, "state": "complete" if info["status"] == "completed" else "running"},
        lambda info: {("output_file" if key == "output_file_id" else key): value for key, value in info.items()},
    ],
)
def test_what_an_endpoint_tells_otherwise_is_read(told):
    def retell(method, path):
        if method == "GET" and path.startswith("batches/"):
            _, data = api.batches._look(path.split("/")[1])
            return 200, json.dumps(told(json.loads(data))).encode()
        return None

    with FakeApi() as api:
        api.batches.fault = retell
        assert Asker(api.base_url).ask(["a"])[0].text == "echo a"


def failing(api, what, status, times):
    left = [times]

    def fault(method, path):
        if path.startswith(what[1]) and method == what[0] and left[0]:
            left[0] -= 1
            return status, json.dumps({"error": {"message": f"fault {status}"}}).encode()
        return None

    api.batches.fault = fault


@pytest.mark.parametrize("what", [("POST", "files"), ("POST", "batches"), ("GET", "batches"), ("GET", "files")])
def test_a_passing_fault_of_the_interface_costs_a_moment(what):
    with FakeApi() as api:
        failing(api, what, 503, 3)
        assert Asker(api.base_url).ask(["a"])[0].text == "echo a"
        assert len(api.batches.batches) == 1 and len(api.bodies) == 1


@pytest.mark.parametrize(("status", "words"), [(404, "Leave batch out"), (401, "OPENAI_API_KEY"), (400, "fault 400")])
@pytest.mark.parametrize("what", [("POST", "files"), ("POST", "batches")])
def test_an_endpoint_without_batches_is_named_and_nothing_is_paid(what, status, words):
    with FakeApi() as api:
        failing(api, what, status, 99)
        asker = Asker(api.base_url, budget=Budget(100.0), **PRICED)
        with pytest.raises(UserError, match=words) as error:
            asker.ask(["a"])
        assert error.value.code == 3 and asker.budget.spent == 0 and not asker.book.open()


@pytest.mark.parametrize("what", [("GET", "batches/"), ("GET", "files/")])
def test_a_batch_that_the_endpoint_has_forgotten_counts_as_paid(what):
    with FakeApi() as api:
        failing(api, what, 404, 1)
        asker = Asker(api.base_url, budget=Budget(100.0), **PRICED)
        asker.ask(["a"], rounds=1)
        assert "are gone" in str(asker.problems[0]) and asker.budget.spent > 2 and not asker.book.open()
        assert asker.ask(["a"])[0].text == "echo a"


def test_a_budget_holds_a_batch_before_it_is_made():
    """A call may cost two dollars and costs one."""
    with FakeApi() as api:
        asker = Asker(api.base_url, budget=Budget(9.1), **PRICED)
        results = asker.ask([str(n) for n in range(20)], rounds=1)
        assert sum(not isinstance(result, NotCached) for result in results) == 4
        assert asker.budget.spent == pytest.approx(4.000002)
        asker.ask([str(n) for n in range(20)], rounds=9)
        assert len(api.bodies) in (7, 8) and asker.budget.spent <= 9.1


def test_what_is_out_counts_as_spent(tmp_path):
    with BatchBook(tmp_path / "l.sqlite") as book:
        made = book.add("http://h", "m", "s", [batch.BatchCall("k", 1, 2.5), batch.BatchCall("l", 1, None)])
        assert book.reserved() == 2.5
        with BatchBook(tmp_path / "l.sqlite") as again:
            assert again.open() == [made] and set(again.calls(made)) == {"k", "l"}
        book.note(made, "completed")
        assert book.reserved() == 0 and book.open() == []


def test_a_run_by_batches_makes_the_tables_of_a_run_without(tmp_path, capsys):
    source = make_samples(tmp_path, 40)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "single", api.base_url))
        calls = len(api.bodies)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "batch", api.base_url, "--batch"), dry_run=True)
        assert "next batch: 30 calls (caption 30), cost unknown" in capsys.readouterr().out and not api.bodies
        run(settings(source, tmp_path / "batch", api.base_url, "--batch"))
        assert len(api.bodies) == calls and not any("stream" in body for body in api.bodies)
        rows = [row for _, row in read_jsonl(tmp_path / "batch" / "spend.jsonl")]
        assert [row["step"] for row in rows] == ["caption", "distill", "rewrite", "verify"]
        assert len(api.batches.batches) == 5  # the judge may be asked twice
        run(settings(source, tmp_path / "batch", api.base_url))
        assert len(api.bodies) == calls
    assert tables(tmp_path / "batch") == tables(tmp_path / "single")


@pytest.mark.parametrize(("most", "made"), [(10_000, 2), (4, 5)])
def test_a_role_may_go_its_own_way_and_few_calls_are_held_at_a_time(tmp_path, most, made, monkeypatch):
    monkeypatch.setattr(batches, "MOST_WAITING", most)
    source = make_samples(tmp_path, 12)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "single", api.base_url))
    with FakeApi(teacher) as api:
        run(
            settings(
                source, tmp_path / "mixed", api.base_url, "--batch", "--no-reasoner.batch", "--judge.batch", "false"
            )
        )
        assert len(api.batches.batches) == made and sum("stream" in body for body in api.bodies) == 9
    assert tables(tmp_path / "mixed") == tables(tmp_path / "single")


PROCESS = """
import signal
import sys
from seethink.ask import batch
from seethink.cli import main
batch.POLL_FIRST = 0.05
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
sys.exit(main(sys.argv[1:]))
"""


def start(source, out, base_url, *more):
    command = ["data", "--source", source, "--out", out, "--base_url", base_url, *MODELS, "--batch", *more]
    words = [sys.executable, "-c", PROCESS, *map(str, command)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("when", ["waiting", "before", "after", "upload"])
def test_a_killed_run_finds_its_batch_again(tmp_path, when, capfd):
    """Killed while it waits; between upload and create, which has come to nothing or has not; and while it uploads."""
    source, out = make_samples(tmp_path, 12), tmp_path / "out"
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "single", api.base_url))
        calls = len(api.bodies)
    with FakeApi(teacher) as api:
        if when == "upload":
            api.batches.fault = lambda method, path: api.batches.stalled.set() or api.batches.go_on.wait(30) or None
        elif when == "waiting":
            api.batches.polls = 10**9
        else:
            api.batches.stall = when
        process = start(source, out, api.base_url)
        seen = lambda: any(b["status"] == "in_progress" for b in api.batches.batches.values())  # noqa: E731
        until(seen if when == "waiting" else api.batches.stalled.is_set, process)
        process.kill()
        process.communicate()
        if when == "waiting":  # without --batch its calls would be paid twice
            assert main(["data", "--source", str(source), "--out", str(out), "--base_url", api.base_url, *MODELS]) == 2
            assert "9 calls to captioner are out in batch batch_0. Run with --batch" in capfd.readouterr().err
        api.batches.stall, api.batches.polls, api.batches.fault = "", 2, lambda method, path: None
        with BatchBook(out / "ledger.sqlite") as book:
            states = [made.state for made in book.open()]
            assert states == [{"waiting": "waiting", "upload": "written"}.get(when, "uploaded")]
        run(settings(source, out, api.base_url, "--batch"))
        api.batches.go_on.set()
        assert len(api.bodies) == calls, "nothing was asked twice"
        assert not list(out.glob("batch-*"))
    assert tables(out) == tables(tmp_path / "single")


def test_an_interrupt_says_that_the_batch_goes_on(tmp_path):
    source, out = make_samples(tmp_path, 8), tmp_path / "out"
    with FakeApi(teacher) as api:
        api.batches.polls = 10**9
        process = start(source, out, api.base_url)
        until(lambda: any(b["status"] == "in_progress" for b in api.batches.batches.values()), process)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "batches that go on at the endpoint: 1, with 6 calls; the same command picks them up" in error


def test_a_budget_that_ends_leaves_a_run_that_goes_on(tmp_path, capsys):
    """A caption may cost 0.0009 USD in a batch and costs a tenth of that; the budget holds three at a time."""
    source, out = make_samples(tmp_path, 40), tmp_path / "out"
    prices = [w for role in ("captioner", "reasoner", "rewriter", "judge") for w in (f"--{role}.price", "[1.0, 1.0]")]
    caps = [
        w for role in ("captioner", "reasoner", "rewriter", "judge") for w in (f"--{role}.params", "{max_tokens = 50}")
    ]
    with FakeApi(teacher) as api:
        words = [
            "data",
            "--source",
            str(source),
            "--out",
            str(out),
            "--base_url",
            api.base_url,
            *MODELS,
            *prices,
            *caps,
        ]
        assert main([*words, "--batch", "--budget", "0.003"]) == 4
        assert "spent" in capsys.readouterr().err
        assert 0 < len(api.bodies) < 150
        assert main([*words, "--batch"]) == 0
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "single", api.base_url, *caps))
    assert tables(out) == tables(tmp_path / "single")
