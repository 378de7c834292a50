"""The client against a server with faults."""

import asyncio
import gc
import http.client
import json
import socket
import stat
import threading
import time

import pytest
from PIL import Image

from seethink.ask import Budget, CallFailed, Client, Endpoint, Ledger, NotCached, Reply, limits, user_message
from seethink.ask.client import YOUNG
from seethink.ask.faults import retry_after, scrub
from seethink.ask.limits import Limiter
from seethink.ask.local import MAX_BODY, LocalServer, Served
from seethink.ask.messages import call_key, estimate_tokens
from seethink.ask.rates import Rate, read_duration, read_left
from seethink.core.errors import UserError
from tests.fake_api import FakeApi, echo, last_text


def ask_all(base_url, texts, ledger=None, model="m", budget=None, dry=False, **endpoint):
    """Replies or CallFailed, in the order of `texts`; a UserError is raised."""

    async def main():
        settings = Endpoint(base_url=base_url, model=model, **endpoint)
        async with Client(settings, ledger or Ledger(":memory:"), budget, dry, backoff=0.01) as client:
            results = await asyncio.gather(*(client.chat(user_message(t)) for t in texts), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, CallFailed | NotCached):
                raise result
        return results

    return asyncio.run(main())


def test_an_answer_is_asked_for_once(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    with FakeApi() as api:
        first = ask_all(api.base_url, ["a", "b", "a"], ledger)
        again = ask_all(api.base_url, ["b", "a"], ledger)
        assert len(api.bodies) == 2
    assert [r.text for r in first] == ["echo a", "echo b", "echo a"]
    assert [r.cached for r in again] == [True, True] and again[1].text == "echo a"
    assert (first[0].model, first[0].stop, first[0].prompt_tokens, first[0].usd) == ("m-0001", "stop", 1, None)
    assert stat.S_IMODE((tmp_path / "l.sqlite").stat().st_mode) == 0o600


def test_answers_are_found_by_another_process_and_port(tmp_path):
    with FakeApi() as api:
        ask_all(api.base_url, ["a"], Ledger(tmp_path / "l.sqlite"))
    with FakeApi() as api:
        assert ask_all(api.base_url, ["a"], Ledger(tmp_path / "l.sqlite"))[0].cached
        assert not api.bodies


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "drop", "empty", "hang"])
def test_a_passing_fault_costs_one_more_attempt(fault):
    ledger = Ledger(":memory:")
    with FakeApi(fault=lambda n, body: fault if n == 0 else None) as api:
        (reply,) = ask_all(api.base_url, ["a"], ledger, timeout=2 if fault == "hang" else 60)
        assert len(api.bodies) == 2
    assert reply.text == "echo a"
    assert [(r["calls"], r["attempts"]) for r in ledger.spending()] == [(1, 2)]


@pytest.mark.parametrize(
    ("fault", "reason", "attempts"),
    [("400", "refused", 1), ("filter", "filtered", 1), ("empty", "empty", 4), ("500", "server", 8)],
)
def test_a_question_without_answer_fails_alone_and_is_not_cached(fault, reason, attempts):
    ledger = Ledger(":memory:")
    with FakeApi(fault=lambda n, body: fault if last_text(body) == "bad" else None) as api:
        good, bad = ask_all(api.base_url, ["good", "bad"], ledger)
        assert good.text == "echo good" and bad.reason == reason
        assert sum(last_text(b) == "bad" for b in api.bodies) == attempts
        api.fault = lambda n, body: None
        assert ask_all(api.base_url, ["bad"], ledger)[0].text == "echo bad"


@pytest.mark.parametrize(
    ("fault", "word"), [("401", "OPENAI_API_KEY"), ("402", "credit"), ("404", "'m'"), ("quota", "credit")]
)
def test_what_no_question_survives_stops_the_run(fault, word):
    with FakeApi(fault=lambda n, body: fault) as api, pytest.raises(UserError) as error:
        ask_all(api.base_url, ["a"])
    assert error.value.code == 3 and word in str(error.value) and error.value.where == api.base_url


def test_a_dead_endpoint_is_named_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        ask_all(base_url, [str(n) for n in range(100)])
    assert time.monotonic() - start < 60, "it does not wait for every question in turn"
    assert error.value.code == 3 and base_url in str(error.value) and "refused" in str(error.value)


def test_one_poisoned_question_does_not_condemn_a_slow_endpoint():
    with FakeApi(fault=lambda n, body: "500" if last_text(body) == "bad" else None, latency=0.05) as api:
        results = ask_all(api.base_url, ["bad", *(str(n) for n in range(40))], in_flight=8)
    assert isinstance(results[0], CallFailed) and all(r.text for r in results[1:])


def test_the_last_questions_alone_condemn_no_endpoint(monkeypatch):
    """With no other call out, nothing shows that it lives: two that only ever fail run out of tries, three are many."""
    monkeypatch.setattr(limits, "LATER", 0.0)
    with FakeApi(fault=lambda n, body: "500" if last_text(body).startswith("bad") else None) as api:
        results = ask_all(api.base_url, ["good", "bad 1", "bad 2"])
        assert [type(r) for r in results] == [Reply, CallFailed, CallFailed]
        with pytest.raises(UserError, match="does not answer") as error:
            ask_all(api.base_url, ["bad 1", "bad 2", "bad 3"])
    assert error.value.code == 3


def test_fault_mix_is_answered_completely():
    """5 % 429, 3 % 500, 1 % hang, 1 % cut JSON."""
    faults = {**dict.fromkeys((3, 23, 43, 63, 83), "429"), **dict.fromkeys((13, 53, 93), "500"), 33: "hang", 73: "cut"}
    ledger = Ledger(":memory:")
    with FakeApi(fault=lambda n, body: faults.get(n % 100)) as api:
        start = time.monotonic()
        replies = ask_all(api.base_url, [str(n) for n in range(400)], ledger, in_flight=64, timeout=5.0)
        assert time.monotonic() - start < 120
        assert {r.text for r in replies} == {f"echo {n}" for n in range(400)}
        assert ledger.spending()[0]["attempts"] == len(api.bodies)


def test_in_flight_is_bounded():
    five = threading.Barrier(5, timeout=30)  # nobody is answered before five have asked
    with FakeApi(lambda body: echo(body) if five.wait() >= 0 else "", latency=0.02) as api:
        ask_all(api.base_url, [str(n) for n in range(60)], in_flight=5)
        assert api.most_in_flight == 5


def test_budget_is_never_exceeded_and_failures_count(tmp_path):
    """Each call is priced one dollar per completion token; the answer has two tokens, the cap on tokens is four."""
    ledger = Ledger(tmp_path / "l.sqlite")
    settings = {"price": (0.0, 1e6), "params": {"max_tokens": 4}, "in_flight": 8}
    with FakeApi(fault=lambda n, body: "cut" if n == 0 else None, latency=0.01) as api:
        with pytest.raises(UserError) as error:
            ask_all(api.base_url, [str(n) for n in range(50)], ledger, budget=Budget(20.0), **settings)
        assert error.value.code == 4
        assert 16 < ledger.spent() <= 20
        with pytest.raises(UserError):
            ask_all(api.base_url, ["new"], ledger, budget=Budget(20.0, ledger.spent()), **settings)


def test_a_budget_needs_prices():
    with pytest.raises(UserError, match="price"):
        ask_all("http://127.0.0.1:9/v1", ["a"], budget=Budget(1.0))


def test_a_request_cut_by_a_kill_counts_as_paid(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sent("k", "s", "m", 2.5)
    ledger.close()
    again = Ledger(tmp_path / "l.sqlite")
    assert again.spent() == 2.5 and again.spending()[0]["lost"] == 1


def test_dry_client_calls_nothing():
    with FakeApi() as api:
        (result,) = ask_all(api.base_url, ["four words of text"], dry=True)
        assert isinstance(result, NotCached) and result.prompt_tokens == 4 and not api.bodies


def test_reasoning_is_kept_apart_and_a_cut_answer_says_so():
    with FakeApi(answer=lambda b: {"content": None, "reasoning_content": "hm"}, fault=lambda n, b: "length") as api:
        (reply,) = ask_all(api.base_url, ["a"])
    assert (reply.text, reply.reasoning, reply.stop) == ("", "hm", "length")


def test_the_key_is_sent_but_never_kept(tmp_path, monkeypatch):
    canary = "canary-0123456789"
    monkeypatch.setenv("MY_KEY", canary)
    ledger = Ledger(tmp_path / "l.sqlite")
    with FakeApi(fault=lambda n, body: "500" if n < 2 else "400", echo_headers=True) as api:
        (failed,) = ask_all(api.base_url, ["a"], ledger, api_key_env="MY_KEY")
    ledger.close()
    assert "fault 400" in failed.detail and canary not in failed.detail and "[key]" in failed.detail
    assert all(canary.encode() not in p.read_bytes() for p in tmp_path.iterdir())


def test_images_are_known_by_content(tmp_path):
    for name, colour in (("a.png", "red"), ("b.png", "red"), ("c.bmp", "blue")):
        Image.new("RGB", (4, 4), colour).save(tmp_path / name)
    same, moved, other = (call_key("m", user_message("x", [tmp_path / f]), {}, 0) for f in ("a.png", "b.png", "c.bmp"))
    assert same == moved != other and len(same) == 32
    seen = []
    with FakeApi(answer=lambda b: seen.append(b["messages"][0]["content"]) or "ok") as api:

        async def main():
            async with Client(Endpoint(base_url=api.base_url, model="m"), Ledger(":memory:")) as client:
                await client.chat(user_message("look", [tmp_path / "a.png", tmp_path / "c.bmp"]))

        asyncio.run(main())
    assert [p["type"] for p in seen[0]] == ["image_url", "image_url", "text"]
    assert all(p["image_url"]["url"].startswith("data:image/png;base64,") for p in seen[0][:2])


def test_key_depends_on_every_part_of_the_question():
    keys = {
        call_key("m", user_message("x"), {"temperature": 0}, 0),
        call_key("n", user_message("x"), {"temperature": 0}, 0),
        call_key("m", user_message("y"), {"temperature": 0}, 0),
        call_key("m", user_message("x"), {"temperature": 1}, 0),
        call_key("m", user_message("x"), {"temperature": 0}, 1),
    }
    assert len(keys) == 5


def test_estimate_counts_text_and_images():
    assert estimate_tokens(user_message("a" * 40, ["x.png"])) == 1110


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("secret", ["sk-abcdef123456", "AIzaSyABCDEF", "Bearer abc.def", "my-own-key"])
def test_scrub(secret):
    assert secret not in scrub(f"error {secret} end", "my-own-key")


def test_limiter_cuts_at_bursts_only_and_straight_to_what_was_accepted():
    """Of 32 calls 20 are refused: 12 is what the endpoint takes."""

    async def main():
        limiter = Limiter(32)
        for _ in range(32):
            await limiter.enter()
        for refused in range(20):
            limiter.throttled(0.05)
            limiter.leave()
            assert limiter.limit == 32, "nothing is decided before it is known who was refused"
            assert (limiter._shut is None) == (refused < 2)
        waiting = [asyncio.create_task(limiter.enter()) for _ in range(20)]
        for _ in range(4):
            limiter.answered()
            limiter.leave()
        await asyncio.sleep(0)
        assert limiter.in_flight == 8, "nobody comes in while the gate is shut"
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert limiter.limit == limiter.in_flight == 12
        for _ in range(16):
            limiter.leave()
        assert all(task.done() for task in await asyncio.sleep(0, waiting))
        for _ in range(100):
            limiter.answered()
        assert 12.7 < limiter.limit < 13, "beyond what was once too much it grows slowly"

    asyncio.run(main())


def test_later_steps_go_first_and_whoever_gives_up_leaves_no_place_taken():
    async def main():
        limiter, order = Limiter(1), []

        async def call(name, rank):
            await limiter.enter(rank=rank)
            order.append(name)
            await asyncio.sleep(0)
            limiter.leave()

        await limiter.enter()
        tasks = {
            n: asyncio.create_task(call(n, rank)) for n, rank in (("a", 0), ("b", 0), ("x", 3), ("c", 1), ("d", 3))
        }
        await asyncio.sleep(0)
        tasks.pop("x").cancel()
        limiter.leave()
        await asyncio.gather(*tasks.values())
        assert order == ["d", "c", "a", "b"] and limiter.in_flight == 0
        await limiter.enter()
        late = asyncio.create_task(limiter.enter())
        await asyncio.sleep(0)
        limiter.leave()  # `late` is let in, and cancelled before it runs again
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert limiter.in_flight == 0

    asyncio.run(main())


def test_a_rate_lets_through_no_more_than_its_limit_in_any_minute():
    """Oracle: every window of a minute, counted."""
    for limit, amount in ((3, 1), (600, 1), (1000, 37), (100, 250)):
        rate, now, left = Rate(limit), 0.0, []
        while now < 600:
            if (wait := rate.wait(amount, now)) > 0:
                now += max(wait, 1e-6)
                continue
            rate.take(amount, now)
            left.append(now)
        windows = [sum(start <= t < start + 60 - 1e-6 for t in left) * amount for start in left]
        assert max(windows) <= max(limit, amount) + (amount if amount > 1 else 0)
        assert 0.9 <= len(left) * amount / (limit * 10) <= 1.1 + amount / limit / 10, (limit, amount, len(left))


def test_an_estimate_that_was_too_high_is_given_back_and_zero_left_means_wait():
    rate = Rate(6000)
    rate.take(6000, 0.0)
    assert rate.wait(50, 0.0) > 30
    rate.take(-5950, 0.0)
    assert rate.wait(50, 0.0) == 0
    free = Rate(None)
    assert free.wait(1e9, 0.0) == 0
    free.announced(100, 7.0, now=1.0)
    assert free.wait(100, 1.0) == 0
    free.take(100, 1.0)
    assert free.wait(1, 2.0) == 6 and free.wait(1, 8.0) == 0
    free.announced(0, 86400, now=8.0)
    assert free.wait(1, 8.0) == 60, "no longer than a minute on the word of a header"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("7.66s", 7.66), ("2m59.56s", 179.56), ("1h2m3.5s", 3723.5), ("1d", 86400),
        ("0", 0), ("12.5", 12.5), (" 3s ", 3), ("", None), ("soon", None), ("-1", None), ("1s2m", None), ("s", None), ("١", None),
    ],
)  # fmt: skip
def test_durations_of_headers(text, seconds):
    assert read_duration(text) == (seconds if seconds is None else pytest.approx(seconds))
    headers = {"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": text}
    assert (read_left(headers, "tokens") is None) == (seconds is None) and read_left(headers, "requests") is None


def test_a_budget_is_held_exactly_and_its_line_moves_on():
    """Sums of a third of a cent return to zero; who cannot be paid any more hears so, whoever waits behind."""

    async def main():
        budget, done = Budget(0.01), []

        async def call(usd):
            async with budget.hold(usd):
                assert budget.spent + budget.held <= 0.01
                await asyncio.sleep(0)
                budget.pay(usd / 2)
            done.append(usd)

        results = await asyncio.gather(*(call(0.01 / 3) for _ in range(40)), return_exceptions=True)
        assert budget.held == 0 and 0.0066 < budget.spent <= 0.01
        assert len(done) == 4 and {r.code for r in results if r} == {4}
        waiting = asyncio.create_task(call(1.0))
        with pytest.raises(UserError):
            await waiting

    asyncio.run(main())


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    (tmp_path / "l.sqlite").write_text("not a database, but long enough to be read as one" * 50)
    with pytest.raises(UserError, match="cannot use the ledger"):
        Ledger(tmp_path / "l.sqlite")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/models", "", 200),
        ("GET", "/v1/nothing", "", 404),
        ("POST", "/v1/nothing", "{}", 404),
        ("POST", "/v1/chat/completions", "{", 400),
        ("POST", "/v1/chat/completions", "[]", 400),
        ("POST", "/v1/chat/completions", '{"model": "m"}', 400),
        ("POST", "/v1/chat/completions", '{"model": "m", "messages": []}', 200),
        ("POST", "/v1/chat/completions", None, 413),
    ],
)
def test_the_local_server_is_silent_and_bounded(method, path, body, status, capfd):
    with LocalServer(lambda body, headers: Served("yes"), ["m"]) as server:
        connection = http.client.HTTPConnection(server.base_url.split("/")[2], timeout=10)
        length = str(MAX_BODY + 1 if body is None else len(body))
        connection.request(method, path, body, {"Content-Length": length, "Authorization": "Bearer secret"})
        response = connection.getresponse()
        value = json.loads(response.read())
        connection.close()
    assert response.status == status and ("error" in value) == (status != 200)
    assert "".join(capfd.readouterr()) == ""


def test_a_port_that_is_taken_is_named():
    taken = LocalServer(lambda body, headers: Served("yes"), ["m"])
    port = int(taken.base_url.split(":")[2].split("/")[0])
    with pytest.raises(UserError, match=f"port {port} cannot be used"):
        LocalServer(taken.respond, ["m"], port)
    taken.close()
    LocalServer(taken.respond, ["m"], port).close()


def test_clients_that_end_in_any_order_leave_pythons_searches_for_garbage_as_they_were():
    usual = gc.get_threshold()

    async def main():
        first, second = (
            Client(Endpoint(base_url="http://127.0.0.1:9/v1", model="m"), Ledger(":memory:")) for _ in "ab"
        )
        for step in (first.__aenter__(), second.__aenter__(), first.__aexit__(None), second.__aexit__(None)):
            await step
            yield gc.get_threshold()

    async def seen():
        return [threshold async for threshold in main()]

    fewer = (YOUNG, *usual[1:])
    assert usual[0] < YOUNG and asyncio.run(seen()) == [fewer, fewer, fewer, usual] and gc.get_threshold() == usual
