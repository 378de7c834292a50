"""`seethink reward serve`: rewards over HTTP, for trainers that ask a remote reward model.

    POST /         {"query": [...], "prompts": [...], "labels": [...]}     OpenRLHF's protocol: rewards, scores, extra_logs
    POST /score    {"samples": [sample rows], "responses": [...]}          {"rewards": [{value, status, answer, detail}]}
    GET  /health   {"status": "ok"}

The server listens on loopback. Elsewhere it demands a bearer token, from an environment variable and never logged.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
from dataclasses import asdict
from typing import Any

from aiohttp import web

from seethink.core.errors import UserError
from seethink.core.nouns import sample_from_row
from seethink.rewards.adapters.openrlhf import reward_lists
from seethink.rewards.config import ServeConfig
from seethink.rewards.rewarder import Rewarder

MAX_BODY = 256 << 20


class Service:
    """Request handlers around one rewarder. Scoring happens in a thread, so that health checks are answered meanwhile."""

    def __init__(self, rewarder: Rewarder, token: str = ""):
        self._rewarder, self._token = rewarder, token
        self._turn = asyncio.Lock()  # a scorer may hold a model that moves between devices

    def app(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            """Token first, then user errors as 400 with their text."""
            given, token = request.headers.get("Authorization", "").removeprefix("Bearer "), self._token
            if token and request.path != "/health" and not hmac.compare_digest(given.encode(), token.encode()):
                return web.json_response({"error": "token missing or wrong"}, status=401)
            try:
                return await handler(request)
            except UserError as error:
                return web.json_response({"error": str(error)}, status=400)

        app = web.Application(client_max_size=MAX_BODY, middlewares=[guard])
        app.add_routes([web.post("/", self.openrlhf), web.post("/score", self.score), web.get("/health", self.health)])
        return app

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def openrlhf(self, request: web.Request) -> web.Response:
        body = await _body(request, "query", "prompts", "labels")
        lists = body["query"], body["prompts"], body["labels"]
        return web.json_response(await self._alone(reward_lists, *lists, self._rewarder, "zero"))

    async def score(self, request: web.Request) -> web.Response:
        body = await _body(request, "samples", "responses")
        rows = enumerate(body["samples"])
        samples = [sample_from_row({"id": str(i), "question": "", **row}, f"sample {i}") for i, row in rows]
        rewards = await self._alone(self._rewarder.score_batch, samples, body["responses"])
        return web.json_response({"rewards": [asdict(reward) for reward in rewards]})

    async def _alone(self, function: Any, *arguments: Any) -> Any:
        async with self._turn:
            return await asyncio.to_thread(function, *arguments)


async def _body(request: web.Request, *keys: str) -> dict[str, Any]:
    """Object with equally long lists under these keys. Raises UserError for anything else."""
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"body is not JSON ({error})") from None
    if not isinstance(body, dict) or not all(isinstance(body.get(key), list) for key in keys):
        raise UserError(f"body needs lists under {', '.join(keys)}")
    if len({len(body[key]) for key in keys}) > 1:
        raise UserError(f"the lists {', '.join(keys)} differ in length")
    texts = [text for key in keys if key != "samples" for text in body[key]]
    rows = body.get("samples", [])
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(row, dict) for row in rows):
        raise UserError("responses are texts and samples are objects")
    return body


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
            asyncio.run(_serve(Service(rewarder, token), config.host, config.port, config.seconds))


async def _serve(service: Service, host: str, port: int, seconds: float) -> None:
    runner = web.AppRunner(service.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
        address = runner.addresses[0]
        print(f"rewards at http://{address[0]}:{address[1]}/", flush=True)
        await asyncio.sleep(seconds or float(10**9))
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror})", remedy="Choose another --port") from None
    finally:
        await runner.cleanup()
