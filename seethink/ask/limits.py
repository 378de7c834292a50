"""How fast, how long and how dearly an endpoint may be asked."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from seethink.core.errors import UserError
from seethink.core.url import public

FIRST, LATER = 3.0, 60.0  # seconds of patience with an endpoint
PATIENCE = 900.0  # seconds without any answer, where the endpoint asks to wait
SAID = 60.0  # seconds from which a wait is worth a word
CONTINUES = "the same command then continues"


class Limiter:
    """Calls in flight: at most `most`, fewer while the endpoint answers 429 in bursts.

    One 429 delays only its own call. A burst (three or more, and a tenth of the answers of the last second) cuts the
    limit by a quarter, at most once a second, and lets nobody through before the announced wait is over; each success
    earns a little of it back. Cutting at every single 429 would starve an endpoint that merely rations.
    """

    def __init__(self, most: int):
        self.most, self.limit, self.in_flight = most, float(most), 0
        self._change = asyncio.Condition()
        self._recent: deque[tuple[float, bool]] = deque()
        self._cut_at = self._shut_until = float("-inf")

    async def __aenter__(self) -> None:
        async with self._change:
            while self.in_flight >= int(self.limit):
                await self._change.wait()
            self.in_flight += 1
        if (wait := self._shut_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def __aexit__(self, *_: object) -> None:
        self.in_flight -= 1
        async with self._change:
            self._change.notify(2)  # this place, and one that a grown limit may have opened

    def answered(self) -> None:
        self._note(False)
        self.limit = min(self.most, self.limit + 1 / self.limit)

    def throttled(self, wait: float) -> None:
        """The endpoint said 429 and asked for `wait` seconds."""
        now = self._note(True)
        refused = sum(throttled for _, throttled in self._recent)
        if refused >= 3 and refused * 10 >= len(self._recent) and now - self._cut_at > 1:
            self.limit, self._cut_at = max(1.0, self.limit * 0.75), now
            self._shut_until = now + wait

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
    connections that were never accepted, long (LATER) for an endpoint that has spoken: it may only be restarting.
    """

    def __init__(self, base_url: str):
        self.base_url, self.proven = public(base_url), False
        self._failures, self._since = 0, 0.0
        self._waiting_since: float | None = None
        self._silent_until = 0.0

    def answered(self) -> None:
        self.proven, self._failures, self._waiting_since = True, 0, None

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

    def failed(self, connected: bool, waiting: int, detail: str) -> None:
        """Note a failure while `waiting` other calls are out. Raises UserError (code 3) once the endpoint is dead."""
        now = time.monotonic()
        self._since = self._since if self._failures else now
        self._failures += 1
        patience = LATER if connected or self.proven else FIRST
        if self._failures >= 3 and self._failures > waiting and now - self._since >= patience:
            remedy = f"Start the server or fix --base_url; {CONTINUES}"
            raise UserError(f"the endpoint does not answer ({detail})", where=self.base_url, remedy=remedy, code=3)


class Budget:
    """A cap in USD over everything a ledger has paid; None is no cap.

    The highest price of a request is held back before it leaves and replaced by its real price after.
    """

    def __init__(self, cap: float | None = None, spent: float = 0.0, setting: str = "--budget"):
        """`setting` is what a user would raise."""
        self.cap, self.spent, self.setting = cap, spent, setting
        self._held: list[float] = []  # a sum kept by adding and subtracting would not return to zero
        self._change = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, usd: float) -> AsyncIterator[None]:
        """Waits while requests in flight may still return enough. Raises UserError (code 4) when they cannot."""
        async with self._change:
            while self.cap is not None and self.spent + sum(self._held) + usd > self.cap:
                if not self._held:
                    what = f"the next call may cost {usd:.4f} USD and {self.spent:.4f} of {self.cap:.4f} USD are spent"
                    remedy = f"Raise {self.setting}; {CONTINUES}"
                    raise UserError(what, where="budget", remedy=remedy, code=4)
                await self._change.wait()
            self._held.append(usd)
        try:
            yield
        finally:
            self._held.remove(usd)
            async with self._change:
                self._change.notify_all()

    def pay(self, usd: float) -> None:
        self.spent += usd


def duration(seconds: float) -> str:
    """In the largest unit that makes at least one of it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
