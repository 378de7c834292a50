"""vLLM behind HTTP: its servers, what they are asked, their caches. How weights reach them is in vllm_weights.py."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from seethink.core.errors import UserError
from seethink.train.rollout.vllm import Answer, Request, Weights

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
PARALLEL = 64  # requests on their way to servers
GENERATING, ANSWERING = 3600.0, 600.0  # seconds until a server counts as hung: completions, everything else
ATTEMPTS, PAUSE = 4, 0.5  # of calls that do no harm twice, while there is no connection; seconds, doubled each time
COMMAND = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs "
    "--mm-processor-kwargs '{\"do_resize\": false}'"
)
"""How a server is started. Development mode has the endpoints that load weights and reset caches, scale-out the one that
takes token ids."""


@dataclass(frozen=True)
class VllmServer:
    """A vLLM server. Raises UserError for whatever it does not answer as vLLM does, with its address."""

    url: str

    def post(self, path: str, body: dict[str, Any] | None = None, once: bool = False) -> Any:
        """What it answers; None for an empty answer. `once`: not again where the connection broke."""
        return self._ask(path, json.dumps(body or {}).encode(), ANSWERING, 1 if once else ATTEMPTS)

    def get(self, path: str) -> Any:
        return self._ask(path, None, ANSWERING, ATTEMPTS)

    def generate(self, request: Request) -> Answer:
        body = {"token_ids": request.ids, "sampling_params": request.params, "return_token_ids": True}
        if request.images:
            body["content_parts"] = [{"type": "image_url", "url": data_url(image)} for image in request.images]
        answer = self._ask(path := "/inference/v1/generate", json.dumps(body).encode(), GENERATING, ATTEMPTS)
        try:
            return Answer(
                answer["prompt_token_ids"],
                [
                    (c["token_ids"], [at["logprob"] for at in c["logprobs"]["content"]], c["finish_reason"])
                    for c in sorted(answer["choices"], key=lambda c: c["index"])
                ],
            )
        except (KeyError, TypeError) as error:
            raise self.no_vllm(
                path, f"without {error}" if isinstance(error, KeyError) else "of another shape"
            ) from None

    def healthy(self) -> bool:
        try:
            self._ask("/health", None, 5.0, 1)
        except UserError:
            return False
        return True

    def forget(self) -> None:
        done = self.post("/reset_prefix_cache")
        if not (isinstance(done, dict) and done.get("success")):
            what = "the server did not reset its prefix cache"
            raise UserError(what, where=self.url, remedy="Let no one else's requests run there", code=3)
        self.post("/reset_mm_cache")
        self.post("/reset_encoder_cache")

    def no_vllm(self, path: str, what: str) -> UserError:
        remedy = "Start a vLLM server there, or fix sampler.url"
        return UserError(f"the answer to {path} is none of vLLM's ({what})", where=self.url, remedy=remedy, code=3)

    def _ask(self, path: str, body: bytes | None, seconds: float, attempts: int) -> Any:
        """POST the body, or GET without one."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, body, headers)
        for attempt in range(attempts):
            try:
                with urllib.request.urlopen(request, timeout=seconds) as response:
                    text = response.read()
                break
            except urllib.error.HTTPError as error:
                missing = error.code == 404 and f"Start it as {COMMAND} (tested: vLLM 0.32)"
                detail = error.read().decode(errors="replace")[:500]
                what = f"{path} answers {error.code} ({detail})"
                raise UserError(what, where=self.url, remedy=missing or "See its log", code=3) from None
            except (OSError, http.client.HTTPException) as error:
                if isinstance(getattr(error, "reason", error), TimeoutError):
                    what = f"no answer to {path} in {seconds:g} seconds"
                    raise UserError(what, where=self.url, remedy="See its log, and start it again", code=3) from None
                if attempt + 1 == attempts:
                    what, remedy = f"vLLM server cannot be reached ({error})", "Start it, or fix sampler.url"
                    raise UserError(what, where=self.url, remedy=remedy, code=3) from None
                time.sleep(PAUSE * 2**attempt)
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            raise self.no_vllm(path, f"{text[:80]!r}") from None


def at_once(servers: list[VllmServer], ask: Callable[[VllmServer], T]) -> list[T]:
    """`ask(server)` for all of them at the same time, in their order.

    Raises the first UserError without waiting for the others: they may be waiting for the one that failed.
    """
    answers: SimpleQueue[tuple[int, Any, Exception | None]] = SimpleQueue()

    def run(number: int, server: VllmServer) -> None:
        found, error = None, RuntimeError(f"asking {server.url} ended without an answer")
        try:
            found, error = ask(server), None
        except UserError as raised:
            error = raised
        finally:
            answers.put((number, found, error))

    for number, server in enumerate(servers):
        Thread(target=run, args=(number, server), daemon=True).start()
    results: dict[int, T] = {}
    for _ in servers:
        number, found, error = answers.get()
        if error is not None:
            raise error
        results[number] = found
    return [results[number] for number in range(len(servers))]


class Transfer(Protocol):
    """A way for weights into servers that have been paused or woken for them (vllm_weights.py)."""

    def send(self, weights: Weights) -> None: ...

    def close(self) -> None: ...


class ServerEngine:
    """vLLM servers of the same model: requests in turn, weights for all of them by one transfer.

    `choose` makes the transfer, at the first load: only the rank that loads needs one.
    """

    shared = True

    def __init__(self, servers: list[VllmServer], choose: Callable[[], Transfer]) -> None:
        self.servers, self.choose = servers, choose
        self.transfer: Transfer | None = None

    def generate(self, requests: list[Request]) -> list[Answer]:
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(VllmServer.generate, cycle(self.servers), requests))

    def load(self, weights: Weights) -> None:
        """After an error the servers stay paused: nothing is sampled from half of the weights. The next load resumes them."""
        at_once(
            self.servers, lambda server: server.post("/pause?mode=abort")
        )  # what runs now is of a run that has died
        self.send(weights)
        self.forget()
        at_once(self.servers, lambda server: server.post("/resume"))

    def send(self, weights: Weights) -> None:
        if self.transfer is None:
            self.transfer = self.choose()
        self.transfer.send(weights)

    def forget(self) -> None:
        at_once(self.servers, VllmServer.forget)

    def sleep(self) -> None:
        """Its memory is its own."""

    def close(self) -> None:
        if self.transfer is not None:
            self.transfer.close()


def data_url(image: Image) -> str:
    """The image as PNG, which loses nothing."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
