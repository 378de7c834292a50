"""An OpenAI-compatible chat server on loopback, in a thread of this process: for simulated models and for tests.

    with LocalServer(lambda body, headers: Served("Yes"), ["m"]) as server: Endpoint(base_url=server.base_url, model="m")

A function makes an answer, or a fault, of every chat request, streamed where the request says so, or in a batch. Prompts and
headers reach no log.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from seethink.ask.local_batch import LocalBatches
from seethink.core.errors import UserError

Body = dict[str, Any]
MAX_BODY = 50_000_000
STATUS_FAULTS = {  # name: (status, what the body calls the error)
    **{status: (int(status), None) for status in ("400", "401", "402", "404", "413", "429", "500", "503")},
    "quota": (429, "insufficient_quota"),
    "filter": (400, "content_filter"),
}
RETRY_AFTER = "0.05"  # seconds, with every 429


class Served(NamedTuple):
    """What becomes of one chat request.

    message  text, or the fields of the message (content, reasoning_content); of an error, its words
    fault    empty, or what goes wrong: a name of STATUS_FAULTS; hang (silence, then a closed connection), cut (half of
             the JSON, or of the events), drop (the connection closes half way), empty (no content), length (the answer
             was cut); of a stream also pause (silence half way, then a closed connection) and break (an error half way)
    tokens   of prompt and completion
    model    model string that the server names; empty: as it was asked for
    """

    message: str | Body
    fault: str = ""
    tokens: tuple[int, int] = (0, 0)
    model: str = ""


Respond = Callable[[Body, Headers], Served]


class LocalServer:
    """The server; a context manager. `base_url` ends in /v1. Raises UserError for a port that is taken.

    `respond` takes the body and the headers of a request, in any of many threads.
    """

    def __init__(self, respond: Respond, models: Sequence[str], port: int = 0, hang_seconds: float = 20.0):
        self.respond, self.models, self.hang_seconds = respond, models, hang_seconds
        self.closing = threading.Event()
        try:
            self._http = _Http(("127.0.0.1", port), _Handler)
        except OSError as error:
            what = f"port {port} cannot be used ({error.strerror})"
            raise UserError(what, remedy="Give --port 0 for a free one") from None
        self._http.owner = self
        self.batches = LocalBatches(self._complete)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self.close()

    def _complete(self, body: Body) -> tuple[int, bytes]:
        """(status, body) of a chat request that came in a batch."""
        answer = self.respond(body, Headers())
        if answer.fault in STATUS_FAULTS:
            status, code = STATUS_FAULTS[answer.fault]
            return status, _json(_refusal(str(answer.message), code))
        return 200, _json(_completion(answer, body["model"]))

    def close(self) -> None:
        """Release the port of a server that was never entered."""
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    owner: LocalServer
    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own business; anything else is printed by the base class."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        if (answer := self.server.owner.batches.answer("GET", self.path, "", b"")) is not None:
            return self._send(*answer)
        if self.path.rstrip("/") != "/v1/models":
            return self._error("404", f"no such path {self.path}")
        rows = [{"id": name, "object": "model", "owned_by": "simulated"} for name in self.server.owner.models]
        return self._send(200, _json({"object": "list", "data": rows}))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True  # what was not read must not be taken for the next request
            return self._error("413", f"a body of at most {MAX_BODY} bytes, please")
        text = self.rfile.read(int(length))
        kind = self.headers.get("Content-Type", "")
        if (answer := self.server.owner.batches.answer("POST", self.path, kind, text)) is not None:
            return self._send(*answer)
        if self.path.rstrip("/") != "/v1/chat/completions":
            return self._error("404", f"no such path {self.path}")
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str) or "messages" not in body:
            return self._error("400", "no JSON object with model and messages")
        answer = self.server.owner.respond(body, self.headers)
        if answer.fault in STATUS_FAULTS:
            return self._error(answer.fault, str(answer.message))
        if answer.fault == "hang":
            self.server.owner.closing.wait(self.server.owner.hang_seconds)
            self.close_connection = True
            return None
        if body.get("stream"):
            return self._stream(answer, body)
        data = _json(_completion(answer, body["model"]))
        half = data[: len(data) // 2]
        if answer.fault == "drop":
            self.close_connection = True
            return self._send(200, half, length=len(data))
        return self._send(200, half if answer.fault == "cut" else data)

    def _stream(self, answer: Served, body: Body) -> None:
        """The answer word by word, and what goes wrong on the way."""
        usage = (body.get("stream_options") or {}).get("include_usage", False)
        events = list(_events(_completion(answer, body["model"]), usage))
        self.close_connection = broken = answer.fault in ("cut", "drop", "pause", "break")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events[: len(events) // 2] if broken else events:
            self._chunk(event)
        if answer.fault == "pause":
            self.server.owner.closing.wait(self.server.owner.hang_seconds)
        if answer.fault == "break":
            self._chunk(_event({"error": {"message": "it broke off", "type": "simulated"}}))
        if answer.fault not in ("drop", "pause"):
            self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _error(self, name: str, message: str) -> None:
        status, code = STATUS_FAULTS[name]
        self._send(status, _json(_refusal(message, code)))

    def _send(self, status: int, data: bytes, length: int | None = None) -> None:
        """`length` announces more than is sent."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(data)))
        if status == 429:
            self.send_header("Retry-After", RETRY_AFTER)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silent: prompts and headers belong in no log."""


def _refusal(message: str, code: str | None) -> Body:
    return {"error": {"message": message, "type": "simulated", "code": code}}


def _completion(answer: Served, asked: str) -> Body:
    fields = {"content": answer.message} if isinstance(answer.message, str) else answer.message
    message = {"role": "assistant", **fields, **({"content": ""} if answer.fault == "empty" else {})}
    stop = "length" if answer.fault == "length" else "stop"
    prompt, completion = answer.tokens
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    choice = {"index": 0, "message": message, "finish_reason": stop}
    row = {"id": "simulated", "object": "chat.completion", "created": 0, "model": answer.model or asked}
    return {**row, "choices": [choice], "usage": usage}


def _events(completion: Body, usage: bool) -> Iterator[bytes]:
    """A completion as server-sent events, a word at a time."""
    (choice,), counted = completion["choices"], completion.pop("usage")
    role = choice["message"].pop("role")
    words = [
        (name, word)
        for name, value in choice["message"].items()
        for word in (re.split("(?<= )", value) if isinstance(value, str) else [value])
    ]
    deltas: list[Body] = [{"role": role}, *({name: word} for name, word in words)]
    chunks: list[Body] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{**choice, "message": None, "delta": {}}]})
    if usage:
        chunks.append({"choices": [], "usage": counted})
    for chunk in chunks:
        yield _event({**completion, "object": "chat.completion.chunk", **chunk})
    yield b"data: [DONE]\n\n"


def _event(value: Any) -> bytes:
    return b"data: %s\n\n" % _json(value)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
