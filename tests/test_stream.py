"""Streams: every way in which endpoints send one is read to the same answer, and what breaks off gets its name."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing

import pytest

from seethink.ask import CallFailed, Endpoint, Ledger, stream, wire
from seethink.ask.faults import Fault
from seethink.ask.stream import EventStream
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.data.config import DataConfig
from tests.fake_api import FakeApi
from tests.raw_api import ANSWER, RawApi
from tests.test_ask import ask_all

DONE = b"data: [DONE]\n\n"


def event(value, end=b"\n\n"):
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + end


def delta(finish=None, **fields):
    return {"model": "m-1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


STOP = event(delta("stop"))
USAGE = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 22}}
PLAIN = event(delta(role="assistant", content="")) + event(delta(content="y")) + event(delta(content="é😀s")) + STOP


def read(data: bytes, cuts: int | None = None, most: int = 10_000):
    """The answer in a stream that arrives in pieces of `cuts` bytes."""
    events = EventStream(most)
    for at in range(0, len(data), cuts or len(data) or 1):
        events.feed(data[at : at + (cuts or len(data))])
    return events.end(0.0, 7)


def read_text(data: bytes, cuts: int | None = None):
    reply = read(data, cuts)
    return reply.text, reply.reasoning


@pytest.mark.parametrize("cuts", [1, 2, 3, 7, None])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_answer_is_the_same_wherever_it_is_cut(cuts, end):
    data = b": keep-alive\n\nevent: message\nid: 7\nretry: 10\n" + PLAIN + event(USAGE) + b": bye\n\n" + DONE
    two_lines = data.replace(b', "choices"', b',\ndata:"choices"')
    for text in (data, two_lines):
        reply = read(text.replace(b"\n", end), cuts)
        assert (reply.text, reply.stop, reply.model) == ("yé😀s", "stop", "m-1")
        assert (reply.prompt_tokens, reply.completion_tokens) == (11, 22)


@pytest.mark.parametrize(
    ("data", "text", "reasoning"),
    [
        (PLAIN + DONE, "yé😀s", ""),
        (PLAIN, "yé😀s", ""),  # no [DONE]
        (event(delta(content="yes")) + DONE, "yes", ""),  # no finish_reason
        (event(delta(content="yes")) + b"data: [DONE]", "yes", ""),  # the last line does not end
        (event(delta(content="yes")) + STOP.rstrip(), "yes", ""),
        (PLAIN + DONE + event(delta(content=" and more")), "yé😀s", ""),
        (event({"choices": [], "prompt_filter_results": []}) + PLAIN, "yé😀s", ""),
        (event({"choices": [{"index": 1, "delta": {"content": "no"}}]}) + PLAIN, "yé😀s", ""),
        (event(delta(reasoning_content="h")) + event(delta(reasoning_content="m")) + PLAIN, "yé😀s", "hm"),
        (event(delta(reasoning="hm", reasoning_details=[{"type": "reasoning.text", "text": "hm"}])) + PLAIN, "yé😀s", "hm"),
        (event(delta(thinking="hm")) + PLAIN, "yé😀s", "hm"),
        (event(delta(reasoning={"content": "h"})) + event(delta(reasoning={"content": "m"})) + PLAIN, "yé😀s", "hm"),
        (event(delta(content=[{"type": "thinking", "thinking": "hm"}])) + PLAIN, "yé😀s", "hm"),
        (event(delta(content=[{"type": "text", "text": "oh "}])) + PLAIN, "oh yé😀s", ""),
        (event(delta(content="y")) + event({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}), "yes", ""),
        (b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\ndata: {"choices": [{"delta": {"content": "\\ude00"}}]}\n\n' + STOP, "😀", ""),
        (b"data: \n\n" + PLAIN + b"data\n\n", "yé😀s", ""),
        (event(delta(content=7)) + event(delta(content=None, tool_calls=[])) + event("x".join("ab")).replace(b"data", b"note") + PLAIN, "yé😀s", ""),
    ],
)  # fmt: skip
def test_every_shape_of_a_stream_is_read(data, text, reasoning):
    assert read_text(data) == read_text(data, 1) == (text, reasoning)


@pytest.mark.parametrize(
    ("data", "name", "words", "billed"),
    [
        (PLAIN.removesuffix(STOP), "cut", "in the middle", True),
        (PLAIN.removesuffix(STOP) + b'data: {"choi', "cut", "in the middle", True),
        (event(delta(content="y")) + b"data: {no}\n\n" + STOP, "unreadable", "{no}", True),
        (event(delta(content="y")) + b"data: 7\n\n" + STOP, "unreadable", "no chunk", True),
        (event(delta(content="y")) + event({"error": {"message": "overloaded", "code": 503}}), "server", "overloaded", True),
        (event({"error": {"message": "slow down", "code": 429}}), "rate_limit", "slow down", False),
        (event({"object": "error", "message": "no credit left", "code": 402}), "quota", "no credit", False),
        (event(delta(content="y")) + event({"error": "stopped", "choices": delta("error")["choices"]}), "error", "stopped", True),
        (event(delta("error", content="y")) + DONE, "broken", "broke off", True),
        (event(delta("length")) + DONE, "", "", False),
        (event(delta("content_filter", content="y")), "filtered", "filter", True),
        (event(delta(refusal="I can")) + event(delta(refusal="not")) + STOP, "filtered", "I cannot", True),
        (STOP + DONE, "empty", "empty answer", True),
        (DONE, "empty", "empty answer", True),
        (b"", "unreadable", "an empty body", True),
        (b": keep-alive\n\n" * 5, "unreadable", "an empty stream", True),
        (bytes(range(128, 256)) * 4 + b"\n\n", "unreadable", "text", True),
        (b"Service is starting", "unreadable", "Service is starting", True),
        (b"data: " + b"x" * 20_000, "too_large", "MB of answer", True),
        (event(delta(content="x" * 6000)) * 2, "too_large", "MB of answer", True),
        (b"data: x\n" * 1000, "too_large", "MB of answer", True),
        (b": keep-alive\n\n" * 20_000, "too_large", "MB of answer", True),
    ],
)  # fmt: skip
def test_what_is_no_whole_stream_gets_its_name(data, name, words, billed):
    for cuts in (5, None):
        if not name:
            assert read(data, cuts).stop == "length"
            continue
        with pytest.raises(Fault) as fault:
            read(data, cuts)
        fault = fault.value
        assert (fault.name, fault.billed, words in fault.detail) == (name, billed, True), (fault, fault.billed)


def test_a_stream_is_read_over_the_wire_and_is_the_same_question():
    ledger = Ledger(":memory:")
    answer = {"content": "So it is", "reasoning_content": "I think and think"}
    with FakeApi(lambda body: answer) as api:
        (reply,) = ask_all(api.base_url, ["a"], ledger, stream=True)
        assert api.bodies[0]["stream"] and api.bodies[0]["stream_options"] == {"include_usage": True}
        assert ask_all(api.base_url, ["a"], ledger)[0].cached and len(api.bodies) == 1
        (whole,) = ask_all(api.base_url, ["a"])
        assert "stream" not in api.bodies[1]
    parts = ("text", "reasoning", "stop", "model", "prompt_tokens", "completion_tokens")
    assert [getattr(reply, part) for part in parts] == [getattr(whole, part) for part in parts]


@pytest.mark.parametrize(
    ("fault", "status"),
    [("hang", "timeout"), ("pause", "timeout"), ("drop", "cut"), ("cut", "cut"), ("break", "error"), ("429", "rate_limit"), ("empty", "empty")],
)  # fmt: skip
def test_a_stream_that_fails_is_asked_again_and_is_on_record(fault, status, tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    with FakeApi(fault=lambda n, body: fault if n == 0 else None) as api:
        settings = {"price": (1.0, 1.0), "params": {"max_tokens": 9}, "first_byte": 1.5, "idle": 1.5}
        (reply,) = ask_all(api.base_url, ["a b c d"], ledger, stream=True, timeout=30, **settings)
        assert reply.text == "echo a b c d" and len(api.bodies) == 2
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "l.sqlite")) as db:
        rows = db.execute("SELECT status, usd FROM attempt ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [status, "ok"]
    assert (rows[0][1] > 0) == (status not in ("rate_limit",)), "what was written is paid"


@pytest.mark.parametrize(
    ("pieces", "limits", "words"),
    [
        ((1.5,), {"first_byte": 0.3}, "silent for 0.3 s"),
        ((b": wait\n\n", 1.5), {"idle": 0.3}, "silent for 0.3 s in the middle"),
        ((b": wait\n\n", 0.1) * 30, {"idle": 1, "timeout": 1}, "no complete answer within 1 s"),
        ((0.2, b": wait\n\n", 0.2, PLAIN, 0.2, DONE), {"first_byte": 5, "idle": 5, "timeout": 9}, ""),
        ((PLAIN, 1.5), {}, ""),  # whole, and the token counts never come
        ((PLAIN[:30], 0.1, PLAIN[30:]), {}, ""),  # whole, and the connection closes
    ],
)
def test_silence_is_measured_before_and_between(pieces, limits, words, monkeypatch):
    monkeypatch.setattr(wire, "TRAILER_SECONDS", 0.3)
    monkeypatch.setattr("seethink.ask.client.TRIES", {})
    start = time.monotonic()
    with RawApi(pieces) as api:
        (reply,) = ask_all(api.base_url, ["a"], stream=True, **limits)
    assert time.monotonic() - start < 20
    if words:
        assert isinstance(reply, CallFailed) and (reply.reason, reply.detail) == ("timeout", words)
    else:
        assert reply.text == "yé😀s" and reply.completion_tokens == 1


@pytest.mark.parametrize("space", [b"", b" \n", b"\xef\xbb\xbf"])
def test_an_endpoint_that_answers_in_one_piece_is_read(space):
    with RawApi(space + json.dumps(ANSWER).encode()) as api:
        assert ask_all(api.base_url, ["a"], stream=True)[0].text == "yes"
    with RawApi(b"<html>busy</html>") as api:
        assert ask_all(api.base_url, ["a"], stream=True)[0].reason == "unreadable"


@pytest.mark.parametrize("takes", [1, 0])
def test_an_endpoint_that_refuses_to_count_or_to_stream_is_asked_without_and_this_is_said_once(takes, capsys):
    def respond(sent):
        asked = [name for name in ("stream", "stream_options") if name in sent]
        if len(asked) > takes:
            return 400, {"error": {"message": f"unknown field: {asked[-1]}"}}
        return 200, (PLAIN + DONE,) if asked else ANSWER

    with RawApi(respond) as api:
        replies = ask_all(api.base_url, [str(n) for n in range(20)], stream=True)
    assert {reply.text for reply in replies} == {"yé😀s" if takes else "yes"}
    said = capsys.readouterr().err
    assert said.count("takes no stream_options") == 1 and said.count("takes no stream ") == 1 - takes


def test_a_refused_question_is_asked_once():
    with RawApi({"error": {"message": "a bad question"}}, 400) as api:
        assert ask_all(api.base_url, ["a"], stream=True)[0].reason == "refused" and len(api.requests) == 1


@pytest.mark.parametrize("where", ["line", "lines", "answer", "stream"])
def test_a_stream_without_end_is_refused(where, monkeypatch):
    monkeypatch.setattr(wire, "MOST_BYTES", 50_000)
    pieces = {
        "line": b"data: x" + b"x" * 9000,
        "lines": b"data: x\n" * 900,
        "answer": event(delta(content="x" * 900)),
        "stream": b": wait\n\n" * 900,
    }
    with RawApi((pieces[where],) * 200) as api:
        (failed,) = ask_all(api.base_url, ["a"], stream=True)
    assert isinstance(failed, CallFailed) and failed.reason == "too_large" and len(api.requests) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"first_byte": 5}, "first_byte is for streamed answers"),
        ({"stream": True, "idle": 50, "timeout": 20}, "idle is 50 s, longer than a whole answer may take"),
        ({"stream": True, "first_byte": 3600}, "longer"),
        ({"params": {"stream": True}}, "stream is no sampling parameter"),
        ({"idle": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Endpoint(base_url="http://h/v1", model="m", **settings)


def test_the_reasoner_streams_and_the_others_do_not(tmp_path):
    given = ["--source", str(tmp_path), "--out", str(tmp_path), "--base_url", "http://h/v1"]
    config = resolve(DataConfig, [*given, "--reasoner.model", "r"])
    assert [r.stream for r in (config.captioner, config.reasoner, config.rewriter, config.judge)] == [
        False,
        True,
        False,
        False,
    ]
    assert not resolve(DataConfig, [*given, "--no-reasoner.stream"]).reasoner.stream
    for wrong in (
        ["--idle", "5", "--no-reasoner.stream"],
        ["--reasoner.params", "{stream = true}"],
        ["--idle", "1900"],
    ):
        with pytest.raises(UserError):
            resolve(DataConfig, [*given, *wrong])


def test_a_chunk_costs_little():
    """Fifteen microseconds of CPU for each of 1,500 chunks; five times that here, where others use the processor too."""
    seconds, reply = stream_cost(1500)
    assert reply.reasoning.count("token") == 1499 and reply.text == " token" and seconds < 5 * 15e-6


def stream_cost(chunks: int):
    """(CPU seconds a chunk, the answer) of reading a stream of that many, each arriving by itself."""
    fields = {
        "id": "chatcmpl-1234567890",
        "object": "chat.completion.chunk",
        "created": 1,
        "system_fingerprint": "fp_1",
    }
    data = [event({**fields, **delta(reasoning_content=f" token{n}")}) for n in range(chunks - 1)]
    data += [event({**fields, **delta("stop", content=" token")})]
    start, events = time.thread_time(), stream.EventStream(wire.MOST_BYTES)
    for part in data:
        events.feed(part)
    reply = events.end(0.0, 0)
    return (time.thread_time() - start) / chunks, reply
