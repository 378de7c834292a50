"""One request to a chat endpoint: an answer, or a fault with a name. Retries live elsewhere.

Plain HTTP by aiohttp: what comes back is bounded in size and time, whatever its status says that it is. An endpoint that is
asked to stream and answers in one piece is read all the same.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from seethink import __version__
from seethink.ask.body import name_body, parse, read_reply
from seethink.ask.faults import Fault, Words, error_words, scrub, status_fault
from seethink.ask.ledger import Reply
from seethink.ask.messages import Message
from seethink.ask.stream import EventStream
from seethink.core.errors import UserError
from seethink.core.url import is_local, public

CONNECT_SECONDS = 10.0
MOST_BYTES = 20_000_000  # of one reply
TRAILER_SECONDS = 5.0  # for the token counts of a streamed answer that is whole
ASKS: tuple[dict[str, Any], ...] = ({"stream": True}, {"stream_options": {"include_usage": True}})
"""What a stream is asked for by; an endpoint that refuses is asked without the last of them, then without the first."""
_BODY = json.JSONEncoder(default=str)
JSON = {"Content-Type": "application/json"}
FILE_SECONDS = 1800.0  # for a file to go up or come down
CA_FILE = "SSL_CERT_FILE"  # environment variable by which OpenSSL and most clients find certificate authorities


class Patience(NamedTuple):
    """Seconds for a complete answer; of a streamed one also until its first byte, and from one piece to the next."""

    total: float
    first_byte: float | None = None
    """None: the answer is not streamed."""
    idle: float = 60.0


class Wire:
    """An open connection pool to one endpoint, bound to the running event loop."""

    def __init__(
        self,
        base_url: str,
        api_key_env: str,
        patience: Patience,
        heard: Callable[[Mapping[str, str]], None] = lambda headers: None,
    ):
        """`heard` is told the headers of every response to a question.

        Raises UserError for an address, a key or a file of certificate authorities that cannot be used.
        """
        self._patience, self._asks, self._heard = patience, ASKS if patience.first_byte else (), heard
        parts = urlsplit(base_url)
        host, path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/").removesuffix("/chat/completions")
        try:
            self._base = URL(urlunsplit((parts.scheme, host, path, parts.query, "")))
            self._url = self._at("chat/completions")
        except ValueError:
            raise UserError("no address of an endpoint", where=public(base_url), remedy="Check --base_url") from None
        key = os.environ.get(api_key_env, "").strip() if api_key_env else ""
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        basic = base64.b64encode(f"{user}:{password}".encode()).decode() if "@" in parts.netloc else ""
        if not key.isascii() or not key.isprintable():
            raise UserError("the key holds characters that no request can carry", where=api_key_env, remedy="Repair it")
        self._secrets = (key, basic, password, parts.password or "", *(value for _, value in parse_qsl(parts.query)))
        self._proxy, self._spoken = _proxy(base_url), parts.scheme.lower() == "https"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_trust() if parts.scheme.lower() == "https" else True),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Authorization": f"Basic {basic}" if basic else f"Bearer {key or 'none'}",
                "User-Agent": f"seethink/{__version__}",
            },
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, model: str, messages: Sequence[Message], params: dict[str, Any], estimate: int) -> Reply:
        """Ask once. `estimate` stands for the prompt tokens where the endpoint does not count them. Raises Fault."""
        body = {"model": model, "messages": list(messages), **params}
        try:
            while True:
                asks = self._asks
                try:
                    return await self._send(body, asks, estimate)
                except Fault as fault:
                    if not (asks and fault.name == "refused" and re.search(r"\bstream", fault.detail)):
                        raise
                    self._ask_less(asks, scrub(fault.detail, *self._secrets))
        except aiohttp.ClientError as error:
            raise _connection_fault(error, "" if self._spoken else " (or does it speak https?)") from None
        except Fault as fault:
            fault.detail = scrub(fault.detail, *self._secrets)
            raise

    async def fetch(
        self,
        method: str,
        path: str,
        data: dict[str, Any] | None = None,
        file: Path | None = None,
        query: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """The object that answers a call beside chat: `data` goes as JSON, or with `file` as a form. Raises Fault."""
        with ExitStack() as stack:
            form = aiohttp.FormData(data or {}) if file else None
            if form and file:
                form.add_field("file", stack.enter_context(file.open("rb")), filename=file.name)
            body = form or (None if data is None else json.dumps(data).encode())
            headers = JSON if isinstance(body, bytes) else None
            async with self._exchange(method, path, query or {}, data=body, headers=headers) as response:
                text = await _bounded(response)
        if not isinstance(parsed := parse(text), dict):
            name, what = name_body(text)
            raise Fault(name, f"{what} came where an object was due", 200)
        return parsed

    async def download(self, path: str, into: BinaryIO) -> None:
        """The body of a file, whole. Raises Fault."""
        async with self._exchange("GET", path, {}) as response:
            async for part in response.content.iter_any():
                into.write(part)

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, query: dict[str, str], **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response; a file may lie elsewhere, where the key is not sent."""
        url, follow = self._at(path).update_query(query), method == "GET"
        try:
            async with (
                asyncio.timeout(FILE_SECONDS),
                self._session.request(method, url, allow_redirects=follow, **sent, **self._proxy) as response,
            ):
                self._spoken = True
                if not 200 <= response.status < 300:
                    raise status_fault(response.status, _words(response, await _bounded(response)), response.headers)
                yield response
        except aiohttp.ClientError as error:
            raise _connection_fault(error, "" if self._spoken else " (or does it speak https?)") from None
        except TimeoutError:
            raise Fault("timeout", f"not whole within {FILE_SECONDS:g} s") from None
        except Fault as fault:
            fault.detail = scrub(fault.detail, *self._secrets)
            raise

    def _at(self, path: str) -> URL:
        return self._base.with_path(f"{self._base.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True)

    async def _send(self, body: dict[str, Any], asks: tuple[dict[str, Any], ...], estimate: int) -> Reply:
        data = _BODY.encode({key: value for part in (*asks, body) for key, value in part.items()}).encode()
        start, patience = time.monotonic(), self._patience
        first = min(patience.total, patience.first_byte or patience.total) if asks else patience.total
        stream = EventStream(MOST_BYTES)
        try:
            async with (
                asyncio.timeout(first) as clock,
                self._session.post(
                    self._url, data=data, headers=JSON, allow_redirects=False, **self._proxy
                ) as response,
            ):
                self._spoken = True
                self._heard(response.headers)
                if asks and 200 <= response.status < 300:
                    until = asyncio.get_running_loop().time() + patience.total - (time.monotonic() - start)
                    text = await _follow(response, stream, clock, until, patience.idle)
                else:
                    text = await _bounded(response)
            if not 200 <= response.status < 300:
                raise status_fault(response.status, _words(response, text or ""), response.headers)
            seconds = time.monotonic() - start
            if text is not None:
                return read_reply(text, seconds, estimate, response.content_type)
            return stream.end(seconds, estimate)
        except (TimeoutError, aiohttp.ClientPayloadError) as error:
            seconds = time.monotonic() - start
            if stream.ended:  # only the token counts are missing
                return stream.end(seconds, estimate)
            if isinstance(error, aiohttp.ClientPayloadError):
                raise
            what = f"no complete answer within {patience.total:g} s"
            if seconds < patience.total - 0.01:
                what = f"silent for {patience.idle:g} s in the middle" if stream.begun else f"silent for {first:g} s"
            raise Fault("timeout", what, billed=True) from None

    def _ask_less(self, asks: tuple[dict[str, Any], ...], why: str) -> None:
        """Leave out what was refused; of many calls in flight the first says so."""
        if self._asks == asks:
            self._asks = asks[:-1]
            print(f"seethink: {public(str(self._url))} takes no {next(iter(asks[-1]))} and is asked without ({why})",
                  file=sys.stderr, flush=True)  # fmt: skip


async def _follow(
    response: aiohttp.ClientResponse, stream: EventStream, clock: asyncio.Timeout, until: float, idle: float
) -> str | None:
    """Feed a stream until it says that it is done, or closes. A body that is no stream is returned as text."""
    now, head, pieces = asyncio.get_running_loop().time, b"", response.content.iter_any()
    async for part in pieces:
        clock.reschedule(min(now() + (TRAILER_SECONDS if stream.ended else idle), until))
        if not stream.begun:
            head += part
            if not (seen := head.removeprefix(b"\xef\xbb\xbf").lstrip()):
                continue
            if seen[:1] in (b"{", b"[", b"<"):
                clock.reschedule(until)
                return await _bounded(response, head)
            part = seen
        stream.feed(part)
        if stream.done:
            break
    return None


async def _bounded(response: aiohttp.ClientResponse, head: bytes = b"") -> str:
    """The body as text, of which `head` has come. Raises Fault for one that is larger than any answer."""
    data = bytearray(head)
    while part := await response.content.readany():
        data += part
        if len(data) > MOST_BYTES:
            raise Fault(
                "too_large", f"the answer is larger than {MOST_BYTES // 10**6} MB", response.status, billed=True
            )
    return data.decode("utf-8-sig", "replace")


def _words(response: aiohttp.ClientResponse, body: str) -> Words:
    """What a response says that is an error."""
    if words := error_words(parse(body)):
        return words
    moved = public(response.headers.get("Location", ""))
    said = f"moved to {moved}" if moved else name_body(body, response.content_type)[1]
    return Words(f"HTTP {response.status} {response.reason or ''}, {said}")


def _trust() -> ssl.SSLContext:
    """The certificate authorities of the system, or those of SSL_CERT_FILE."""
    file = os.environ.get(CA_FILE)
    try:
        return ssl.create_default_context(cafile=file or None)
    except (OSError, ssl.SSLError) as error:
        what = f"no certificate authorities can be read ({error.strerror or 'not PEM'})"
        raise UserError(what, where=file, remedy=f"Name a PEM file in {CA_FILE}") from None


def _proxy(base_url: str) -> dict[str, Any]:
    """How the environment says to reach a host; it does not know the way back to this machine."""
    parts = urlsplit(base_url)
    address = getproxies().get(parts.scheme, "")
    if not address or is_local(base_url) or proxy_bypass(parts.hostname or ""):
        return {}
    proxy = URL(address if "://" in address else f"http://{address}")
    if proxy.scheme not in ("http", "https"):
        remedy = f"Name an HTTP proxy in {parts.scheme}_proxy, or the host in no_proxy"
        raise UserError(f"{public(address)} is no HTTP proxy", where=f"{parts.scheme}_proxy", remedy=remedy)
    return {"proxy": proxy}


def _connection_fault(error: aiohttp.ClientError, perhaps: str) -> Fault:
    """A request without a response: never connected, or cut off; `perhaps` is why, where nothing ever came back."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it does not fit the host"
            return Fault("tls", f"its certificate is not trusted ({reason})")
        case aiohttp.ClientConnectorSSLError():
            reason = str(getattr(error.os_error, "reason", None) or "handshake failed").replace("_", " ").lower()
            return Fault("tls", f"no TLS connection ({reason}; is it http or https?)")
        case aiohttp.ConnectionTimeoutError():
            return Fault("connection", f"no connection within {CONNECT_SECONDS:g} s")
        case aiohttp.ClientConnectorDNSError():
            return Fault("connection", "host not found")
        case aiohttp.ClientHttpProxyError():
            return Fault("connection", f"the proxy answered {error.status}")
        case aiohttp.ClientConnectorError():
            return Fault("connection", os.strerror(error.errno).lower() if error.errno else "connection failed")
        case aiohttp.ClientPayloadError():
            return Fault("cut", "the connection closed in the middle of the answer", billed=True)
        case aiohttp.ClientResponseError():
            return Fault("server", f"the answer is not HTTP{perhaps}")
        case _:
            return Fault("server", f"the connection closed before an answer{perhaps}", billed=True)
