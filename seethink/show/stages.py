"""A sample of a data run as a card: its six stages side by side, as far as it came.

metadata (picture, question, gold), caption, distilled trace, rewriting as a coloured diff, verdict, split with its cues. What an
outcome does not hold, a reply that could not be read, is looked up in the ledger: the steps are walked again without a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from seethink.ask import Budget, CallFailed, Ledger, Reply
from seethink.core.nouns import Sample
from seethink.core.prompt import options_text
from seethink.core.terminal import CONTROLS
from seethink.data.config import DataConfig
from seethink.data.kept import Draft
from seethink.data.outcomes import Outcome
from seethink.data.steps import Candidate, Steps, given_caption, walk
from seethink.show.words import Pieces, clipped, marked, word_diff
from seethink.traces import lexicon

LONGEST = 16_000  # characters of one text on a card
UNREAD = ("format", "too_long", "empty", "judge_unparsable")
"""Reasons of drops whose reply no step could use: it is shown as it came."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """What is known of one sample."""

    sample_id: str
    end: tuple[str, str, str]
    """(source, step, reason)"""
    detail: str
    sample: Sample | None
    """None where the source is gone."""
    outcome: Outcome | None
    """None where the folder has none."""
    said: str = ""
    """The last reply, of a row that was dropped because nothing could be made of it."""


def card(row: ShownRow, config: DataConfig, cues: lexicon.Lexicon | None) -> dict[str, Any]:
    """The row as the page wants it; every text as it is to be shown, pictures as paths."""
    source, step, reason = row.end
    outcome, sample = row.outcome, row.sample
    found: dict[str, Any] = {"id": visible(row.sample_id), "source": visible(source), "step": step, "reason": reason}
    found |= {"detail": visible(row.detail), "said": cut(row.said)}
    if sample:
        options = options_text(sample).strip().splitlines()
        found |= {"kind": sample.kind, "question": cut(sample.question), "options": list(map(visible, options))}
        found |= {"gold": [cut(gold) for gold in sample.golds], "context": cut(sample.context)}
        found |= {"licence": visible(sample.licence), "images": list(sample.images)}
    found["outcome"] = outcome is not None
    if outcome is None:
        return found
    if outcome.caption is not None:
        found["caption"] = cut(outcome.caption)
        given = sample and given_caption(sample, config) is not None
        found["captioned"] = "by the source" if given else ""
    if outcome.distilled:
        found["trace"] = _trace(outcome.distilled, outcome.rewritten, cues)
        found |= {"model": visible(outcome.distilled.model), "tokens": outcome.distilled.tokens}
    if verdict := outcome.verdict:
        found["verdict"] = [verdict.ok, visible(verdict.by), visible(verdict.reason)]
    if step == "split" and outcome.rewritten and cues:
        found["cues"] = lexicon.count_trace(outcome.rewritten.think, outcome.rewritten.answer, cues)
    return found


def visible(text: str) -> str:
    """Text in which control characters, and those that turn its direction, are seen and do nothing."""
    text = CONTROLS.sub(lambda match: f"\u27e8{ord(match[0]):04X}\u27e9", text.replace("\r\n", "\n"))
    return text.encode("utf-8", "replace").decode()


def cut(text: str) -> str:
    """Visible text, its beginning where it is too long."""
    more = len(text) - LONGEST
    return visible(text) if more <= 0 else f"{visible(text[:LONGEST])} [{more:,} more characters]"


def retrace(
    samples: Iterable[Sample], config: DataConfig, prompts: dict[str, Template], folder: Path
) -> dict[str, tuple[Outcome, str]]:
    """By id, how each sample fared as far as the ledger of the run's folder has replies, and the last of these."""
    found = {}
    with closing(_Echo(folder / "ledger.sqlite")) as echo:
        steps = Steps(config, prompts, echo, Budget(), dry=True)

        async def walk_again() -> None:
            for sample in samples:
                echo.said = ""
                found[sample.id] = (
                    await walk(Candidate(sample.id, sample.source, lambda sample=sample: sample), steps),
                    echo.said,
                )

        asyncio.run(walk_again())
    return found


class _Echo(Ledger):
    """A ledger that remembers what it answered last, and ends the walk where it has no answer."""

    said = ""

    def find(self, key: str) -> Reply:
        reply = super().find(key)
        if reply is None:
            self.said = ""
            raise CallFailed("not in the ledger", "")
        self.said = "\n\n".join(filter(None, (reply.reasoning, reply.text)))
        return reply


def _trace(before: Draft, after: Draft | None, cues: lexicon.Lexicon | None) -> dict[str, Any]:
    """Pieces of thinking and answer; with `after`, what changed, by how many words the length moved, and its cues."""
    found: dict[str, Any] = {"more": 0, "coarse": 0}
    for name in ("think", "answer"):
        old = getattr(before, name)
        if after is None:
            pieces: Pieces = [(old, "")]
        else:
            new = getattr(after, name)
            pieces, coarse = word_diff(old, new)
            found["coarse"] += coarse
            if cues and (name == "think" or cues.span == "text"):
                pieces = marked(pieces, ((m.start, m.end) for m in lexicon.find(new, cues)))
        pieces, more = clipped(pieces, LONGEST)
        found["more"] += more
        found[name] = [(visible(text), mark) for text, mark in pieces]
    if after is not None:
        found["moved"] = _words(after) - _words(before)
    return found


def _words(draft: Draft) -> int:
    return len(draft.think.split()) + len(draft.answer.split())
