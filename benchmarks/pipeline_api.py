"""The endpoint of `benchmarks/pipeline.py`: scripted, deterministic, in a process of its own, and as cheap as Python can make it.

    python benchmarks/pipeline_api.py '{"latency": 0.1, "faults": {"429": 0.05}, "admits": 24}'

Prints its port. An answer depends on the question alone, so that two runs can be compared. Raw asyncio, since on one core whatever
the server takes is taken from the client.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
KEY = re.compile(rb"(?i)\r\nauthorization: *(.*?)\r\n")
ITEM = re.compile(rb"item (\d+)")
THINKING = "I look at it, count what I see, compare it with the question and add one. " * 6
HANG = 600.0  # seconds
BAD_STATUS = {"429": "Too Many Requests", "500": "Internal Server Error"}


def answer(body: bytes) -> tuple[str, str]:
    """(step, what the teacher says) for the request of one of the four steps, told apart by their prompts."""
    found = ITEM.findall(body)
    item = int(found[-1]) if found else 0
    if b"image_url" in body:
        return "caption", "A picture with a number and a red cube."
    if b"<reference>" in body:
        return "verify", "Yes."
    verb = "shows" if b"<text>" in body else "says"
    step = "rewrite" if b"<text>" in body else "distill"
    return step, f"<think>\nFor item {item} the image {verb} a number. {THINKING}\n</think>\n\nAnswer: {item + 1}"


def response(body: bytes) -> bytes:
    """A whole chat completion over HTTP."""
    said = answer(body)[1]
    usage = {"prompt_tokens": len(body) // 4, "completion_tokens": len(said) // 4}
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return http("200 OK", json.dumps({"model": "teacher-1", "choices": [choice], "usage": usage}).encode())


def http(status: str, body: bytes, more: str = "", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length or len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Api:
    """What the endpoint does and has seen.

    latency  seconds of every answer
    spread   of its logarithm; 0: constant
    faults   share of requests by fault: 429, 500, hang, cut (half of the JSON)
    admits   answers under way at once; whoever comes beyond them is told 429 and to come back in a second; 0: any number
    echo     repeat the caller's key in errors, as an unsafe gateway may
    """

    def __init__(
        self,
        latency: float = 0.1,
        spread: float = 0.0,
        faults: dict[str, float] | None = None,
        admits: int = 0,
        echo: bool = False,
    ):
        self.echo = echo
        self.latency, self.spread, self.faults, self.admits = latency, spread, faults or {}, admits
        self.random = random.Random(7)
        self.in_flight = 0
        self.seen: Counter[str] = Counter()
        self.asked: Counter[bytes] = Counter()

    def stats(self) -> dict[str, Any]:
        """Requests by step and fault, the most at once, how many questions were asked and answered, CPU seconds."""
        return {
            **self.seen,
            "questions": len(self.asked),
            "cpu_seconds": time.process_time(),
        }

    def draw_fault(self) -> str | None:
        draw = self.random.random()
        for name, share in self.faults.items():
            if (draw := draw - share) < 0:
                return name
        return None

    def draw_latency(self) -> float:
        return self.latency * self.random.lognormvariate(0, self.spread) if self.spread else self.latency


class Connection(asyncio.Protocol):
    """One connection of a client, with one request at a time."""

    def __init__(self, api: Api):
        self.api, self.data = api, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        head = self.data.find(b"\r\n\r\n")
        length = LENGTH.search(self.data, 0, head) if head >= 0 else None
        end = head + 4 + (int(length[1]) if length else 0)
        if head < 0 or len(self.data) < end:
            return
        method, body = bytes(self.data[:4]), bytes(self.data[head + 4 : end])
        key = KEY.search(self.data, 0, head) if self.api.echo else None
        del self.data[:end]
        if method == b"GET ":
            self.transport.write(http("200 OK", json.dumps(self.api.stats()).encode()))
        else:
            self.respond(body, key[1].decode() if key else "")

    def respond(self, body: bytes, key: str) -> None:
        api, loop = self.api, asyncio.get_running_loop()
        api.seen["requests"] += 1
        fault = api.draw_fault()
        if api.admits and api.in_flight >= api.admits:
            fault = "429"
        if fault in BAD_STATUS:
            api.seen[fault] += 1
            error = json.dumps({"error": {"message": f"fault {fault} {key}"}}).encode()
            self.write(http(f"{fault} {BAD_STATUS[fault]}", error, "Retry-After: 1\r\n" if fault == "429" else ""))
            return
        api.in_flight += 1
        api.seen["most_in_flight"] = max(api.seen["most_in_flight"], api.in_flight)
        wait = HANG if fault == "hang" else api.draw_latency()
        loop.call_later(wait, self.finish, body, fault)

    def finish(self, body: bytes, fault: str | None) -> None:
        api = self.api
        api.in_flight -= 1
        if fault:
            api.seen[fault] += 1
        data = response(body)
        if fault == "cut":
            head, _, said = data.partition(b"\r\n\r\n")
            data = http("200 OK", said[: len(said) // 2])
        elif not fault:
            key = hashlib.blake2b(body, digest_size=16).digest()
            api.asked[key] += 1
            api.seen["repeats"] += api.asked[key] > 1
            api.seen[answer(body)[0]] += 1
            api.seen["answered"] += 1
        self.write(data)

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


@contextmanager
def serving(**settings: Any) -> Iterator[str]:
    """Address of an endpoint that lives as long as the block."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__)), json.dumps(settings)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
    finally:
        child.kill()
        child.wait()


def stats(base_url: str) -> dict[str, Any]:
    """What an endpoint has seen so far."""
    with urlopen(f"{base_url}/stats", timeout=30) as reply:
        return json.loads(reply.read())


async def main(settings: dict[str, Any]) -> None:
    api = Api(**settings)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(api), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # whoever started it may have been killed
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
