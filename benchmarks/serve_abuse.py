"""How `seethink reward serve` holds up: malformed and slow clients, bodies at the limit and a slow batch, beside honest ones.

    python benchmarks/serve_abuse.py [--malformed 1000] [--slow 200] [--large 6] [--batches 2] [--seconds 12]

All of it on loopback, against a server of its own that ends with it. An honest client asks for one reward after another,
each over a new connection. Printed: its waits, what the others were told, the server's memory, tracebacks in its log.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

DIGIT = {"kind": "digit", "gold": "7"}
HONEST = json.dumps({"samples": [DIGIT], "responses": ["<think>so</think>\n<answer>7</answer>"]}).encode()
HARD = [  # only a computer algebra system could compare these, and not within its budget
    ({"kind": "math", "gold": rf"\int_0^{i} \sin(x^{i}) dx"}, f"<think>so</think>\n<answer>\\sum_{{k=1}}^{{{i}00}} k^{{-{i}}}</answer>")
    for i in range(3, 27)
]  # fmt: skip


def request(body: bytes, *headers: str, length: int | None = None, path: str = "/score") -> bytes:
    """A request as it travels."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def scored(sample: object, response: object = "x") -> bytes:
    return request(json.dumps({"samples": [sample], "responses": [response]}).encode())


def labelled(label: str) -> bytes:
    return request(json.dumps({"query": ["x"], "prompts": [""], "labels": [label]}).encode(), path="/")


DEEP = "[" * 100_000
MALFORMED = {
    "deep JSON": request(DEEP.encode()),
    "deep label": labelled(DEEP),
    "other charset": request(HONEST, "Content-Type: application/json; charset=klingon"),
    "UTF-16": request(HONEST.decode().encode("utf-16"), "Content-Type: application/json; charset=utf-16"),
    "not UTF-8": request(b'{"samples": ["\xff"]}'),
    "no gzip": request(HONEST, "Content-Encoding: gzip"),
    "cut gzip": request(gzip.compress(HONEST)[:-12], "Content-Encoding: gzip"),
    "bomb": request(gzip.compress(b" " * (64 << 20)), "Content-Encoding: gzip"),
    "no JSON": request(b"{"),
    "empty": request(b""),
    "a list": request(b"[]"),
    "long number": request(b'{"samples": [' + b"9" * 5000 + b"]}"),
    "NaN": request(b'{"samples": [{"kind": "digit", "gold": NaN}], "responses": ["x"]}'),
    "gold object": scored({**DIGIT, "gold": {}}),
    "choices number": scored({"kind": "choice", "gold": "A", "choices": 5}),
    "meta text": scored({"kind": "box", "gold": "[0, 0, 1, 1]", "meta": "x"}),
    "kind list": scored({**DIGIT, "kind": ["digit"]}),
    "response number": scored(DIGIT, 7),
    "sample null": scored(None),
    "label text": labelled("red"),
    "label meta": labelled('{"kind": "digit", "solution": "7", "meta": "{"}'),
    "label number": labelled('{"kind": "digit", "solution": ' + "9" * 5000 + "}"),
    "lengths": request(b'{"samples": [], "responses": ["x"]}'),
    "too long": request(b"", length=10**12),
    "negative length": request(b"", length=-1),
    "chunks": request(b"zz\r\n", "Transfer-Encoding: chunked"),
    "no HTTP": b"\x16\x03\x01\x02\x00 hello\r\n\r\n",
    "header": b"POST / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "method": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}
SLOW = {  # what is sent, and then nothing more
    "nothing": b"",
    "half a header": b"POST /score HTTP/1.1\r\nHost: x\r\nContent-",
    "no body": request(b"", length=1 << 20),
    "half a body": request(b'{"samples": [' + b" " * 50_000, length=1 << 20),
}
DENSE = b'{"samples": [' + b"{},[]," * 4_000_000 + b"{}]}"  # 24 MB that would be more than a gigabyte parsed
LARGE = {"large, dense": request(DENSE), "large, 200 MB": request(DENSE, length=200 << 20)}


async def ask(url: str, data: bytes, patience: float = 60.0) -> str:
    """Status of the reply, or how the connection ended."""
    place = urlsplit(url)
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(data)
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return "nothing"
    except OSError:
        return "closed"
    return line.split()[1].decode() if line else "closed"


async def abuse(url: str, given: argparse.Namespace) -> Counter[str]:
    """What everybody but the honest client was told."""
    told: Counter[str] = Counter()

    async def one(name: str, data: bytes) -> None:
        told[f"{name}: {await ask(url, data, given.seconds)}"] += 1

    hard = json.dumps({"samples": [s for s, _ in HARD], "responses": [r for _, r in HARD]}).encode()
    everybody = [("slow batch", request(hard))] * given.batches + list(islice(cycle(LARGE.items()), given.large))
    everybody += [(f"slow, {name}", data) for name, data in islice(cycle(SLOW.items()), given.slow)]
    everybody += list(islice(cycle(MALFORMED.items()), given.malformed))
    await asyncio.gather(*(one(name, data) for name, data in everybody))
    return told


def abuse_here(url: str, given: argparse.Namespace, out: multiprocessing.SimpleQueue[Counter[str]]) -> None:
    """In a process of its own, so that the honest client waits for the server alone."""
    out.put(asyncio.run(abuse(url, given)))


def honest(url: str, seconds: float) -> tuple[list[float], Counter[str]]:
    """(waits, what it was told) of one client that asks again and again, each time over a new connection."""
    waits, told, end = [], Counter(), time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        status = asyncio.run(ask(url, request(HONEST, "Connection: close")))
        waits.append(time.monotonic() - start)
        told[f"honest: {status}"] += 1
        time.sleep(0.05)
    return sorted(waits), told


def memory(pid: int, field: str) -> int:
    """Of a process, in MB: VmRSS now, VmHWM at its peak."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split(f"{field}:")[1].split()[0]) // 1024


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--malformed", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--large", type=int, default=6)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.0)
    given = parser.parse_args()
    command = [sys.executable, "-m", "seethink", "reward", "serve", "--port", "0"]
    with tempfile.TemporaryFile("w+") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file) as server:
        try:
            assert server.stdout
            url = server.stdout.readline().decode().split()[-1]
            honest(url, 0.2)  # imports
            before, spent = memory(server.pid, "VmRSS"), cpu(server.pid)
            others = multiprocessing.SimpleQueue()
            crowd = multiprocessing.Process(target=abuse_here, args=(url, given, others))
            crowd.start()
            waits, told = honest(url, given.seconds)
            told += others.get()
            crowd.join()
            spent = cpu(server.pid) - spent
            peak, after = memory(server.pid, "VmHWM"), memory(server.pid, "VmRSS")
        finally:
            server.terminate()
            server.wait()
        file.seek(0)
        log = file.read()
    for text, count in sorted(told.items()):
        print(f"  {text}  x {count}")
    middle, most = waits[len(waits) // 2], waits[-1]
    print(f"honest requests: {len(waits)}, median wait {middle * 1e3:.0f} ms, longest {most * 1e3:.0f} ms")
    print(
        f"the server's CPU: {spent:.1f} s for {sum(told.values())} requests, load of the machine {os.getloadavg()[0]:.1f}"
    )
    print(f"memory of the server: {before} MB before, {peak} MB at its peak, {after} MB after")
    print(f"tracebacks in its log: {log.count('Traceback')}, lines: {len(log.splitlines())}")
    if log:
        print(log[:2000])


if __name__ == "__main__":
    main()
