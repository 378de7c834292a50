"""The loopback chat server for tests: it counts what it was asked, and fails on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from seethink.ask.local import Body, LocalServer, Served


def echo(body: Body) -> str:
    return f"echo {last_text(body)}"


def last_text(body: Body) -> str:
    """Text of the last message, whatever its form."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


class FakeApi(LocalServer):
    """`answer(body)` gives the text, or the fields of the message. `fault(n, body)` gives None or the name of a fault
    for the n-th request (from 0). Each request takes `latency` seconds.
    """

    def __init__(
        self,
        answer: Callable[[Body], str | Body] = echo,
        fault: Callable[[int, Body], str | None] = lambda n, body: None,
        latency: float = 0.0,
        echo_headers: bool = False,
    ):
        super().__init__(self.reply, ["fake"])
        self.answer, self.fault, self.latency = answer, fault, latency
        self.echo_headers = echo_headers  # an unsafe server that repeats the caller's key in its errors
        self.bodies: list[Body] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    def reply(self, body: Body, headers: Mapping[str, str]) -> Served:
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            time.sleep(self.latency)
            fault = self.fault(number, body) or ""
            if fault.isdigit():
                return Served(
                    f"fault {fault}" + (f" for {headers['Authorization']}" if self.echo_headers else ""), fault
                )
            message = self.answer(body)
        finally:
            with self.lock:
                self.in_flight -= 1
        said = message if isinstance(message, str) else str(message["content"])
        return Served(message, fault, (len(last_text(body).split()), len(said.split())), f"{body['model']}-0001")

    def count(self, model: str) -> int:
        with self.lock:
            return sum(body["model"] == model for body in self.bodies)
