"""One request to a chat endpoint through the openai SDK: an answer, or a fault with a name. Retries live elsewhere.

The body is read by ourselves from the raw response: endpoints differ in what they leave out (usage, content) and add
(reasoning_content), and a cut body must be a fault of its own instead of a parser's exception.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
from pydantic import BaseModel, Field, ValidationError

from seethink.ask.faults import Fault, scrub, status_fault
from seethink.ask.ledger import Reply
from seethink.ask.messages import CHARS_PER_TOKEN, Message

CONNECT_SECONDS = 10.0


class Wire:
    """An open connection pool to one endpoint, bound to the running event loop."""

    def __init__(self, base_url: str, api_key_env: str, timeout: float):
        self._key = os.environ.get(api_key_env, "") if api_key_env else ""
        self._timeout = timeout
        http = openai.DefaultAioHttpClient(
            timeout=openai.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=not is_local(base_url),  # a proxy does not know the way back to this machine
        )
        self._sdk = openai.AsyncOpenAI(base_url=base_url, api_key=self._key or "none", max_retries=0, http_client=http)

    async def close(self) -> None:
        await self._sdk.close()

    async def send(self, model: str, messages: Sequence[Message], params: dict[str, Any], estimate: int) -> Reply:
        """Ask once. `estimate` stands for the prompt tokens where the endpoint does not count them. Raises Fault."""
        start = time.monotonic()
        wire: Any = list(messages)  # plain dicts; the SDK declares one class per role
        try:
            async with asyncio.timeout(self._timeout):
                raw = await self._sdk.chat.completions.with_raw_response.create(
                    model=model,
                    messages=wire,
                    extra_body=params,  # whether the SDK knows them or not, parameters pass as they are
                )
        except TimeoutError:
            raise Fault("timeout", f"no complete answer within {self._timeout:g} s", billed=True) from None
        except openai.APIConnectionError as error:
            raise _connection_fault(error) from None
        except openai.APIStatusError as error:
            code = f"{error.code} {error.type}"
            detail = scrub(error.message, self._key)
            raise status_fault(error.status_code, code, error.response.headers, detail) from None
        return read_reply(raw.http_response.text, time.monotonic() - start, estimate)


class _Message(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Body(BaseModel):
    model: str = ""
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_reply(body: str, seconds: float, estimate: int) -> Reply:
    """Reply from a response body. Raises Fault for a cut, filtered or empty one."""
    try:
        answer = _Body.model_validate_json(body)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise Fault("cut", f"the answer is not a chat completion ({reason})", http=200, billed=True) from None
    choice, usage = answer.choices[0], answer.usage or _Usage()
    text, reasoning = choice.message.content or "", choice.message.reasoning_content or choice.message.reasoning or ""
    if choice.finish_reason == "content_filter":
        raise Fault("filtered", "the endpoint's content filter cut the answer", http=200, billed=True)
    if not text.strip() and not reasoning.strip() and choice.finish_reason != "length":
        raise Fault("empty", f"empty answer (finish_reason {choice.finish_reason})", http=200, billed=True)
    counted = len(text + reasoning) // CHARS_PER_TOKEN
    return Reply(
        text=text,
        stop="length" if choice.finish_reason == "length" else "stop",
        prompt_tokens=estimate if usage.prompt_tokens is None else usage.prompt_tokens,
        completion_tokens=counted if usage.completion_tokens is None else usage.completion_tokens,
        model=answer.model,
        cached=False,
        seconds=seconds,
        reasoning=reasoning,
    )


def is_local(base_url: str) -> bool:
    """Whether a URL names this machine or its private network."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _connection_fault(error: openai.APIConnectionError) -> Fault:
    """A request without a response: never connected, or cut off. The SDK's own classes do not tell which."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return Fault("connection", f"no connection within {CONNECT_SECONDS:g} s")
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return Fault("connection", "host not found")
    if isinstance(cause, aiohttp.ClientConnectorError):
        return Fault("connection", os.strerror(cause.errno).lower() if cause.errno else "connection failed")
    if isinstance(cause, aiohttp.ClientPayloadError):
        return Fault("cut", "the connection closed in the middle of the answer", billed=True)
    return Fault("server", "the connection closed before an answer", billed=True)
