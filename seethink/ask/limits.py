"""How fast, how long and how dearly an endpoint may be asked."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from seethink.ask.rates import Rate, read_left
from seethink.core.errors import UserError
from seethink.core.url import public

FIRST, LATER = 3.0, 60.0  # seconds of patience with an endpoint
PATIENCE = 900.0  # seconds without any answer, where the endpoint asks to wait
SAID = 60.0  # seconds from which a wait is worth a word
BEYOND = 0.1  # of the usual growth of a limit, where a burst has shown that it was too high
UNIT = 10**12  # of a dollar: whole numbers return to zero when what was added is taken away again
CONTINUES = "the same command then continues"


class Limiter:
    """Who may call an endpoint and model now: so many in flight, requests and tokens a minute; who waits longest in the
    highest rank is first. Steps that ask the same model share one, and later steps have the higher rank.

    One 429 delays only its own call. A burst (three or more, and a tenth of the answers of the last second) lets nobody
    through before the announced wait is over, and cuts the limit to the calls that were not refused, but at most to a
    quarter; each success earns a little of it back, little by little beyond what was once too much. Cutting at every
    single 429 would starve an endpoint that merely rations.
    """

    def __init__(self, most: int, rpm: float | None = None, tpm: float | None = None):
        """`rpm`, `tpm`: requests and tokens a minute; None: no limit."""
        self.most, self.limit, self.in_flight = most, float(most), 0
        self._requests, self._tokens = Rate(rpm), Rate(tpm)
        self._line: list[tuple[int, int, float, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._recent: deque[tuple[float, bool]] = deque()
        self._answers, self._ceiling = 0, float(most)
        self._shut: tuple[float, int] | None = None
        """Until when the gate is shut, and how many answers there were when it was."""

    async def enter(self, tokens: float = 0.0, rank: int = 0) -> None:
        """Wait for a place and for so many tokens, prompt and answer together. Whoever enters leaves."""
        place = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (-rank, next(self._arrivals), tokens, place))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it had one already
                self.leave()
            raise

    def leave(self) -> None:
        self.in_flight -= 1
        self._admit()

    def used(self, tokens: float) -> None:
        """An answer took so many tokens more than it entered with, or fewer where this is negative."""
        self._tokens.take(tokens, time.monotonic())

    def heard(self, headers: Mapping[str, str]) -> None:
        """What a response says of the endpoint's own limits."""
        for rate, unit in ((self._requests, "requests"), (self._tokens, "tokens")):
            if said := read_left(headers, unit):
                rate.announced(*said, time.monotonic())

    def answered(self) -> None:
        self._note(False)
        self._answers += 1
        step = 1 / self.limit if self.limit < self._ceiling else BEYOND / self.limit
        self.limit = min(self.most, self.limit + step)

    def throttled(self, wait: float) -> None:
        """The endpoint said 429 and asked for `wait` seconds."""
        now = self._note(True)
        refused = sum(throttled for _, throttled in self._recent)
        if self._shut is None and refused >= 3 and refused * 10 >= len(self._recent):
            self._shut = now + wait, self._answers

    def _admit(self) -> None:
        """Let in who may come in, and see to it that the next one is thought of in time."""
        now = time.monotonic()
        if self._shut and now >= self._shut[0]:
            self._open(self._shut[1])
        while self._line and self.in_flight < int(self.limit):
            _, _, tokens, place = self._line[0]
            if place.done():  # whoever waited has gone
                heapq.heappop(self._line)
                continue
            wait = max(self._requests.wait(1, now), self._tokens.wait(tokens, now))
            if (wait := max(wait, self._shut[0] - now if self._shut else 0.0)) > 0:
                if self._timer:
                    self._timer.cancel()
                self._timer = place.get_loop().call_later(wait, self._admit)
                return
            heapq.heappop(self._line)
            self._requests.take(1, now)
            self._tokens.take(tokens, now)
            self.in_flight += 1
            place.set_result(None)

    def _open(self, answers: int) -> None:
        """The gate opens again: what was in flight when it shut and was not refused is what the endpoint takes at once."""
        self._shut = None
        accepted = self.in_flight + self._answers - answers
        self.limit = self._ceiling = max(1.0, self.limit / 4, min(self.limit * 0.75, accepted))
        self._recent.clear()

    def _note(self, throttled: bool) -> float:
        now = time.monotonic()
        self._recent.append((now, throttled))
        while now - self._recent[0][0] > 1:
            self._recent.popleft()
        return now


class Breaker:
    """Tells a dead endpoint from a faulty one, so that a run stops in seconds instead of retrying for hours.

    Dead: no answer since the first of at least three failures, for as long as patience lasts, and more failures than
    calls still waiting (calls that think for minutes must not be taken for silence). Patience is short (FIRST) for
    connections that were never accepted, long (LATER) for an endpoint that has spoken: it may only be restarting. One or
    two questions that it cannot answer make no dead endpoint of it: they run out of tries by themselves.
    """

    def __init__(self, base_url: str):
        self.base_url, self.proven = public(base_url), False
        self._failures, self._since, self._failed = 0, 0.0, set[str]()
        self._waiting_since: float | None = None
        self._silent_until = 0.0

    def answered(self) -> None:
        self.proven, self._failures, self._waiting_since = True, 0, None
        self._failed.clear()

    def asked_to_wait(self, seconds: float, detail: str) -> float:
        """How many of these seconds to wait. Says so where they are many. Raises UserError (code 3) once PATIENCE is over."""
        now = time.monotonic()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        left = self._waiting_since + PATIENCE - now
        asks = f"the endpoint asks to wait {duration(seconds)} ({detail})"
        if left <= 0:
            remedy = f"Come back later or use another endpoint; {CONTINUES}"
            raise UserError(
                f"{asks} and has not answered for {duration(PATIENCE)}", where=self.base_url, remedy=remedy, code=3
            )
        if seconds >= SAID and now >= self._silent_until:
            self._silent_until = now + PATIENCE
            ends = f"; without an answer the run ends in {duration(PATIENCE)}, and {CONTINUES}"
            print(f"seethink: {self.base_url}: {asks}{ends}", file=sys.stderr, flush=True)
        return min(seconds, left)

    def failed(self, key: str, connected: bool, waiting: int, detail: str) -> None:
        """Note a failure of a question while `waiting` other calls are out. Raises UserError (code 3) once the endpoint is dead."""
        now = time.monotonic()
        self._since = self._since if self._failures else now
        self._failures += 1
        self._failed.add(key)
        patience = LATER if connected or self.proven else FIRST
        many = self._failures >= 3 and self._failures > waiting and (not connected or len(self._failed) >= 3)
        if many and now - self._since >= patience:
            remedy = f"Start the server or fix --base_url; {CONTINUES}"
            raise UserError(f"the endpoint does not answer ({detail})", where=self.base_url, remedy=remedy, code=3)


class Budget:
    """A cap in USD over everything a ledger has paid; None is no cap.

    The highest price of a request is held back before it leaves and replaced by its real price after.
    """

    def __init__(self, cap: float | None = None, spent: float = 0.0, setting: str = "--budget"):
        """`setting` is what a user would raise."""
        self.cap, self.spent, self.setting = cap, spent, setting
        self._held = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def hold(self, usd: float) -> AbstractAsyncContextManager[None]:
        """Waits while requests in flight may still return enough. Raises UserError (code 4) when they cannot."""
        return nullcontext() if self.cap is None else self._hold(usd)

    @asynccontextmanager
    async def _hold(self, usd: float) -> AsyncIterator[None]:
        share, place = math.ceil(usd * UNIT), asyncio.get_running_loop().create_future()
        self._line.append((share, place))
        self._admit()
        try:
            await place
            yield
        finally:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._held -= share
                self._admit()

    @property
    def held(self) -> float:
        """USD that requests in flight may cost at most."""
        return self._held / UNIT

    def _admit(self) -> None:
        """Let the first in line have what they want, or hear that there is no more."""
        while self._line:
            share, place = self._line[0]
            if not place.done():
                if not self.fits(share / UNIT):
                    if self._held:
                        return
                    place.set_exception(self._all_spent(share / UNIT))
                else:
                    self._held += share
                    place.set_result(None)
            self._line.popleft()

    def _all_spent(self, usd: float) -> UserError:
        what = f"the next call may cost {usd:.4f} USD and {self.spent:.4f} of {self.cap:.4f} USD are spent"
        return UserError(what, where="budget", remedy=f"Raise {self.setting}; {CONTINUES}", code=4)

    def fits(self, usd: float) -> bool:
        """Whether this much more can be spent now."""
        return self.cap is None or self.spent + self.held + usd <= self.cap

    def pay(self, usd: float) -> None:
        self.spent += usd


def duration(seconds: float) -> str:
    """In the largest unit that makes at least one of it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
