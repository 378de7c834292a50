"""Open answers scored by a reward server: equal to scoring here, and never a guess where the server fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.tags import compose
from seethink.rewards import Rewarder
from seethink.rewards.config import OpenConfig, RemoteConfig, RewardConfig
from seethink.rewards.open.formula import OpenItem
from seethink.rewards.open.remote import BATCH, Remote
from tests.test_rewards_serve import serving

PICTURE_REPLY = "a red ball lies under the old wooden table"


def test_rewards_are_those_of_the_server():
    samples = [Sample(str(n), "s", (), "what is there ?", PICTURE_REPLY, "open") for n in range(2 * BATCH + 3)]
    words = PICTURE_REPLY.split()
    responses = [compose("i look .", " ".join(words[: 1 + n % len(words)])) for n in range(len(samples))]
    with Rewarder(RewardConfig()) as here, serving(here) as url:
        config = RewardConfig(open=OpenConfig(scorer="remote", remote=RemoteConfig(url=url)))
        with Rewarder(config) as there:
            ours, theirs = (r.score_batch(samples, responses) for r in (there, here))
    assert [r.value for r in ours] == [r.value for r in theirs] and len({r.value for r in ours}) == len(words)


def test_no_server_is_said_at_the_start():
    with pytest.raises(UserError, match="no reward server answers .*seethink reward serve"):
        Remote(RemoteConfig(url="http://127.0.0.1:9", seconds=2))


@pytest.fixture
def broken() -> Iterator[tuple[str, dict]]:
    """A server whose reply to /score the test chooses."""
    reply: dict = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._say(json.dumps({"status": "ok"}).encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(reply["body"])

        def _say(self, body: bytes):
            self.send_response(reply.get("code", 200))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", reply
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no json", b"[]", b"{}", b'{"rewards": []}', b'{"rewards": [{"value": 2.0}]}', b'{"rewards": [{"value": "1"}]}',
        b'{"rewards": [{"value": true}]}', b'{"rewards": [{}]}', b'{"rewards": [{"value": NaN}]}',
    ],
)  # fmt: skip
def test_a_reply_that_is_none_is_no_score(broken, body):
    url, reply = broken
    reply["body"] = body
    assert Remote(RemoteConfig(url=url)).score_batch([OpenItem("q", "a", "r")]) == [None]


def test_what_the_server_leaves_undecided_stays_so(broken):
    url, reply = broken
    reply["body"] = b'{"rewards": [{"value": null}, {"value": 0.25}]}'
    assert Remote(RemoteConfig(url=url)).score_batch([OpenItem("q", "a", "r")] * 2) == [None, 0.25]


def test_a_server_that_goes_away_stops_the_run_and_pays_nobody(broken):
    url, reply = broken
    reply |= {"body": b"busy"}
    config = RewardConfig(open=OpenConfig(scorer="remote", remote=RemoteConfig(url=url)))
    samples = [Sample(str(n), "s", (), "?", PICTURE_REPLY, "open") for n in range(40)]
    with Rewarder(config) as rewarder:
        rewarder.scorer()
        reply["code"] = 503
        with pytest.raises(UserError) as raised:
            rewarder.score_batch(samples, [compose("", f"a ball number {n}") for n in range(40)])
    assert raised.value.code == 3
