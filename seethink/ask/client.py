"""The client: ask an endpoint a question once, and never the same question twice.

    ledger = Ledger(out / "ledger.sqlite")
    async with Client(Endpoint(base_url="http://127.0.0.1:8000/v1", model="name"), ledger) as client:
        reply = await client.chat(user_message("What is in the image?", ["a.png"]), step="caption", temperature=0)

One client serves one endpoint, one model and one event loop. The ledger sees every attempt.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from seethink.ask.faults import Fault
from seethink.ask.ledger import Ledger, Reply
from seethink.ask.limits import CONTINUES, Breaker, Budget, Limiter
from seethink.ask.messages import Message, call_key, estimate_tokens, to_wire
from seethink.ask.prices import find_price, usd_of
from seethink.core.config import Config
from seethink.core.errors import UserError
from seethink.core.url import BaseUrl, public

if TYPE_CHECKING:
    from seethink.ask.wire import Wire

# attempts per question and fault; a fault that is not here ends the question at once
TRIES = {"rate_limit": 30, "server": 8, "connection": 8, "timeout": 3,
         **dict.fromkeys(("cut", "empty", "broken", "unreadable", "error"), 4)}  # fmt: skip
BACKOFF_CAP = 60.0  # seconds
ANNOUNCED_CAP = 600.0  # nobody waits for days because a header says so
DRAIN_SECONDS, LAST_SECONDS = 10.0, 1.0  # for calls in flight after an interrupt, and after any other end
TYPICAL_TOKENS = 1000  # of an answer, where neither a cap nor an earlier answer tells
WHOLE_SECONDS, STREAM_SECONDS, FIRST_BYTE, IDLE = 600.0, 1800.0, 120.0, 60.0
YOUNG = 10_000  # objects made between two searches for garbage while a client is open
REMEDIES = {
    "key": "Check the key in the environment variable {env}",
    "missing": "Check the model name {model!r} and --base_url",
    "quota": f"Add credit or use another endpoint; {CONTINUES}",
    "tls": "Name a PEM file with its certificate authority in the environment variable SSL_CERT_FILE, or check --base_url",
}
TOKENS = ("max_completion_tokens", "max_tokens")  # names under which endpoints take the cap on an answer


def most_tokens(params: dict[str, Any]) -> int | None:
    """The cap on an answer among sampling parameters, or None. Raises UserError for one that is no number."""
    name = next((name for name in TOKENS if params.get(name) is not None), None)
    if name is None:
        return None
    if not isinstance(params[name], int) or params[name] < 1:
        raise UserError(f"{name} is {params[name]!r}", remedy="Give a whole number from 1")
    return params[name]


class Endpoint(Config):
    """Where a model is served and what it costs."""

    base_url: BaseUrl = Field(min_length=1, description="OpenAI-compatible, e.g. http://127.0.0.1:8000/v1")
    model: str = Field(description="model name as the endpoint knows it")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="environment variable with the key, where needed")
    params: dict[str, Any] = Field(default={}, description="sampling parameters sent with every call")
    price: tuple[float, float] | None = Field(
        default=None, description="USD per million prompt, completion tokens; none: the list price, where there is one"
    )
    in_flight: int = Field(default=32, ge=1, description="calls in flight")
    rpm: float | None = Field(default=None, ge=1, description="requests a minute; none: no limit")
    tpm: float | None = Field(default=None, ge=1, description="tokens a minute, prompt and answer; none: no limit")
    timeout: float | None = Field(
        default=None, gt=0, description="seconds for a complete answer; none: 600, of a streamed one 1800"
    )
    stream: bool = Field(
        default=False, description="answers come piece by piece: no gateway takes long thought for silence"
    )
    first_byte: float = Field(default=FIRST_BYTE, gt=0, description="seconds until a stream begins")
    idle: float = Field(default=IDLE, gt=0, description="seconds from one piece of a stream to the next")

    @property
    def seconds(self) -> float:
        """For a complete answer."""
        return self.timeout or (STREAM_SECONDS if self.stream else WHOLE_SECONDS)

    @model_validator(mode="after")
    def _stream_is_a_setting(self) -> Endpoint:
        if given := {"stream", "stream_options"} & self.params.keys():
            raise ValueError(f"{min(given)} is no sampling parameter: set stream of the endpoint instead of params")
        check_patience(self.timeout, self.first_byte, self.idle, self.stream)
        return self


def check_patience(timeout: float | None, first_byte: float, idle: float, streams: bool) -> None:
    """Raises ValueError for waits of a stream that nothing streams, or that outlast the whole answer."""
    for name, value, default in (("first_byte", first_byte, FIRST_BYTE), ("idle", idle, IDLE)):
        if value != default and not streams:
            raise ValueError(f"{name} is for streamed answers, and none is streamed")
        if value != default and value > (timeout or STREAM_SECONDS):
            raise ValueError(
                f"{name} is {value:g} s, longer than a whole answer may take ({timeout or STREAM_SECONDS:g} s)"
            )


class CallFailed(Exception):
    """A question that stays without an answer: `reason` is a fault's name, `detail` the last error, scrubbed."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that is to be made."""

    key: str
    step: str
    messages: Sequence[Message]
    """As we write them, images as files; they become data URLs when they leave."""
    params: dict[str, Any]
    prompt_tokens: int
    """Estimated."""
    worst: float | None
    """Highest price of one request in USD; None: unknown."""
    rank: int = 0
    """Of calls that wait for one endpoint and model the highest goes first."""


class NotCached(Exception):
    """Raised by a dry client where a call would have been made; carries that call."""

    def __init__(self, call: PendingCall):
        super().__init__(f"about {call.prompt_tokens} prompt tokens")
        self.call, self.prompt_tokens = call, call.prompt_tokens


class _Searches:
    """Python's searches for cycles of garbage, fewer while any client is open: a call in flight is seventy objects that are
    none. Clients may be open side by side, in several threads, and end in any order: the last one puts back what was set."""

    def __init__(self) -> None:
        self._lock, self._open, self._usual = threading.Lock(), 0, gc.get_threshold()

    def fewer(self) -> None:
        with self._lock:
            if not self._open:
                young, *older = self._usual = gc.get_threshold()
                gc.set_threshold(max(YOUNG, young) if young else 0, *older)  # 0: whoever turned them off
            self._open += 1

    def as_before(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                gc.set_threshold(*self._usual)


SEARCHES = _Searches()


class Client:
    """Asks one model. Raises UserError at once for a budget without a price, dry or not."""

    def __init__(
        self,
        endpoint: Endpoint,
        ledger: Ledger,
        budget: Budget | None = None,
        dry: bool = False,
        backoff: float = 0.5,
        beside: Client | None = None,
    ):
        """`dry` answers from the ledger only; `backoff` is the first wait between tries, in seconds; `beside` is a client of
        the same endpoint, model and key, closed after this one, whose limits and connections this one shares."""
        self.endpoint, self.ledger, self.budget = endpoint, ledger, budget or Budget()
        if endpoint.price and not all(0 <= usd < math.inf for usd in endpoint.price):
            what = f"the price of model {endpoint.model!r} is {endpoint.price}"
            raise UserError(what, remedy="Give USD per million prompt and completion tokens")
        self.price = find_price(endpoint.model, endpoint.base_url, endpoint.price)
        if self.budget.cap is not None:
            self.price.need(endpoint.model)
            if most_tokens(endpoint.params) is None:
                what = f"a budget needs the max_tokens of model {endpoint.model!r}"
                raise UserError(what, remedy="Give params.max_tokens, or no budget")
        self._dry, self.backoff = dry, backoff
        self._beside = beside
        self._limiter = beside._limiter if beside else Limiter(endpoint.in_flight, endpoint.rpm, endpoint.tpm)
        self._breaker = Breaker(endpoint.base_url)
        self._typical: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[Reply]] = {}
        self._out: set[str] = set()
        """Keys of requests that have left."""
        self._closing = False
        self._wire: Wire | None = None
        self.answers, self.failures = 0, 0
        self.failed: dict[str, CallFailed] = {}
        """Keys of questions that got no answer, of which a dry client says so."""
        self._failure: CallFailed | None = None

    async def __aenter__(self) -> Client:
        self._closing = False  # it may have been left before
        SEARCHES.fewer()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nothing new is sent. Calls in flight may finish for some seconds, for they are paid already."""
        SEARCHES.as_before()
        self._closing, out = True, [task for key, task in self._running.items() if key in self._out]
        for task in (tasks := list(self._running.values())):
            if task not in out:
                task.cancel()
        if out:
            await asyncio.wait(out, timeout=DRAIN_SECONDS if kind is asyncio.CancelledError else LAST_SECONDS)
        for task in out:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._wire:
            await self._wire.close()
            self._wire = None  # whoever enters again opens it again

    async def chat(
        self, messages: Sequence[Message], step: str = "chat", draw: int = 0, rank: int = 0, **params: Any
    ) -> Reply:
        """The answer to these messages, from the ledger where it has one.

        `step` labels the call in the ledger; `draw` numbers independent answers to the same question; of calls that wait for
        the same endpoint and model the one with the highest `rank` goes first. Raises CallFailed when this question gets no
        answer, NotCached from a dry client, UserError when no question would (endpoint dead, key refused, budget spent).
        """
        params = {**self.endpoint.params, **params}
        key = call_key(self.endpoint.model, messages, params, draw)
        if (known := self.ledger.find(key)) is not None:
            self.answers += 1
            return known
        prompt_tokens = estimate_tokens(messages, self.endpoint.model)
        worst = self.usd(1.5 * prompt_tokens + 100, most_tokens(params) or 0)
        call = PendingCall(key, step, messages, params, prompt_tokens, worst, rank)
        if self._dry:
            raise self.failed.get(key) or NotCached(call)
        if key not in self._running:  # the same question from several items is one call
            task = asyncio.create_task(self._ask(call))
            self._running[key] = task
            task.add_done_callback(lambda done: self._settle(key, done))
        task = self._running[key]
        await asyncio.wait([task])  # whoever waits here may be cancelled; the call, which is paid, goes on
        return task.result()

    def check_answered(self, least: int) -> None:
        """Raises UserError (code 3) where `least` questions or more failed and none was answered: then it is the endpoint and
        not the questions. One that moderation stopped says nothing of the others."""
        if self._failure and self.failures >= least and not self.answers:
            raise endpoint_failed(self.endpoint.base_url, self._failure.detail, self.failures)

    def fail(self, key: str, fault: Fault) -> None:
        """A batch could not get this question answered; it fails as it would have failed by itself. Raises UserError where
        no question would be answered."""
        if fault.name in REMEDIES:
            raise self.dead(fault)
        self.failed[key] = CallFailed(fault.name, fault.detail)
        if fault.name != "filtered":
            self.failures, self._failure = self.failures + 1, self.failed[key]

    def _settle(self, key: str, done: asyncio.Task[Reply]) -> None:
        """A call has ended. Its exception is looked at here: whoever waited for it may no longer be there."""
        del self._running[key]
        fault = None if done.cancelled() else done.exception()
        if isinstance(fault, CallFailed) and fault.reason != "filtered":
            self.failures, self._failure = self.failures + 1, fault
        self.answers += not done.cancelled() and fault is None

    async def _ask(self, call: PendingCall) -> Reply:
        """Ask until there is an answer, or no sense in asking again."""
        faults: Counter[str] = Counter()
        while True:
            tokens = call.prompt_tokens + self._answer_tokens(call)
            await self._limiter.enter(tokens, call.rank)
            try:
                async with self.budget.hold(call.worst or 0.0):
                    reply = await self._try(call)
                self._limiter.used(reply.prompt_tokens + reply.completion_tokens - tokens)
                return reply
            except Fault as fault:
                faults[fault.name] += 1
                self._give_up(call.key, fault, faults[fault.name])
                wait = min(BACKOFF_CAP, self.backoff * 2 ** faults[fault.name])
                if fault.wait is not None or fault.name == "rate_limit":
                    asked = wait if fault.wait is None else fault.wait
                    wait = min(ANNOUNCED_CAP, self._breaker.asked_to_wait(asked, fault.detail))
                if fault.name == "rate_limit":
                    self._limiter.throttled(min(wait, fault.wait or 1.0))
            finally:
                self._limiter.leave()
            if self._closing:
                raise CallFailed("interrupted", "the run has ended")
            await asyncio.sleep(wait * random.uniform(1.0, 1.5))  # all who were told to wait must not come back at once

    async def _try(self, call: PendingCall) -> Reply:
        """One request, on record before and after. Raises Fault."""
        key, step, model = call.key, call.step, self.endpoint.model
        messages = to_wire(call.messages)  # not before: pictures of all who wait would fill the memory
        attempt = self.ledger.sent(key, step, model, call.worst)
        self._out.add(key)
        try:
            reply = await self.open().send(model, messages, call.params, call.prompt_tokens)
        except Fault as fault:
            usd = call.worst if fault.billed else 0.0
            self.ledger.failed(attempt, fault.name, fault.http, usd, fault.detail)
            self.budget.pay(usd or 0.0)
            raise
        except asyncio.CancelledError:  # possibly paid
            self.ledger.failed(attempt, "lost", None, call.worst, "interrupted")
            self.budget.pay(call.worst or 0.0)
            raise
        finally:
            self._out.discard(key)
        if self.price.usd is not None:
            reply = replace(reply, usd=self.usd(reply.prompt_tokens, reply.completion_tokens))
        self._limiter.answered()
        self._breaker.answered()
        try:
            await self.ledger.committed(self.ledger.answered(attempt, key, step, model, reply))
        finally:
            self.budget.pay(reply.usd or 0.0)  # just before it is held no longer, and is not counted twice
        return reply

    def _answer_tokens(self, call: PendingCall) -> float:
        """The most that an answer may have, or where that is open what the answers of its step usually have."""
        if (most := most_tokens(call.params)) is not None:
            return most
        if call.step not in self._typical:
            typical = self.ledger.typical(call.step)
            self._typical[call.step] = typical[1] if typical else TYPICAL_TOKENS
        return self._typical[call.step]

    def _give_up(self, key: str, fault: Fault, times: int) -> None:
        """Raises where another try is pointless: UserError for the whole endpoint, CallFailed for this question."""
        if fault.name in REMEDIES:
            raise self.dead(fault) from None
        if fault.name in ("server", "timeout", "connection"):
            self._breaker.failed(key, fault.name != "connection", self._limiter.in_flight, fault.detail)
        if times >= TRIES.get(fault.name, 1):
            raise CallFailed(fault.name, fault.detail) from None

    def dead(self, fault: Fault) -> UserError:
        """What to raise for a fault that no question survives."""
        remedy = REMEDIES[fault.name].format(env=self.endpoint.api_key_env, model=self.endpoint.model)
        return UserError(fault.detail, where=public(self.endpoint.base_url), remedy=remedy, code=3)

    def open(self) -> Wire:
        """The connection pool, made at the first call."""
        if self._beside and self._beside.endpoint.stream == self.endpoint.stream:
            return self._beside.open()
        if self._wire is None:
            from seethink.ask.wire import Patience, Wire  # here: help of a verb must not load the network

            at = self.endpoint
            patience = Patience(at.seconds, at.first_byte if at.stream else None, at.idle)
            self._wire = Wire(at.base_url, at.api_key_env, patience, self._limiter.heard)
        return self._wire

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """What so many tokens cost; None where the price is unknown."""
        return usd_of(self.price.usd, prompt_tokens, completion_tokens)


def endpoint_failed(base_url: str, detail: str, questions: int) -> UserError:
    """What to raise when an endpoint has answered none of its questions; `detail` is what it said to one."""
    what = f"the endpoint answered none of {questions} questions ({detail})"
    return UserError(what, where=public(base_url), remedy="The same command asks them again", code=3)
