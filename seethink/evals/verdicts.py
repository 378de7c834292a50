"""From a response to a verdict: rules first, then a judge where the rules read nothing, then a judge where only meaning tells.

Every response leaves with one of four states. `right` and `wrong` are decided; `unparsed` means that no rule (and no judge, where
one was asked) could read an answer, and `reason` says why; `judge_failed` that a judge was asked and gave no usable reply,
which is never the model's fault and never counted against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from seethink.core.nouns import Verdict
from seethink.core.tags import ANSWER, ANSWER_END
from seethink.evals.board import Grade, Profile, Reading, Response

STATES = ("right", "wrong", "unparsed", "judge_failed")
NO_RESPONSE, TRUNCATED, REFUSAL = "no_response", "truncated", "refusal"
UNREADABLE, GRADER, SCORING = "invalid_response_format", "grader_failed", "scoring_failed"
REASONS = (NO_RESPONSE, TRUNCATED, REFUSAL, UNREADABLE, GRADER, SCORING)
"""Why a response is undecided, or was no answer."""
_REFUSED = re.compile(
    r"(?i)\b(?:i(?:'m| am) sorry\b|i can(?:no|')t (?:assist|help|answer|process|view|see)|unable to assist)"
)


class Judge(Protocol):
    """Answers to questions of a profile, in order; None for a question that got no usable reply."""

    name: str

    def extract(self, questions: Sequence[str]) -> list[str | None]:
        """The short answer that each response gives; "" where the judge says that it gives none."""
        ...

    def grade(self, questions: Sequence[str]) -> list[bool | None]:
        """Whether each answer means what the gold means."""
        ...


def state(verdict: Verdict) -> str:
    """One of STATES."""
    if verdict.ok is None:
        return "judge_failed" if verdict.reason == GRADER else "unparsed"
    return "right" if verdict.ok else "wrong"


def scored_part(text: str) -> str:
    """What of a response is scored: the text of its answer tags where it has one pair, else all of it, as VLMEvalKit does for
    the paper's checkpoints."""
    start, end = text.find(ANSWER), text.find(ANSWER_END)
    if text.count(ANSWER) == text.count(ANSWER_END) == 1 and start < end:
        return text[start + len(ANSWER) : end].strip()
    return text


def grade(profile: Profile, responses: Sequence[Response], judge: Judge | None = None) -> list[Grade]:
    """One Grade per response, in order. Without a judge, what only a judge could tell is unparsed."""
    parts = [scored_part(r.trace.text) for r in responses]
    readings: list[Reading | None] = [
        Reading(r.extraction, "extraction") if r.extraction is not None
        else None if r.trace.stop == "error" else profile.read(r.sample, part)
        for r, part in zip(responses, parts, strict=True)
    ]  # fmt: skip
    verdicts: list[Verdict | None] = [None] * len(responses)
    _score(profile, responses, readings, verdicts, range(len(responses)))
    failed: set[int] = set()
    if judge and profile.extract:
        asked = [
            i
            for i, (r, reading, verdict) in enumerate(zip(responses, readings, verdicts, strict=True))
            if _unread(reading, verdict) and r.extraction is None and r.trace.stop != "error" and parts[i].strip()
        ]
        replies = judge.extract([profile.extract(responses[i].sample, parts[i]) for i in asked])
        for i, reply in zip(asked, replies, strict=True):
            readings[i] = Reading(reply, f"judge {judge.name}") if reply else None
            verdicts[i] = None
            if reply is None:
                failed.add(i)
        _score(profile, responses, readings, verdicts, asked)
    if judge and profile.grade:
        asked = [i for i, reading in enumerate(readings) if reading and _open(verdicts[i])]
        replies = judge.grade([profile.grade(responses[i].sample, readings[i].answer) for i in asked])  # type: ignore[union-attr]
        for i, same in zip(asked, replies, strict=True):
            verdicts[i] = None if same is None else Verdict(same, f"judge {judge.name}")
            if same is None:
                failed.add(i)
    return [
        _settled(r, part, reading, verdict, i in failed)
        for i, (r, part, reading, verdict) in enumerate(zip(responses, parts, readings, verdicts, strict=True))
    ]


def _unread(reading: Reading | None, verdict: Verdict | None) -> bool:
    """Whether rules found no answer, or one that they do not understand."""
    return reading is None or (verdict is not None and verdict.ok is None)


def _open(verdict: Verdict | None) -> bool:
    """Whether a grading judge may still decide: not where rules say why nobody can."""
    return verdict is None or (verdict.ok is None and not verdict.reason)


def _score(
    profile: Profile,
    responses: Sequence[Response],
    readings: Sequence[Reading | None],
    verdicts: list[Verdict | None],
    which: Sequence[int],
) -> None:
    """Verdicts of those readings that there are, put in their places."""
    read = [i for i in which if (r := readings[i]) is not None and r.answer.strip()]
    pairs = [(responses[i].sample, readings[i].answer) for i in read]  # type: ignore[union-attr]
    for i, verdict in zip(read, profile.score(pairs), strict=True):
        by = readings[i].by  # type: ignore[union-attr]
        verdicts[i] = verdict and Verdict(verdict.ok, " > ".join(filter(None, (by, verdict.by))), verdict.reason)


def _settled(response: Response, part: str, reading: Reading | None, verdict: Verdict | None, failed: bool) -> Grade:
    """The last word on a response, undecided ones with their reason."""
    text = response.trace.text
    scored = part if part != text else None
    answer = reading.answer if reading else None
    if response.trace.stop == "error" or not (text.strip() or (response.extraction or "").strip()):
        return Grade(Verdict(None, "endpoint" if response.trace.stop == "error" else "rule", NO_RESPONSE), None)
    if failed:
        return Grade(Verdict(None, "judge", GRADER), answer, scored=scored)
    if verdict is not None and (verdict.ok is not None or verdict.reason):
        return Grade(verdict, answer, scored=scored)
    by = verdict.by if verdict else reading.by if reading else "rule"
    cut = response.trace.stop == "length"
    reason = TRUNCATED if cut else REFUSAL if _REFUSED.search(text[:400]) else UNREADABLE
    return Grade(Verdict(None, by, reason), answer, scored=scored)
