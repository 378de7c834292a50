"""The wire: addresses with passwords, certificates, bounds, and what a whole run makes of an endpoint that refuses."""

from __future__ import annotations

import asyncio
import base64
import gc
import re
import shutil
import subprocess

import pytest

from seethink.ask import CallFailed, Client, Endpoint, Ledger, limits, user_message, wire
from seethink.cli import main
from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import save_samples
from seethink.core.url import check_open, check_url, public
from seethink.study.check import check
from seethink.study.config import StudyConfig
from tests.fake_api import FakeApi, last_text
from tests.raw_api import ANSWER, RawApi
from tests.test_ask import ask_all

NO_CREDIT = {"error": {"message": "Insufficient Balance"}}
FLAGGED = {"error": {"message": "Input was flagged for moderation: violence"}}


@pytest.fixture
def board(tmp_path):
    rows = [Sample(str(n), "s", (), f"How many? {n}", "1", "digit", meta={"caption": "one"}) for n in range(4)]
    save_samples(tmp_path / "board.jsonl", rows)
    return tmp_path / "board.jsonl"


def seethink(verb, board, base_url, *more):
    source = ["--model", "m", "--data"] if verb == "eval" else ["--source"]
    return main([verb, *source, str(board), "--out", str(board.parent / verb), "--base_url", base_url, *more])


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("localhost:8000/v1", "http://localhost:8000/v1"),
        ("api.host.com/v1", "https://api.host.com/v1"),
        ("ftp://host/v1", "https://host/v1"),
        ("user:secret@host/v1", "https://***@host/v1"),
        ("http://user:sec/ret@host/v1", "Give an address"),
        ("http://user:secret@host:99x/v1?key=secret", "Give an address"),
        ("http://***@host/v1", "again"),
        ("http://host/v1?***", "again"),
        *(
            (url, "Give an address")
            for url in ("http://", "http:///v1", "http://[::1/v1", "http://h:99999", "http://a b")
        ),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(url, remedy):
    with pytest.raises(UserError) as error:
        check_url(url)
    assert error.value.code == 2 and remedy in str(error.value)
    assert "secret" not in str(error.value) and "sec/ret" not in str(error.value)


@pytest.mark.parametrize("verb", ["eval", "data", "doctor"])
def test_a_verb_names_the_missing_scheme(verb, board, capsys):
    more = () if verb != "doctor" else ("--out", str(board.parent))
    arguments = [verb, "--base_url", "127.0.0.1:8000/v1", *more]
    if verb != "doctor":
        assert seethink(verb, board, "127.0.0.1:8000/v1") == 2
    else:
        assert main(arguments) == 2
    assert "seethink: '127.0.0.1:8000/v1' is no address" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["eval", "data"])
@pytest.mark.parametrize(("status", "body"), [(200, ANSWER), (402, NO_CREDIT), (500, b"user:hunter2 k9secret")])
def test_a_password_in_an_address_is_used_and_never_written(verb, status, body, board, capfd, monkeypatch):
    monkeypatch.setattr(limits, "LATER", 0.0)
    with RawApi(body, status) as api:
        seethink(verb, board, f"http://user:hunter2@{api.address}/v1/?key=k9secret")
    (path, headers, _), *_ = api.requests
    assert path == "/v1/chat/completions?key=k9secret"
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'user:hunter2').decode()}"
    written = b"".join(p.read_bytes() for p in (board.parent / verb).rglob("*") if p.is_file())
    shown = "".join(capfd.readouterr()).encode()
    for secret in (b"hunter2", b"k9secret", base64.b64encode(b"user:hunter2")):
        assert secret not in written and secret not in shown
    assert b"***@" in (board.parent / verb / "config.json").read_bytes()


def test_public_is_fit_for_a_screen():
    assert public("https://u:p@h/v1?k=s#f") == "https://***@h/v1?***" and public("http://h:1/v1") == "http://h:1/v1"


@pytest.mark.parametrize("url", ["http://u:hunter2@h", "http://a,http://h?key=hunter2", "file:///etc/passwd", "h:1"])
def test_a_server_for_rollouts_takes_no_password(url):
    check_open("http://a:8000,https://b")
    with pytest.raises(UserError) as error:
        check_open(url)
    assert "hunter2" not in str(error.value)


def test_an_address_where_a_file_was_due_keeps_its_password_to_itself():
    where = "http:/user:hunter2@host/v1"  # as a path has it
    assert str(UserError("file not found", where=where)) == "http:/***@host/v1: file not found"


def test_a_study_which_writes_its_settings_down_takes_no_password(tmp_path):
    judge = {"scorer": "judge", "judge": {"model": "m", "url": "http://u:hunter2@host/v1"}}
    world = {"board": tmp_path / "board.jsonl", "base": tmp_path / "base", "data": {"rl": tmp_path / "rl.jsonl"}}
    arms = {"a": {"stage": "grpo", "data": "rl"}}
    config = build(StudyConfig, {"out": tmp_path, **world, "arms": arms, "grpo": {"reward": {"open": judge}}})
    with pytest.raises(UserError, match=r"arm a: a study writes down what http://\*\*\*@host/v1 hides"):
        check(config, files=False)


@pytest.mark.parametrize("price", [(-1.0, 2.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_a_price_that_would_make_a_budget_endless_is_refused(price):
    with pytest.raises((UserError, ValueError), match="price"):
        ask_all("http://127.0.0.1:9/v1", ["a"], price=price)


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", tmp_path / "k.pem", "-out", tmp_path / "c.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return tmp_path / "c.pem", tmp_path / "k.pem"


def test_a_certificate_of_ones_own_is_named_or_trusted(certificate, monkeypatch):
    with RawApi(tls=certificate) as api:
        monkeypatch.delenv(wire.CA_FILE, raising=False)
        with pytest.raises(UserError, match="certificate is not trusted.*SSL_CERT_FILE") as error:
            ask_all(api.base_url, ["a"])
        assert error.value.code == 3 and api.base_url in str(error.value)
        monkeypatch.setenv(wire.CA_FILE, str(certificate[0]))
        assert ask_all(api.base_url, ["a"])[0].text == "yes"
        monkeypatch.setattr(limits, "LATER", 0.0)
        with pytest.raises(UserError, match="does not answer.*https"):
            ask_all(api.base_url.replace("https", "http"), ["a", "b", "c"])
    with RawApi() as api, pytest.raises(UserError, match="no TLS connection.*is it http"):
        ask_all(api.base_url.replace("http", "https"), ["a"])


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_a_file_without_authorities_is_named(tmp_path, monkeypatch, text):
    (tmp_path / "ca.pem").write_text(text) if text else None
    monkeypatch.setenv(wire.CA_FILE, str(tmp_path / "ca.pem"))
    with pytest.raises(UserError, match=r"ca\.pem: no certificate authorities"):
        ask_all("https://127.0.0.1:9/v1", ["a"])


@pytest.mark.parametrize("key", ["sk-abc123def", "hf_abc123def", "my own", "AIzaSyABC"])
@pytest.mark.parametrize("setting", ["--api_key_env", "--reward.open.judge.key_env"])
def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated(key, setting, board, capsys):
    assert seethink("eval", board, "http://127.0.0.1:9/v1", setting, key) == 2
    error = capsys.readouterr().err
    assert "name of an environment variable is wanted" in error and key not in error
    assert not (board.parent / "eval").exists()


def test_a_key_that_no_header_carries_is_named(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-€")
    with pytest.raises(UserError, match="MY_KEY: the key holds characters"):
        ask_all("http://127.0.0.1:9/v1", ["a"], api_key_env="MY_KEY")


@pytest.mark.parametrize(("status", "name"), [(200, "too_large"), (500, "too_large")])
def test_a_reply_without_end_is_refused(monkeypatch, status, name):
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    with RawApi(b" " * 5000, status) as api:
        (failed,) = ask_all(api.base_url, ["a"])
    assert isinstance(failed, CallFailed) and failed.reason == name and len(api.requests) == 1


def test_a_moved_endpoint_says_where_to():
    moved = {"Location": "https://u:hunter2@new.host/v1?key=s"}
    words = r"moved to https://\*\*\*@new.host/v1\?\*\*\*\. Check"
    with RawApi(b"", 308, moved) as api, pytest.raises(UserError, match=words):
        ask_all(api.base_url, ["a"])


@pytest.mark.parametrize("verb", ["eval", "data"])
@pytest.mark.parametrize("body", [NO_CREDIT, {"error": {"message": "no", "code": "insufficient_quota"}}])
@pytest.mark.parametrize("status", [200, 402, 429])
def test_spent_credit_ends_the_run_and_drops_nothing(verb, body, status, board, capsys):
    with RawApi(body, status) as api:
        assert [seethink(verb, board, api.base_url) for _ in range(2)] == [3, 3]
    assert "credit" in capsys.readouterr().err
    assert not {"done.json", "drops.parquet"} & {path.name for path in (board.parent / verb).iterdir()}


def test_an_endpoint_that_refuses_everything_drops_nothing(board, capsys):
    with FakeApi(fault=lambda n, body: "400") as api:
        assert [seethink("data", board, api.base_url) for _ in range(2)] == [3, 3]
    assert "answered none of 4 questions (fault 400)" in capsys.readouterr().err
    assert '"pending": 4' in (board.parent / "data" / "funnel.json").read_text()


def test_a_proxy_is_used_for_hosts_that_are_not_here(monkeypatch):
    with RawApi() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:hunter2@{proxy.address}")
        monkeypatch.setenv("no_proxy", "")
        assert ask_all("http://far.example/v1", ["a"])[0].text == "yes"
        path, headers, _ = proxy.requests[0]
        assert path == "http://far.example/v1/chat/completions"
        assert headers["Proxy-Authorization"] == f"Basic {base64.b64encode(b'me:hunter2').decode()}"
        monkeypatch.setenv("http_proxy", "socks5://me:hunter2@127.0.0.1:9")
        with pytest.raises(UserError, match=r"http_proxy: socks5://\*\*\*@127.0.0.1:9 is no HTTP proxy"):
            ask_all("http://far.example/v1", ["a"])


def test_one_question_of_a_step_does_not_keep_the_others_from_their_end(board, capsys):
    """The judge is asked once, because of an open question, and refuses it; rules decide the other three."""
    board.write_text(board.read_text().replace('"kind": "digit"', '"kind": "open"', 1))

    def answer(body):
        text = last_text(body)
        return text[text.rfind("<think>") :] if text.rfind("</think>") > 0 else "<think>I see.</think>\n1"

    def refuse(n, body):
        return "400" if body["max_tokens"] == 8 else None

    with FakeApi(answer, refuse) as api:
        assert seethink("data", board, api.base_url) == 0
    assert "verify/refused 1" in capsys.readouterr().out


def test_a_moderated_item_is_dropped_alone(board, capsys):
    with RawApi(FLAGGED, 403) as api:
        assert seethink("data", board, api.base_url) == 0
    assert "distill/filtered 4" in capsys.readouterr().out and len(api.requests) == 4


@pytest.mark.parametrize("shape", ["chat", "eval", "data"])
def test_many_calls_refused_at_once_end_in_one_line(shape, board, capfd):
    with FakeApi(fault=lambda n, body: "401", latency=0.01) as api:
        for _ in range(3):
            if shape == "chat":
                with pytest.raises(UserError):
                    ask_all(api.base_url, [str(n) for n in range(32)])
            else:
                assert seethink(shape, board, api.base_url) == 3
    gc.collect()
    lines = [line for line in capfd.readouterr().err.splitlines() if not re.match(rf"{shape} \d/4", line)]
    assert [line[:9] for line in lines] == ([] if shape == "chat" else ["seethink:"] * 3), lines


def test_a_caller_that_left_does_not_hear_of_a_refusal(capfd):
    """One is refused and ends the run; the others are refused while nobody waits for them any more."""

    async def main():
        async with Client(Endpoint(base_url=api.base_url, model="m"), Ledger(":memory:")) as client:
            asking = asyncio.create_task(client.chat(user_message("a")))
            while not client._running:
                await asyncio.sleep(0.001)
            asking.cancel()
            while client._running:
                await asyncio.sleep(0.01)

    with FakeApi(fault=lambda n, body: "401") as api:
        asyncio.run(main())
    gc.collect()
    assert "".join(capfd.readouterr()) == ""


def test_a_wait_of_hours_is_said_at_once_and_ends_the_run(monkeypatch, capsys):
    monkeypatch.setattr(limits, "PATIENCE", 0.5)
    words, wait = "asks to wait 10 hours.*free-models-per-day", {"Retry-After": "36000"}
    api = RawApi({"error": {"message": "free-models-per-day"}}, 429, wait)
    with api, pytest.raises(UserError, match=words) as error:
        ask_all(api.base_url, [str(n) for n in range(8)])
    assert error.value.code == 3 and "continues" in error.value.remedy
    assert capsys.readouterr().err.count("the endpoint asks to wait 10 hours (free-models-per-day)") == 1


@pytest.mark.parametrize("usage", [-(10**9), 10**30, 1e999, "many", 0])
def test_no_count_of_tokens_makes_a_budget_endless(usage, tmp_path):
    body = {**ANSWER, "usage": {"prompt_tokens": usage, "completion_tokens": usage}}
    ledger = Ledger(tmp_path / "l.sqlite")
    endpoint = {"price": (1e6, 1e6), "params": {"max_tokens": 4}, "in_flight": 1}
    with RawApi(body) as api, pytest.raises(UserError) as error:
        ask_all(api.base_url, ["x" * 40 + str(n) for n in range(200)], ledger, budget=limits.Budget(1000.0), **endpoint)
    assert error.value.code == 4 and 0 < ledger.spent() <= 1000 and len(api.requests) < 200


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_cap_travels_under_the_name_that_is_wanted(name, board):
    with FakeApi(lambda body: "<answer>1</answer>" + last_text(body)[:0]) as api:
        assert seethink("eval", board, api.base_url, "--tokens_param", name, "--max_tokens", "9") == 0
    assert all({k: b[k] for k in b if k.startswith("max_")} == {name: 9} for b in api.bodies)


@pytest.mark.parametrize("value", ["8", 0, -1, 1.5])
def test_a_cap_that_is_no_number_is_refused(value):
    with pytest.raises(UserError, match="max_tokens is"):
        ask_all("http://127.0.0.1:9/v1", ["a"], params={"max_tokens": value})
