"""A judge behind an OpenAI-compatible endpoint: a grade from 0 to 10 for an answer, or none at all.

The answer under judgement is hostile text. It travels between marks made from the hash of that very text, which it therefore
cannot contain; the reply must be a JSON object with one integer, and anything else is no verdict: it is asked once more and
then left undecided.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import re
from collections.abc import Sequence
from pathlib import Path

from seethink.ask import CallFailed, Client, Endpoint, Ledger, user_message
from seethink.core.store import hash_text
from seethink.rewards.open.formula import OpenItem

PROMPT = Path(__file__).with_name("judge.txt")
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "grade",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 10}},
            "required": ["score"],
            "additionalProperties": False,
        },
    },
}
DRAWS = 2
_REPLY = re.compile(r"\s*(?:```(?:json)?\s*)?(\{[^{}]*\})\s*(?:```)?\s*")


class Judge:
    """Scores in [0, 1]. Answers come from the ledger where the same question was asked before."""

    mode = "plain"

    def __init__(self, endpoint: Endpoint, ledger: Path | str = ":memory:", deadline: float = 120.0):
        """`deadline` is seconds per answer, retries included."""
        self._endpoint, self._ledger, self._deadline = endpoint, ledger, deadline
        self._prompt = PROMPT.read_text(encoding="utf-8")
        self.name, self.version = f"judge {endpoint.model}", hash_text(self._prompt)

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        """Blocks until all are judged, from any thread and also inside a running event loop."""
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self.score_batch_async(items)).result()

    async def score_batch_async(self, items: Sequence[OpenItem]) -> list[float | None]:
        ledger = Ledger(self._ledger)
        try:
            async with Client(self._endpoint, ledger) as client:
                return await asyncio.gather(*(self._score(client, item) for item in items))
        finally:
            ledger.close()

    def close(self) -> None:
        """Connections live for one batch only."""

    async def _score(self, client: Client, item: OpenItem) -> float | None:
        messages = user_message(self._text(item), item.images)
        for draw in range(DRAWS):
            try:
                call = client.chat(
                    messages, step="judge", draw=draw, temperature=0, max_tokens=200, response_format=SCHEMA
                )
                reply = await asyncio.wait_for(call, self._deadline)
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
