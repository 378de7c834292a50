"""How DynaMath's answers are read and compared: VLMEvalKit's way (`leaderboard`) and that of the authors' scripts (`official`).

Both ask for a JSON object whose "short answer" is scored. They differ in how lenient they are with the JSON, in whether letters
may stand within words, and in which of two texts has to contain the other. Where this departs from them:

- An empty answer is none; VLMEvalKit finds it right for every text, since every text contains it.
- VLMEvalKit looks for the right letter among the first three characters of a response in which neither rules nor its judge can
  find one. That helps only answers that nobody understood, and is left out.
- Where VLMEvalKit or a script would stop with an error, there is no answer.
- opensource_json_eval.py takes the last line of a response without JSON, less its last character. Here there is no answer.

Sources: VLMEvalKit, vlmeval/dataset/dynamath.py;
DynaMath, evaluation/gpt4o/gpt_4o_json_eval.py and evaluation/opensource_json_eval.py.
"""

from __future__ import annotations

import json
import math
from typing import Any

from seethink.core.nouns import Sample, Verdict
from seethink.evals.board import Reading
from seethink.evals.verdicts import UNREADABLE

TOLERANCE = 0.001
LETTERS = "ABCDE"
"""What VLMEvalKit looks for within words; F, which six items have, it finds only alone."""
LONGEST_NUMBER = 1_000  # characters; a longer one is no answer that can be read
KEY = "short answer"
QUIRKS_LEADERBOARD = (
    "backslashes are removed before the JSON is read, which destroys escapes such as that of pi",
    "a short answer that is a JSON number, a fraction or has a currency sign or a thousands separator is not read",
    "the letters A to E count wherever they stand, in words as well; two of them cannot be read",
    "a text is right when the reference contains it: Town is right for Cape Town, a whole sentence never is",
)
QUIRKS_OFFICIAL = (
    "a multiple-choice answer is right when its first three characters contain the letter",
    "a text is right when it contains the reference, whatever else it says",
)


def read_leaderboard(sample: Sample, text: str) -> Reading | None:
    """The short answer of the JSON in a response, else the whole response, whichever can be understood first."""
    text = _json_part(text)
    found = _short_answer(text, strict=False)
    if isinstance(found, str) and _understood(sample, found) is not None:
        return Reading(found, "json")
    if found is not None and sample.kind != "choice" and sample.meta["answer_type"] != "float":
        return None
    return Reading(text, "whole") if _understood(sample, text) is not None else None


def score_leaderboard(sample: Sample, answer: str) -> Verdict:
    """Undecided where the answer cannot be understood as one of its type."""
    understood = _understood(sample, answer)
    if understood is None:
        return Verdict(None, "", UNREADABLE)
    if not isinstance(understood, str):
        return _near(understood, sample.gold)
    if sample.kind == "choice":
        return Verdict(understood == sample.gold, "letter")
    return Verdict(understood.lower() in sample.gold.lower(), "contained in gold")


def read_official(sample: Sample, text: str) -> Reading | None:
    """The short answer of a response that is JSON, or of the JSON in it; whatever it is counts as its text."""
    found = _short_answer(text, strict=True)
    if found is None:
        found = _short_answer(_json_part(text), strict=False)
    return None if found is None else Reading(str(found), "json")


def score_official(sample: Sample, answer: str) -> Verdict:
    """Undecided where a number cannot be understood."""
    if sample.meta["answer_type"] == "float":
        found = number(answer)
        return Verdict(None, "", UNREADABLE) if found is None else _near(found, sample.gold)
    if sample.kind == "choice":
        return Verdict(answer == sample.gold if len(answer) == 1 else sample.gold in answer[:3], "letter")
    return Verdict(sample.gold in answer, "contains gold")


def _json_part(text: str) -> str:
    """From the first brace to the last, where there are any, without backslashes."""
    start, end = text.find("{"), text.rfind("}")
    return (text[start : end + 1] if 0 <= start < end else text).replace("\\", "")


def _short_answer(text: str, strict: bool) -> Any:
    """Of a JSON object; None where there is none. Unless `strict`, texts may hold line breaks as they are."""
    try:
        value = json.loads(text, strict=strict)
    except (ValueError, RecursionError):  # the former also for an integer of thousands of digits
        return None
    return value.get(KEY) if isinstance(value, dict) else None


def _understood(sample: Sample, answer: str) -> float | str | None:
    """The number, letter or text that an answer is, by the item's type."""
    if sample.meta["answer_type"] == "float":
        return number(answer)
    if sample.kind != "choice":
        return answer
    if len(answer) == 1:
        return answer.upper()
    upper = answer.upper()
    found = [letter for letter in LETTERS if letter in upper]
    return found[0] if len(found) == 1 else None


def number(answer: str) -> float | None:
    """Of its first word: a number, or a number before pi."""
    word = answer.split(" ")[0]
    before, pi, _ = word.partition("\N{GREEK SMALL LETTER PI}")
    if len(word) > LONGEST_NUMBER:
        return None
    try:
        return float(before) * (math.pi if pi else 1)
    except ValueError:
        return None


def _near(found: float, gold: str) -> Verdict:
    return Verdict(abs(found - float(gold)) <= TOLERANCE, "number")
