"""A judge behind an OpenAI-compatible endpoint: a grade from 0 to 10 for an answer, or none at all.

The answer under judgement is hostile text. It travels between marks made from the hash of that very text, which it therefore
cannot contain; the reply must be a JSON object with one integer, and anything else is no verdict: it is asked once more and
then left undecided.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from seethink.ask import Budget, CallFailed, Client, Endpoint, Ledger, user_message
from seethink.core.store import hash_text
from seethink.rewards.config import JudgeConfig
from seethink.rewards.open.formula import OpenItem, Scorer

PROMPT = Path(__file__).with_name("judge.txt")
GRADE = {"type": "integer", "minimum": 0, "maximum": 10}
OBJECT = {"type": "object", "properties": {"score": GRADE}, "required": ["score"], "additionalProperties": False}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": OBJECT}}
DRAWS = 2
_REPLY = re.compile(r"\s*(?:```(?:json)?\s*)?(\{[^{}]*\})\s*(?:```)?\s*")


class Judge(Scorer):
    """Scores in [0, 1]. Answers come from the ledger where the same question was asked before.

    `ledger` is the file in which calls are recorded and paid; without one they are in memory, for as long as the judge.
    The budget caps what the ledger holds in all. Ledger and calls live in a thread of their own, so that the judge may be
    used from any thread and also inside a running event loop.
    """

    mode = "plain"

    def __init__(self, config: JudgeConfig, ledger: Path | None = None):
        params = {"temperature": 0, config.tokens_param: config.max_tokens, "response_format": SCHEMA}
        self._endpoint = Endpoint(
            base_url=config.url, model=config.model, api_key_env=config.key_env, params=params, price=config.price,
            in_flight=config.in_flight
        )  # fmt: skip
        self._budget, self._seconds = config.budget, config.seconds
        self._prompt = PROMPT.read_text(encoding="utf-8")
        self.name, self.version = f"judge {config.model}", hash_text(self._prompt)
        self._thread = ThreadPoolExecutor(1)
        self._ledger = self._thread.submit(Ledger, ledger or ":memory:").result()

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        """Blocks until all are judged. Raises UserError for a spent budget (code 4) or a dead endpoint (3)."""
        return self._thread.submit(asyncio.run, self._score_all(items)).result()

    def spending(self) -> list[dict[str, Any]]:
        return self._thread.submit(self._ledger.spending).result()

    def close(self) -> None:
        self._thread.submit(self._ledger.close).result()
        self._thread.shutdown()

    async def _score_all(self, items: Sequence[OpenItem]) -> list[float | None]:
        budget = Budget(self._budget, self._ledger.spent(), setting="--reward.open.judge.budget")
        async with Client(self._endpoint, self._ledger, budget) as client:  # connections live for one batch
            return await asyncio.gather(*(self._score(client, item) for item in items))

    async def _score(self, client: Client, item: OpenItem) -> float | None:
        messages = user_message(self._text(item), item.images)
        for draw in range(DRAWS):
            try:
                reply = await asyncio.wait_for(client.chat(messages, step="judge", draw=draw), self._seconds)
            except (CallFailed, TimeoutError):
                return None
            grade = read_grade(reply.text)
            if grade is not None:
                return grade
        return None

    def _text(self, item: OpenItem) -> str:
        mark = f"=== {hash_text(item.question, item.answer, item.reference)} ==="
        return self._prompt.format(
            about_images=" about the images" if item.images else "",
            mark=mark,
            question=item.question,
            reference=item.reference,
            candidate=item.answer.replace(mark, ""),
        )


def read_grade(text: str) -> float | None:
    """The grade of a reply that is exactly one JSON object with an integer from 0 to 10, else None."""
    found = _REPLY.fullmatch(text)
    if not found:
        return None
    try:
        grade = json.loads(found[1])
    except json.JSONDecodeError:
        return None
    score = grade.get("score")
    valid = set(grade) == {"score"} and isinstance(score, int) and not isinstance(score, bool) and 0 <= score <= 10
    return score / 10 if valid else None
