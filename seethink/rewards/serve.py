"""`seethink reward serve`: rewards over HTTP, for trainers that ask a remote reward model.

    POST /         {"query": [...], "prompts": [...], "labels": [...]}     OpenRLHF's protocol: rewards, scores, extra_logs
    POST /score    {"samples": [sample rows], "responses": [...]}          {"rewards": [{value, status, answer, detail}]}
    GET  /health   {"status": "ok", "scorer": hash of what scores open answers}

The server listens on loopback. Elsewhere it demands a bearer token, from an environment variable and never logged.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from seethink.ask import intake
from seethink.ask.intake import (
    IDLE_SECONDS,
    MAX_BODY,
    READ_AHEAD,
    REPLY_SECONDS,
    Door,
    Room,
    Share,
    parse,
    read_body,
    unpack,
)
from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample, sample_from_row
from seethink.core.store import hash_json, well_formed
from seethink.rewards.adapters.openrlhf import asked, told
from seethink.rewards.config import ServeConfig
from seethink.rewards.kinds import Later
from seethink.rewards.rewarder import Rewarder

SLICE, STEP_SECONDS = 4, 0.005
"""Responses decided at once, and the time after which another request has its turn."""
REFUSED = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
"""What is wrong with requests that are no HTTP, or whose client has left."""


class Service:
    """Request handlers around one rewarder.

    What rules decide is decided at once, a few responses of every request in turn: threads would only pass the interpreter
    lock around. What needs a computer algebra system or a scorer waits for its thread, and holds up only its own kind.
    """

    def __init__(self, rewarder: Rewarder, token: str = ""):
        self._rewarder, self._token = rewarder, token
        # one batch of a kind at a time: a scorer may hold a model that moves between devices
        self._turns: defaultdict[Later, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._room = Room()
        self.door: Door | None = None

    def app(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            """Token first, then user errors as 400 with their text."""
            given, token = request.headers.get("Authorization", "").removeprefix("Bearer "), self._token.encode()
            if token and request.path != "/health" and not hmac.compare_digest(given.encode(errors="replace"), token):
                return web.json_response({"error": "token missing or wrong"}, status=401)
            try:
                return await handler(request)
            except UserError as error:
                return web.json_response({"error": str(error)}, status=400 if error.code == 2 else 503)

        app = web.Application(client_max_size=MAX_BODY, middlewares=[guard])
        app.add_routes([web.post("/", self.openrlhf), web.post("/score", self.score), web.get("/health", self.health)])
        return app

    async def health(self, _: web.Request) -> web.Response:
        of = self._rewarder.config.open  # its hash: what lies where is nobody's business here
        scorer = hash_json([of.scorer, of.path, of.revision, of.mode, of.beta, of.margin, of.judge.model])
        return web.json_response({"status": "ok", "scorer": scorer})

    async def openrlhf(self, request: web.Request) -> web.Response:
        return await self._answer(request, OPENRLHF)

    async def score(self, request: web.Request) -> web.Response:
        return await self._answer(request, SCORE)

    async def _answer(self, request: web.Request, form: Form) -> web.Response:
        with self._room.share() as share:
            body = await read_body(request, share)
            busy: set[object] = self.door.busy if self.door else set()
            busy.add(request.protocol)
            try:
                job = Job(form, self._rewarder, body, request.headers.get("Content-Encoding", ""), share)
                del body
                while job.step():
                    await asyncio.sleep(0)
                async with AsyncExitStack() as turns:
                    for later in sorted(job.begun.waiting, key=lambda later: later.__name__):
                        await turns.enter_async_context(self._turns[later])
                    if job.begun.waiting:
                        await asyncio.to_thread(job.finish)
            finally:
                busy.discard(request.protocol)
            reply = web.Response(text=job.text, content_type="application/json")
            try:
                async with asyncio.timeout(REPLY_SECONDS):  # until it is taken, it takes room
                    await reply.prepare(request)
                    await reply.write_eof()
            except TimeoutError:
                raise ConnectionResetError from None
        return reply


class Form(NamedTuple):
    """One form of request and reply."""

    keys: tuple[str, ...]
    """The lists that it holds."""
    read: Callable[[dict[str, Any], slice], tuple[list[Sample], list[str]]]
    """Samples and responses of a part of the lists."""
    tell: Callable[[list[Sample], list[Reward]], dict[str, Any]]


def _read_score(body: dict[str, Any], at: slice) -> tuple[list[Sample], list[str]]:
    rows = enumerate(body["samples"][at], at.start)
    samples = [sample_from_row({"id": str(i), "question": "", **row}, f"sample {i}") for i, row in rows]
    return samples, body["responses"][at]


SCORE = Form(
    ("samples", "responses"), _read_score, lambda _, rewards: {"rewards": [asdict(reward) for reward in rewards]}
)
OPENRLHF = Form(
    ("query", "prompts", "labels"),
    lambda body, at: asked(body["query"][at], body["prompts"][at], body["labels"][at], at.start),
    lambda samples, rewards: told(samples, rewards, "zero"),
)


class Job:
    """A request on its way from body to reply, in steps of a few responses each."""

    def __init__(self, form: Form, rewarder: Rewarder, body: bytes, packed: str, share: Share):
        self._form, self._rewarder, self._packed, self._share = form, rewarder, packed, share
        self._body: bytes | None = body
        self._lists: dict[str, Any] = {}
        self.begun, self.text = rewarder.begin([], []), ""

    def step(self) -> bool:
        """True while rules have more to decide. Raises UserError for what is no request."""
        if self._body is not None:
            self._lists = parse(unpack(self._body, self._packed, self._share), *self._form.keys)
            self._body = None
        count, end = len(self._lists[self._form.keys[0]]), time.perf_counter() + STEP_SECONDS
        while (start := len(self.begun.samples)) < count and time.perf_counter() < end:
            samples, responses = self._form.read(self._lists, slice(start, start + SLICE))
            self._rewarder.begin(samples, well_formed(responses), self.begun)
        if start == count and not self.begun.waiting:
            self.finish()
        return start < count

    def finish(self) -> None:
        """Decide the rest, which may take long, and write the reply."""
        rewards = self._rewarder.finish(self.begun)
        self.text = json.dumps(self._form.tell(self.begun.samples, rewards))


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(config: ServeConfig, dry_run: bool = False) -> None:
    """The verb: until interrupted, or for `seconds`. Raises UserError for an open address without a token."""
    token = os.environ.get(config.token_env, "")
    if not is_loopback(config.host) and not token:
        remedy = f"Set a token in {config.token_env}, or listen on 127.0.0.1"
        raise UserError(f"{config.host} can be reached from elsewhere", remedy=remedy)
    with Rewarder(config.reward) as rewarder:
        if not dry_run:
            asyncio.run(listen(Service(rewarder, token), config.host, config.port, config.seconds, _say))


def quiet() -> logging.Logger:
    """The server's log, without a traceback for every request that is no HTTP, or whose client has left."""
    log = logging.getLogger("seethink.serve")
    log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], REFUSED)))
    return log


def _say(url: str) -> None:
    print(f"rewards at {url}", flush=True)


async def listen(service: Service, host: str, port: int, seconds: float, say: Callable[[str], None]) -> None:
    """Serve for `seconds` (0: for ever); `say` is told the address. Raises UserError where it cannot be had."""
    limits: dict[str, Any] = {
        "keepalive_timeout": IDLE_SECONDS,
        "lingering_time": 2.0,
        "read_bufsize": READ_AHEAD,
        "auto_decompress": False,
        "logger": quiet(),
    }
    runner = web.AppRunner(service.app(), access_log=None, shutdown_timeout=2.0, **limits)
    await runner.setup()
    assert runner.server
    service.door = Door(runner.server, intake.CONNECTIONS)
    try:
        listening = await service.door.listen(host, port)
        address = listening.sockets[0].getsockname()
        say(f"http://{address[0]}:{address[1]}/")
        async with listening:
            await asyncio.sleep(seconds or float(10**9))
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror})", remedy="Choose another --port") from None
    finally:
        await runner.cleanup()
