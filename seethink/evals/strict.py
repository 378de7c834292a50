"""The profile `strict`: our own rules on any board, those of the rewards, which say undecided where they are.

read    what the answer tags or the last box hold, or follows the last "answer is"; else the last line
score   the rules of the sample's kind, over all answers of a board at once; nothing is guessed
judges  one extracts an answer where the rules understand none, one compares where they still do not
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from seethink.core.nouns import Reward, Sample, Verdict
from seethink.core.tags import TAGS, THINK, THINK_END, compose, extract
from seethink.evals.board import Profile, Reading
from seethink.evals.judge.questions import ask_answer, ask_same
from seethink.evals.verdicts import SCORING
from seethink.rewards.config import RewardConfig, SymbolicConfig
from seethink.rewards.maths.decide import TEXT_ONLY
from seethink.rewards.rewarder import Rewarder
from seethink.rewards.text import closing_brace, normalise

SHORT = 100
"""A response to a choice of at most so many characters is an answer as a whole."""
MAX_ANSWER = 2_000
"""Characters of an answer that are read; longer ones are none."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_SAID = re.compile(r"(?i)\b(?:answer\s+is\b|answer\s?\**\s?:)[\s:*]*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])")
_LABELLED = re.compile(r"\s*\(?[A-H][).:]\s*\S")
_COURTESY = re.compile(r"(?i)\blet me know\b|\bi hope (?:this|that)\b|\banything else\b|\bother questions\b")
_RESULT = re.compile(r"=([^=,;]{1,40})\Z")
_SEVERAL = re.compile(r"(?i)\b(?:or|and)\b")
_CONFIG = RewardConfig(max_answer_chars=MAX_ANSWER, symbolic=SymbolicConfig(item_seconds=5, batch_seconds=600))


def read(sample: Sample, text: str) -> Reading | None:
    """The one place of a response that is meant as its answer; None where it is empty or thinking never ended."""
    tagged = extract(text, "lenient")
    if tagged.answer is not None:
        return Reading(tagged.answer, "tags")
    if THINK in text and THINK_END not in text:
        return None
    text = text.rpartition(THINK_END)[2].strip()
    boxes = list(_BOX.finditer(text))
    if boxes and (end := closing_brace(text, boxes[-1].end())) > 0:
        return _reading(text[boxes[-1].end() + 1 : end], "box")
    if claims := list(_SAID.finditer(text)):
        return _reading(text[claims[-1].end() :].partition("\n")[0], "answer is")
    if sample.kind == "choice" and len(text) <= SHORT:
        return _reading(text, "whole")
    return _last_line(sample, text[-MAX_ANSWER - 1 :])


def _last_line(sample: Sample, text: str) -> Reading | None:
    """What the last line comes to, courtesies aside; None where it is one of the options, listed again."""
    lines = [line for line in text.splitlines() if line.strip() and not _COURTESY.search(line)] or [""]
    if len(lines) > 1 and _LABELLED.match(lines[-1]) and _LABELLED.match(lines[-2]):
        return None
    said = lines[-1].strip()
    if sample.kind != "choice" or not _LABELLED.match(said):
        said = _SENTENCE.split(said)[-1]
    result = _RESULT.search(said)
    return _reading(result[1] if result and not _SEVERAL.search(said) else said, "last line")


def _reading(answer: str, by: str) -> Reading | None:
    answer = answer.strip()
    return Reading(answer, by) if 0 < len(answer) <= MAX_ANSWER else None


def score(pairs: Sequence[tuple[Sample, str]]) -> list[Verdict | None]:
    """Right and wrong by the rules of each kind; undecided where an answer is not understood, or makes no single claim.

    None where gold and answer can only be compared by their meaning. Raises UserError where math-verify cannot start.
    """
    ruled = [i for i, (sample, _) in enumerate(pairs) if sample.kind != "open"]
    with Rewarder(_CONFIG) as rewarder:
        answers = [compose("", _untagged(pairs[i][1])) for i in ruled]
        rewards = rewarder.score_batch([pairs[i][0] for i in ruled], answers)
        verdicts = {i: _verdict(reward, rewarder) for i, reward in zip(ruled, rewards, strict=True)}
    return [verdicts[i] if i in verdicts else _same_words(*pair) for i, pair in enumerate(pairs)]


def _verdict(reward: Reward, rewarder: Rewarder) -> Verdict | None:
    by = "algebra" if "math-verify" in reward.detail else f"{reward.kind} rules"
    if reward.detail == TEXT_ONLY:
        return None
    if reward.status == "ok":
        return Verdict(rewarder.is_correct(reward), by)
    return Verdict(None, by, SCORING if reward.status == "gold_error" else "")


def _same_words(sample: Sample, answer: str) -> Verdict | None:
    """Right where a text in words is one of the golds; else only a judge can tell."""
    if len(answer) > MAX_ANSWER:
        return Verdict(None, "words")
    same = normalise(answer).casefold() in {normalise(gold).casefold() for gold in sample.golds}
    return Verdict(True, "words") if same else None


def _untagged(answer: str) -> str:
    """What a rewarder may find between its own tags."""
    for tag in TAGS:
        answer = answer.replace(tag, " ")
    return answer


STRICT = Profile(read, score, extract=ask_answer, grade=ask_same)
