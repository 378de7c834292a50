"""A scorer in another process, machine or environment: `seethink reward serve` there, its answers here.

For models whose code needs other libraries than training does. What comes back is the reward of the server's own formula.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from seethink.core.errors import UserError
from seethink.core.tags import compose
from seethink.rewards.config import RemoteConfig
from seethink.rewards.open.formula import OpenItem, Scorer

BATCH, IN_FLIGHT = 16, 4
"""Answers of a request; requests on their way at once: the server's model takes one batch after the other."""


class Remote(Scorer):
    """Asks a server for the rewards of open answers. Pictures go by path: both sides see the same files.

    Raises UserError where no server answers at the start. One that fails later gives no score: see `open.max_failures`.
    """

    mode = "plain"

    def __init__(self, config: RemoteConfig):
        self._url, self._seconds = config.url.rstrip("/"), config.seconds
        token = os.environ.get(config.token_env, "")
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            says = self._ask("/health", None)
        except (OSError, ValueError) as error:
            remedy = "Start it there: seethink reward serve --reward.open.scorer ..."
            raise UserError(f"no reward server answers ({error})", where=config.url, remedy=remedy) from None
        self.name, self.version = f"remote {self._url}", str(says.get("scorer"))

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        parts = [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return [score for part in pool.map(self._part, parts) for score in part]

    def _part(self, items: Sequence[OpenItem]) -> list[float | None]:
        samples = [
            {"question": i.question, "gold": i.reference, "kind": "open", "source": "remote", "images": list(i.images)}
            for i in items
        ]
        responses = [compose("", item.answer) for item in items]
        try:
            rewards = self._ask("/score", {"samples": samples, "responses": responses})["rewards"]
            values = [reward["value"] for reward in rewards]
        except (OSError, ValueError, KeyError, TypeError):
            return [None] * len(items)
        sound = len(values) == len(items) and all(v is None or type(v) in (int, float) and 0 <= v <= 1 for v in values)
        return values if sound else [None] * len(items)

    def _ask(self, path: str, body: Any) -> Any:
        """The reply to a request. Raises OSError or ValueError where there is none that can be read."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        with urllib.request.urlopen(request, timeout=self._seconds) as reply:
            found = json.loads(reply.read())
        if not isinstance(found, dict):
            raise ValueError("the reply is no JSON object")
        return found
