"""An OpenAI-compatible chat server on loopback for tests, with faults on demand. It dies with its `with` block."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
STATUS_FAULTS = ("400", "401", "404", "429", "500", "503")


def echo(body: Body) -> str:
    return f"echo {last_text(body)}"


def last_text(body: Body) -> str:
    """Text of the last message, whatever its form."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


class FakeApi:
    """`answer(body)` gives the text, or the fields of the message. `fault(n, body)` gives None or the name of a fault
    for the n-th request (from 0): a status code, "quota" (429 that will not pass), "filter", "hang", "cut" (half the
    JSON), "drop" (connection closed half way), "empty", "length".
    """

    def __init__(
        self,
        answer: Callable[[Body], str | Body] = echo,
        fault: Callable[[int, Body], str | None] = lambda n, body: None,
        latency: float = 0.0,
        retry_after: str = "0.05",
        echo_headers: bool = False,
    ):
        self.answer, self.fault, self.latency, self.retry_after = answer, fault, latency, retry_after
        self.echo_headers = echo_headers  # an unsafe server that repeats the caller's key in its errors
        self.bodies: list[Body] = []
        self.in_flight = self.most_in_flight = 0
        self.lock, self.stopping = threading.Lock(), threading.Event()

    def __enter__(self) -> FakeApi:
        self.server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"api": self}))
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def count(self, model: str) -> int:
        with self.lock:
            return sum(body["model"] == model for body in self.bodies)


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "fake"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api = self.api
        with api.lock:
            number = len(api.bodies)
            api.bodies.append(body)
            api.in_flight += 1
            api.most_in_flight = max(api.most_in_flight, api.in_flight)
        try:
            time.sleep(api.latency)
            self.respond(body, api.fault(number, body))
        finally:
            with api.lock:
                api.in_flight -= 1

    def respond(self, body: Body, fault: str | None) -> None:
        if fault in STATUS_FAULTS:
            told = f" for {self.headers['Authorization']}" if self.api.echo_headers else ""
            self.reply(int(fault), {"error": {"message": f"fault {fault}{told}", "type": "fake", "code": None}})
        elif fault == "quota":
            self.reply(429, {"error": {"message": "no credit", "type": "x", "code": "insufficient_quota"}})
        elif fault == "filter":
            self.reply(400, {"error": {"message": "not allowed", "type": "x", "code": "content_filter"}})
        elif fault == "hang":
            self.api.stopping.wait(20)
            self.close_connection = True
        else:
            self.complete(body, fault)

    def complete(self, body: Body, fault: str | None) -> None:
        answer = self.api.answer(body)
        message = {"role": "assistant", **({"content": answer} if isinstance(answer, str) else answer)}
        if fault == "empty":
            message["content"] = ""
        tokens = len(str(message["content"]).split())
        completion = {
            "id": "x",
            "object": "chat.completion",
            "model": f"{body['model']}-0001",
            "choices": [{"index": 0, "message": message, "finish_reason": "length" if fault == "length" else "stop"}],
            "usage": {"prompt_tokens": len(last_text(body).split()), "completion_tokens": tokens},
        }
        data = json.dumps(completion).encode()
        self.reply(
            200, data[: len(data) // 2] if fault == "cut" else data, length=len(data) if fault == "drop" else None
        )

    def reply(self, status: int, content: Body | bytes, length: int | None = None) -> None:
        """`length` announces more than is sent: the connection then closes in the middle."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(data)))
        if status == 429:
            self.send_header("Retry-After", self.api.retry_after)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if length else data)
        self.close_connection = self.close_connection or bool(length)

    def log_message(self, *_: object) -> None:
        """Quiet."""
