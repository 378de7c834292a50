"""Requests of strangers: how many connections, how long one may keep us waiting, how much all bodies may hold together."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import http_exceptions, web

from seethink.core.errors import UserError

MAX_BODY = 32 << 20
"""Bytes of one request, unpacked."""
MOST_PACKED = 20
"""Times that a body may grow when it is unpacked: text does not, bombs do."""
ROOM, SMALL = 512 << 20, 1 << 20
"""Memory of all requests in flight, as text and as parsed; small requests have a tenth more to themselves."""
CONNECTIONS = 2000
READ_AHEAD = 64 << 10  # bytes of a connection that nobody has asked for yet
IDLE_SECONDS, BODY_SECONDS, REPLY_SECONDS = 30.0, 30.0, 30.0
"""For a complete header, for a complete body, and for a client that does not take its reply."""
PARSED = {b"{": 200, b"[": 64, b",": 60}
"""Memory of what JSON makes of each of these characters, at most."""


class Room:
    """Memory that the requests in flight share."""

    def __init__(self, size: int = ROOM):
        self.size, self.taken = size, 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """What one request takes, given back at the end."""
        mine = Share(self)
        try:
            yield mine
        finally:
            self.taken -= mine.size


class Share:
    """The part of a room that one request has taken."""

    def __init__(self, room: Room):
        self.room, self.size = room, 0

    def take(self, size: int) -> None:
        """Have `size` in all. Raises HTTPServiceUnavailable where the others leave too little."""
        if size > self.room.size // 2:
            raise too_large(size)
        taken = self.room.taken + size - self.size
        if taken > self.room.size * (1.1 if size <= SMALL else 1):
            raise web.HTTPServiceUnavailable(text=error("too much in flight"), headers={"Retry-After": "1"})
        self.room.taken, self.size = taken, size


def error(text: str) -> str:
    """The body of a refusal."""
    return json.dumps({"error": text})


async def read_body(request: web.Request, share: Share) -> bytes:
    """The body as it came, with room taken for it. Raises UserError, or an HTTP error."""
    charset = (request.charset or "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise UserError("body is in another charset", remedy="Send UTF-8")
    body, announced = bytearray(), request.content_length or 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while max(announced, len(body)) <= MAX_BODY:
                if not (chunk := await request.content.readany()):
                    return bytes(body)
                body += chunk
                share.take(2 * len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=error("the body took too long")) from None
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError):
        raise UserError("body came in pieces that cannot be put together") from None
    raise too_large(max(announced, len(body)))


def unpack(body: bytes, encoding: str, share: Share) -> bytes:
    """The body without its encoding, with room taken for what it will be once parsed. Raises UserError, or an HTTP error."""
    if encoding.lower() in ("gzip", "deflate"):
        most = min(MAX_BODY, READ_AHEAD + MOST_PACKED * len(body))
        unpacker = zlib.decompressobj(47)  # either kind
        try:
            body = unpacker.decompress(body, most)
        except zlib.error:
            body, unpacker = b"", None
        if unpacker is None or not (unpacker.eof or unpacker.unconsumed_tail):
            raise UserError(f"body is no whole {encoding.lower()}")
        if unpacker.unconsumed_tail:
            text = error(f"body unpacks to more than {most >> 10} KB: send it unpacked, or fewer responses at once")
            raise web.HTTPRequestEntityTooLarge(most, most + 1, text=text)
    elif encoding.lower() not in ("", "identity"):
        raise UserError("body is packed in an unknown way", remedy="Use gzip or none")
    share.take(4 * len(body) + sum(cost * body.count(mark) for mark, cost in PARSED.items()))
    return body


def too_large(size: int) -> web.HTTPException:
    return web.HTTPRequestEntityTooLarge(MAX_BODY, size, text=error("send fewer responses at once"))


def parse(body: bytes, *keys: str) -> dict[str, Any]:
    """Object with equally long lists under these keys. Raises UserError for anything else."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse)
    except RecursionError:
        raise UserError("body is nested too deeply") from None
    except ValueError as problem:  # not JSON, not UTF-8, or a number of thousands of digits
        raise UserError(f"body is not JSON ({str(problem)[:80]})") from None
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in keys):
        raise UserError(f"body needs lists under {', '.join(keys)}")
    if len({len(value[key]) for key in keys}) > 1:
        raise UserError(f"the lists {', '.join(keys)} differ in length")
    texts = (text for key in keys if key != "samples" for text in value[key])
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(r, dict) for r in value.get("samples", [])
    ):
        raise UserError("responses are texts and samples are objects")
    return value


class Door:
    """Where connections come in. Where there are too many, whoever has waited longest with half a request is put out."""

    def __init__(self, server: web.Server, most: int):
        self._server, self._most = server, most
        self.busy: set[object] = set()
        """Connections whose request is complete and being answered."""

    def __call__(self) -> asyncio.Protocol:
        open_ = self._server.connections
        if len(open_) < self._most:
            return self._server()
        idle = [connection for connection in open_ if connection not in self.busy]
        for connection in idle[: len(open_) + 1 - self._most]:
            if connection.transport is not None:
                connection.transport.abort()  # without waiting for it to take what was sent
        return self._server() if idle else _Closed()

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Raises OSError where the address cannot be had."""
        files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files < 2 * self._most:  # 1,024 is usual
            files = 2 * self._most if most == resource.RLIM_INFINITY else min(2 * self._most, most)
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        self._most = min(self._most, files // 2)
        server = await asyncio.get_running_loop().create_server(self, host, port, backlog=64)  # let in at a time
        for one in server.sockets:
            with socket.fromfd(one.fileno(), one.family, one.type) as listener:
                listener.listen(1024)  # and so many may wait
        return server


class _Closed(asyncio.Protocol):
    """Nobody can be put out, so nobody comes in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
