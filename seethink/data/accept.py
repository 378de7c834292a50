"""Exactly so many rows: items are tried in a seeded order until as many are kept, or the source ends.

An item starts only while those that are kept and those on their way are fewer than wanted: then it will be needed, however the
others end. So the kept ones are the first in that order, whatever order answers come in, and no item is paid for in vain. The
price is that the last few are waited for in several rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from seethink.ask import NotCached
from seethink.core.nouns import Drop
from seethink.core.stats import wilson
from seethink.core.store import hash_text
from seethink.data.steps import Candidate, Steps, walk


class Quota:
    """How many items may start. `wanted` 0: all."""

    def __init__(self, wanted: int):
        self.wanted, self.kept, self.under_way = wanted, 0, 0
        self._changed = asyncio.Condition()

    @property
    def needed(self) -> bool:
        """Whether one more item is needed, even if all that are under way are kept."""
        return not self.wanted or self.kept + self.under_way < self.wanted

    async def admit(self) -> bool:
        """Whether one more item is needed, as soon as that is known; it is then under way until `settle`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.needed or not self.under_way)
            needed = self.needed
            self.under_way += needed
            return needed

    async def settle(self, kept: bool) -> None:
        """One that was admitted has ended, or there was none."""
        async with self._changed:
            self.under_way -= 1
            self.kept += kept
            self._changed.notify_all()


def in_order(items: Iterable[Candidate], accept: int, seed: int) -> list[Candidate]:
    """The items that wait; with `accept` all that no check has dropped, also those that ended before, in a seeded order."""
    if not accept:
        return [item for item in items if item.waits]
    sound = [item for item in items if item.drop is None or item.drop.step != "metadata"]
    return sorted(sound, key=lambda item: hash_text(str(seed), item.id))


def leave(items: Iterable[Candidate], accept: int) -> None:
    """Drop the items that were not tried, because enough were kept before."""
    for item in items:
        why = f"{accept} were kept before it"
        item.drop = Drop(item.id, item.source, "metadata", "not_needed", why)


def missing(kept: int, tried: int, accept: int) -> dict[str, str]:
    """{alarm: sentence} where the source ended before."""
    what = f"{accept} rows are wanted and the source ended at {kept}, after {tried} items"
    return {"too_few": what} if kept < accept else {}


def forecast(items: Iterable[Candidate], steps: Steps) -> list[Candidate]:
    """The items that will be tried, by the yield of those that the ledger knows; says how many. `steps` must be dry."""
    accept = steps.config.accept
    todo = [anew(item) for item in in_order(items, accept, steps.config.seed)]
    fates = asyncio.run(replay(todo, steps))
    free = steps.config.split.rl_only
    asked = [fate for item, fate in zip(todo, fates, strict=True) if item.source not in free]
    known = [fate for fate in asked if fate is not None]
    said = f"accept {accept}: {sum(known)} traces kept of {len(known)} asked for so far, {len(todo)} items in all"
    if not known:
        print(f"{said}; at least {reach(fates, 1.0, accept)} are needed, how many more nobody knows yet")
        return [anew(item) for item in todo]
    rate = wilson(sum(known), len(known))
    likely, least, most = (reach(fates, r, accept) for r in (rate.estimate, rate.high, rate.low))
    short = ", and the source may end before" if most > len(todo) else ""
    print(f"{said}; about {min(likely, len(todo))} are needed ({least} to {min(most, len(todo))}){short}")
    return [anew(item) for item in todo[:likely]]


def anew(item: Candidate) -> Candidate:
    """The item at its beginning."""
    return replace(item, step="caption", drop=None, failed=False)


async def replay(items: Iterable[Candidate], steps: Steps) -> list[bool | None]:
    """Whether each item is kept, as far as the ledger knows."""
    fates: list[bool | None] = []
    for item in items:
        try:
            await walk(item, steps)
            fates.append(item.kept)
        except NotCached:
            fates.append(None)
    return fates


def reach(fates: Sequence[bool | None], rate: float, accept: int) -> int:
    """How many items, in order, hold `accept` kept ones if of the unknown ones this share is; one more than there are: never."""
    kept = 0.0
    for number, fate in enumerate(fates, 1):
        kept += rate if fate is None else fate
        if kept > accept - 1e-9:
            return number
    return len(fates) + 1
