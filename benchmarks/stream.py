"""CPU of a streamed answer per chunk: reading its events alone, and with the network below it.

    python -m benchmarks.stream

The server writes every chunk by itself, so that each may wake the client; only the client's thread is counted.
"""

from __future__ import annotations

import asyncio
import time

from seethink.ask.client import Client, Endpoint
from seethink.ask.ledger import Ledger
from seethink.ask.local import LocalServer, Served
from seethink.ask.messages import user_message
from seethink.ask.stream import EventStream

CHUNKS, TIMES = 1500, 8
CHUNK = (
    b'data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1760000000,"model":"reasoner","system_fingerprint":'
    b'"fp_1","choices":[{"index":0,"delta":{"content":null,"reasoning_content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)


def read_events() -> float:
    """CPU seconds a chunk of events that are there already, each fed by itself."""
    start, stream = time.thread_time(), EventStream(20_000_000)
    for _ in range(CHUNKS):
        stream.feed(CHUNK)
    return (time.thread_time() - start) / CHUNKS


async def ask(client: Client, draw: int) -> float:
    """CPU seconds a chunk of a whole call."""
    start = time.thread_time()
    reply = await client.chat(user_message("a"), draw=draw)
    assert reply.reasoning.count("token") == CHUNKS
    return (time.thread_time() - start) / CHUNKS


async def main() -> None:
    answer = {"content": "yes", "reasoning_content": "token " * CHUNKS}
    with LocalServer(lambda body, headers: Served(answer), ["m"]) as server:
        for stream in (True, False):
            endpoint = Endpoint(base_url=server.base_url, model="m", stream=stream)
            async with Client(endpoint, Ledger(":memory:")) as client:
                calls = [await ask(client, draw) for draw in range(TIMES)]
            print(f"a call, stream {stream}: {min(calls) * 1e6:.1f} us a chunk (least of {TIMES})")
    print(f"events alone: {min(read_events() for _ in range(TIMES)) * 1e6:.1f} us a chunk")


if __name__ == "__main__":
    asyncio.run(main())
