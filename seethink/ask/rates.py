"""Requests and tokens a minute: the limits that a user sets, and what an endpoint says is left."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

MINUTE = 60.0
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d*)?)s)?(?:(\d+(?:\.\d*)?)ms)?", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d*)?", re.ASCII)


class Rate:
    """So much a minute, evenly: a bucket that fills all the time and holds a second's worth.

    In no minute does more leave than the limit; a call larger than the bucket leaves when it is full, and the next ones
    wait until that is made good. Times are of one clock, in seconds.
    """

    def __init__(self, per_minute: float | None):
        """None: no limit but what the endpoint announces."""
        self._size = max(1.0, per_minute / MINUTE) if per_minute else math.inf
        self._speed = (per_minute - self._size + 1) / MINUTE if per_minute else math.inf
        self._level, self._at = self._size, 0.0
        self._left, self._until = math.inf, 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until this much may leave, as it looks now."""
        wait = 0.0
        if self._speed < math.inf:
            self._fill(now)
            wait = max(0.0, (min(amount, self._size) - self._level) / self._speed)
        if self._left < amount and now < self._until:
            wait = max(wait, self._until - now)
        return wait

    def take(self, amount: float, now: float) -> None:
        """This much leaves. Less than nothing: an estimate was too high."""
        if self._speed < math.inf:
            self._fill(now)
            self._level = min(self._size, self._level - amount)
        self._left -= amount

    def announced(self, left: float, reset: float, now: float) -> None:
        """The endpoint says what is left until a moment `reset` seconds away. Later than in a minute counts as then: should it
        be too early, a 429 says so and for how long."""
        self._left, self._until = left, now + min(reset, MINUTE)

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + max(0.0, now - self._at) * self._speed)
        self._at = now


def read_left(headers: Mapping[str, str], unit: str) -> tuple[float, float] | None:
    """(what is left, seconds until it is full again) of `requests` or `tokens`, None where the headers do not say both."""
    left, reset = headers.get(f"x-ratelimit-remaining-{unit}"), headers.get(f"x-ratelimit-reset-{unit}")
    if left is None or reset is None or not _NUMBER.fullmatch(left.strip()):
        return None
    seconds = read_duration(reset)
    return None if seconds is None else (float(left), seconds)


def read_duration(text: str) -> float | None:
    """Seconds of "1s", "6m0s", "20ms", "1h2m3.5s", or of a plain number; None for anything else."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not text or not (match := _DURATION.fullmatch(text)):
        return None
    return sum(float(n or 0) * unit for n, unit in zip(match.groups(), (86400, 3600, 60, 1, 0.001), strict=True))
