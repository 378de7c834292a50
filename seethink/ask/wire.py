"""One request to a chat endpoint: an answer, or a fault with a name. Retries live elsewhere.

Plain HTTP by aiohttp: what comes back is bounded in size and time, whatever its status says that it is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from seethink import __version__
from seethink.ask.body import name_body, parse, read_reply
from seethink.ask.faults import Fault, Words, error_words, scrub, status_fault
from seethink.ask.ledger import Reply
from seethink.ask.messages import Message
from seethink.core.errors import UserError
from seethink.core.url import is_local, public

CONNECT_SECONDS = 10.0
MOST_BYTES = 20_000_000  # of one reply
CA_FILE = "SSL_CERT_FILE"  # environment variable by which OpenSSL and most clients find certificate authorities


class Wire:
    """An open connection pool to one endpoint, bound to the running event loop."""

    def __init__(
        self,
        base_url: str,
        api_key_env: str,
        timeout: float,
        heard: Callable[[Mapping[str, str]], None] = lambda headers: None,
    ):
        """`heard` is told the headers of every response. Raises UserError for an address, a key or a file of certificate authorities that cannot be used."""
        self._timeout, self._heard = timeout, heard
        parts = urlsplit(base_url)
        host, path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/").removesuffix("/chat/completions")
        try:
            self._url = URL(urlunsplit((parts.scheme, host, f"{path}/chat/completions", parts.query, "")))
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
                "Content-Type": "application/json",
                "User-Agent": f"seethink/{__version__}",
            },
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, model: str, messages: Sequence[Message], params: dict[str, Any], estimate: int) -> Reply:
        """Ask once. `estimate` stands for the prompt tokens where the endpoint does not count them. Raises Fault."""
        start = time.monotonic()
        data = json.dumps({"model": model, "messages": list(messages), **params}, default=str).encode()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.post(self._url, data=data, allow_redirects=False, **self._proxy) as response,
            ):
                self._spoken = True
                self._heard(response.headers)
                body = await _bounded(response)
            if not 200 <= response.status < 300:
                raise status_fault(response.status, _words(response, body), response.headers)
            return read_reply(body, time.monotonic() - start, estimate, response.content_type)
        except aiohttp.ClientError as error:
            raise _connection_fault(error, "" if self._spoken else " (or does it speak https?)") from None
        except TimeoutError:
            raise Fault("timeout", f"no complete answer within {self._timeout:g} s", billed=True) from None
        except Fault as fault:
            fault.detail = scrub(fault.detail, *self._secrets)
            raise


async def _bounded(response: aiohttp.ClientResponse) -> str:
    """The body as text. Raises Fault for one that is larger than any answer."""
    data = bytearray()
    async for part in response.content.iter_any():
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
