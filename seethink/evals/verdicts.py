"""From a response to a verdict: rules first, then a judge where the rules read nothing, then a judge where only meaning tells.

Every response leaves with one of four states. `right` and `wrong` are decided; `unparsed` means that no rule (and no judge, where
one was asked) could read an answer, and `reason` says why; `judge_failed` that a judge was asked and gave no usable reply,
which is never the model's fault and never counted against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seethink.core.nouns import Verdict
from seethink.core.tags import ANSWER, ANSWER_END
from seethink.evals.board import Grade, Profile, Reading, Response
from seethink.evals.judge.questions import JudgeQuestion

STATES = ("right", "wrong", "unparsed", "judge_failed")
NO_RESPONSE, TRUNCATED, REFUSAL = "no_response", "truncated", "refusal"
UNREADABLE, GRADER, SCORING = "invalid_response_format", "grader_failed", "scoring_failed"
REASONS = (NO_RESPONSE, TRUNCATED, REFUSAL, UNREADABLE, GRADER, SCORING)
"""Why a response is undecided, or was no answer."""
_REFUSED = re.compile(
    r"(?i)\b(?:i(?:['’]m| am) sorry\b|i can(?:no|['’])t (?:assist|help|answer|process|view|see)|unable to assist)"
)


class AnswerJudge(Protocol):
    """Answers to questions of a profile, in order; None for a question that got no usable reply."""

    name: str

    def extract(self, questions: Sequence[JudgeQuestion]) -> list[str | None]:
        """The short answer that each response gives; "" where the judge says that it gives none."""
        ...

    def grade(self, questions: Sequence[JudgeQuestion]) -> list[bool | None]:
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


def grade(profile: Profile, responses: Sequence[Response], judge: AnswerJudge | None = None) -> list[Grade]:
    """One Grade per response, in order. Without a judge, what only a judge could tell is unparsed."""
    work = [_Work(r, r.trace.text if profile.whole else scored_part(r.trace.text)) for r in responses]
    came = [w for w in work if w.came]
    for w in came:
        given = w.response.extraction
        by_rules = given is None or profile.rules_first
        w.reading = profile.read(w.response.sample, w.part) if by_rules else Reading(given or "", "extraction")
    _score(profile, came)
    if profile.rules_first:
        stored = [w for w in came if w.unread and w.response.extraction is not None]
        for w in stored:
            w.reading, w.verdict = Reading(w.response.extraction or "", "extraction"), None
        _score(profile, stored)
    if judge and profile.extract:
        asked = [w for w in came if w.response.extraction is None and w.part.strip() and w.unread]
        replies = judge.extract([profile.extract(w.response.sample, w.part) for w in asked])
        for w, reply in zip(asked, replies, strict=True):
            w.failed, w.verdict = reply is None, None
            w.reading = None if reply is None else Reading(reply, f"judge {judge.name}")
        _score(profile, asked)
    if judge and profile.grade:
        asked = [w for w in came if w.answer and w.open]
        replies = judge.grade([profile.grade(w.response.sample, w.answer) for w in asked])
        for w, same in zip(asked, replies, strict=True):
            w.failed = same is None
            w.verdict = None if same is None else Verdict(same, f"judge {judge.name}")
    return [_settled(w) for w in work]


@dataclass(slots=True)
class _Work:
    """A response on its way to a verdict."""

    response: Response
    part: str
    """What of it is scored."""
    reading: Reading | None = None
    verdict: Verdict | None = None
    failed: bool = False
    """A judge was asked last, and gave no usable reply."""

    @property
    def came(self) -> bool:
        """Whether there is anything to score."""
        given = (self.response.extraction or "").strip()
        return self.response.trace.stop != "error" and bool(given or self.response.trace.text.strip())

    @property
    def answer(self) -> str:
        """As it was read; "" where none was."""
        return self.reading.answer.strip() if self.reading else ""

    @property
    def open(self) -> bool:
        """Whether rules leave it to the meaning of the answer."""
        return self.verdict is None or (self.verdict.ok is None and not self.verdict.reason)

    @property
    def unread(self) -> bool:
        """Whether rules found no answer, or one that they do not understand."""
        return not self.answer or (self.verdict is not None and self.verdict.ok is None)


def _score(profile: Profile, work: Sequence[_Work]) -> None:
    """Verdicts on those answers that there are."""
    read = [(w, w.reading) for w in work if w.reading and w.answer]
    verdicts = profile.score([(w.response.sample, reading.answer) for w, reading in read]) if read else []
    for (w, reading), verdict in zip(read, verdicts, strict=True):
        by = " > ".join(filter(None, (reading.by, verdict.by if verdict else "")))
        w.verdict = verdict and Verdict(verdict.ok, by, verdict.reason)


def _settled(w: _Work) -> Grade:
    """The last word on a response, undecided ones with their reason."""
    trace, verdict = w.response.trace, w.verdict
    if not w.came:
        return Grade(Verdict(None, "endpoint" if trace.stop == "error" else "rule", NO_RESPONSE), None)
    scored = w.part if w.part != trace.text else None
    answer = w.reading.answer if w.reading else None
    if w.failed:
        return Grade(Verdict(None, "judge", GRADER), answer, scored=scored)
    if verdict is not None and (verdict.ok is not None or verdict.reason):
        return Grade(verdict, answer, scored=scored)
    by = verdict.by if verdict else w.reading.by if w.reading else "rule"
    if w.answer and verdict is None:
        return Grade(Verdict(None, by, SCORING), answer, scored=scored)  # only a grading judge could tell
    reason = TRUNCATED if trace.stop == "length" else REFUSAL if _REFUSED.search(trace.text[:400]) else UNREADABLE
    return Grade(Verdict(None, by, reason), answer, scored=scored)
