"""`seethink reward serve` among strangers: what is malformed is refused, what is slow is put out, the honest are answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import serve_abuse as abuse  # pyright: ignore[reportMissingImports]

from seethink.ask import intake
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder, serve
from seethink.rewards.config import SymbolicConfig
from seethink.rewards.maths.decide import by_algebra

ASKED = json.dumps({"samples": [{"kind": "digit", "gold": "7"}], "responses": [compose("", "7")]}).encode()
REFUSED = {"bomb": "413", "too long": "413", "method": "405"}


@contextlib.contextmanager
def serving(rewarder: Rewarder | None = None) -> Iterator[str]:
    """Address of a server in a thread."""
    loop, found, ready = asyncio.new_event_loop(), {}, threading.Event()

    async def work() -> None:
        def say(url: str) -> None:
            found["url"] = url
            ready.set()

        found["task"] = asyncio.current_task()
        with contextlib.suppress(asyncio.CancelledError):
            await serve.listen(serve.Service(rewarder or Rewarder()), "127.0.0.1", 0, 60, say)

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        assert ready.wait(20)
        yield found["url"]
    finally:
        loop.call_soon_threadsafe(found["task"].cancel)
        thread.join()
        loop.close()


def tell(url: str, data: bytes, patience: float = 30) -> str:
    return asyncio.run(abuse.ask(url, data, patience))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.mark.parametrize("name", abuse.MALFORMED)
def test_what_is_malformed_is_refused_without_a_traceback(url, name, caplog):
    assert tell(url, abuse.MALFORMED[name]) == REFUSED.get(name, "400")
    assert tell(url, abuse.request(ASKED)) == "200"
    assert not caplog.records


def test_a_crowd_is_answered_and_so_are_the_honest(url):
    """Malformed, slow and large requests at once: nobody fails, nothing is kept of them."""
    given = type(
        "Given", (), {"malformed": 3 * len(abuse.MALFORMED), "slow": 20, "large": 1, "batches": 0, "seconds": 3.0}
    )
    crowd = threading.Thread(target=lambda: asyncio.run(abuse.abuse(url, given)))
    crowd.start()
    _, told = abuse.honest(url, 1.5)
    crowd.join()
    assert set(told) == {"honest: 200"}


@pytest.mark.parametrize("easy", [{"kind": "digit", "gold": "7"}, {"kind": "open", "gold": "7"}])
def test_an_easy_request_does_not_wait_for_slow_batches(easy):
    """They are held until the easy one, by rules or by a scorer, has its answer."""
    held = threading.Event()

    class Slow(Rewarder):
        def finish(self, begun):
            if by_algebra in begun.waiting:
                assert held.wait(30)
            return super().finish(begun)

    hard = {"kind": "math", "gold": "\\lim_{n} f(n)"}
    slow, quick = (
        json.dumps({"samples": [sample], "responses": [compose("", answer)]}).encode()
        for sample, answer in ((hard, "\\lim_{n} g(n)"), (easy, "7"))
    )
    with serving(Slow(RewardConfig(symbolic=SymbolicConfig(on=False)))) as url:
        told: list[str] = []
        waiting = [threading.Thread(target=lambda: told.append(tell(url, abuse.request(slow)))) for _ in range(12)]
        for thread in waiting:
            thread.start()
        assert tell(url, abuse.request(quick)) == "200" and not told
        held.set()
        for thread in waiting:
            thread.join()
    assert told == ["200"] * 12


def test_many_responses_come_back_in_order(url):
    golds = [str(n % 7) for n in range(50)]
    body = {"samples": [{"kind": "digit", "gold": g} for g in golds], "responses": [compose("", "3") for _ in golds]}
    reader = _read(url, abuse.request(json.dumps(body).encode(), "Connection: close"))
    rewards = json.loads(reader.partition(b"\r\n\r\n")[2])["rewards"]
    assert [r["value"] for r in rewards] == [float(g == "3") for g in golds]


def test_half_a_character_is_no_end_of_a_batch(url):
    body = ASKED.replace(b"7<", b"7 \\ud83d<")
    assert tell(url, abuse.request(body)) == "200"


@pytest.mark.parametrize("sent", abuse.SLOW.values(), ids=list(abuse.SLOW))
def test_who_leaves_leaves_no_traceback(url, sent, caplog):
    assert tell(url, sent, patience=0.2) == "nothing"
    assert tell(url, abuse.request(ASKED)) == "200"
    assert not caplog.records


@pytest.mark.parametrize("sent", abuse.SLOW.values(), ids=list(abuse.SLOW))
def test_who_sends_half_a_request_is_put_out(monkeypatch, sent):
    for module in (intake, serve):
        for name in ("IDLE_SECONDS", "BODY_SECONDS"):
            monkeypatch.setattr(module, name, 0.2, raising=False)
    with serving() as url:
        assert tell(url, sent, patience=10) in ("closed", "408")


def test_where_there_are_too_many_the_longest_waiting_is_put_out(monkeypatch):
    monkeypatch.setattr(intake, "CONNECTIONS", 5)
    with serving() as url:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        idle = []
        for _ in range(8):
            idle.append(socket.create_connection((host, int(port))))
            time.sleep(0.05)
        assert tell(url, abuse.request(ASKED)) == "200"
        idle[0].settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
        for connection in idle:
            connection.close()


def test_bodies_share_a_room_that_is_given_back():
    room = intake.Room(100)

    def taken(*sizes: int) -> int:
        with room.share() as share:
            for size in sizes:
                share.take(size)
            return room.taken

    assert taken(10, 20, 50) == 50 and room.taken == 0
    with room.share() as first, room.share() as second:
        first.take(50)
        _fails(intake.web.HTTPRequestEntityTooLarge, lambda: second.take(51))
        second.take(50)
        _fails(intake.web.HTTPServiceUnavailable, lambda: _take(room, 11))  # small ones have a tenth more
        _take(room, 10)
    assert room.taken == 0


def test_what_json_makes_of_a_body_is_reckoned_before_it_is_made():
    """Three bytes of `{},` are a hundred of memory: 24 MB of them are refused unread."""
    with intake.Room().share() as share:
        _fails(intake.web.HTTPRequestEntityTooLarge, lambda: intake.unpack(abuse.DENSE, "", share))
        assert intake.unpack(b'{"a": "' + b"text, with words " * 100_000 + b'"}', "", share)


def _take(room: intake.Room, size: int) -> None:
    with room.share() as share:
        share.take(size)


def _fails(kind: type[Exception], call: Callable[[], object]) -> None:
    with pytest.raises(kind):
        call()


def _read(url: str, data: bytes) -> bytes:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
