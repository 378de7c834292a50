"""What a judge is asked, in our own words: to find the answer that a response gives, or to say whether two answers mean the same.

Whoever reads a response is never told the gold, and whoever is told the gold sees a short answer alone: no text can both make a
claim and be compared. What a model wrote stands between marks made from the hash of that very text, which it therefore cannot
hold. A reply counts only in the form that was asked for; see `judge.py`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from seethink.core.nouns import Sample
from seethink.core.prompt import prompt_text
from seethink.core.store import hash_text, well_formed

HEAD, TAIL = 1_000, 7_000
"""Characters of a long response that are sent, of its start and its end: answers stand at the end, or at once."""
QUESTION, SHORT = 6_000, 300
"""Most characters of a question, and of an answer."""
KINDS_ASKED = ("letter", "letters", "value", "same")
_NOTHING = ("", "null")


class JudgeQuestion(NamedTuple):
    """One question to a judge."""

    text: str
    form: Callable[[str], str | None]
    """The answer of a reply in its plain form, "" where it says that there is none; None for a reply of no use."""


def ask_answer(sample: Sample, text: str) -> JudgeQuestion:
    """Letters of a choice question, else a value or words."""
    if sample.kind != "choice":
        return ask_value(sample, text)
    return ask_letters(sample, text) if sample.meta.get("several") else ask_letter(sample, text)


def ask_letter(sample: Sample, text: str) -> JudgeQuestion:
    """Which one option the response chooses: a letter, of those that there are where the item lists its options."""
    letters = string.ascii_uppercase[: len(sample.choices)] if len(sample.choices) > 1 else string.ascii_uppercase
    return _about("letter", sample, text, partial(one_letter, letters), '"<letter>" or null')


def ask_letters(sample: Sample, text: str) -> JudgeQuestion:
    """Which options the response chooses, one or several: `A, C`; digits where a picture numbers its options."""
    return _about("letters", sample, text, some_letters, '"<letters>" or null')


def ask_value(sample: Sample, text: str) -> JudgeQuestion:
    """Which value, expression or words the response gives as its answer."""
    return _about("value", sample, text, short_answer, '"<answer>" or null')


def ask_same(sample: Sample, answer: str) -> JudgeQuestion:
    """Whether an answer means what one of the golds means."""
    golds = "\n".join(f"Right answer: {_cut(gold, SHORT)}" for gold in sample.golds)
    said = f"{_question(sample)}\n{golds}\n\nModel's answer:\n{_marked(_cut(answer, SHORT))}"
    return JudgeQuestion(
        well_formed(f'{_prompt("same")}\n\n{said}\n\nReply with JSON only: {{"same": true or false}}'), str
    )


def version() -> str:
    """Hash of all that is said to a judge besides the item."""
    return hash_text(*map(_prompt, KINDS_ASKED))


def one_letter(letters: str, answer: str) -> str | None:
    """The letter of an answer that is nothing else, if it is one of `letters`."""
    if answer.lower() in (*_NOTHING, "none"):
        return ""
    found = re.fullmatch(r"[(\[]?([A-Za-z])[)\].:]?", answer)
    return found[1].upper() if found and found[1].upper() in letters else None


def some_letters(answer: str) -> str | None:
    """Letters and digits of an answer that is nothing else, in order, each once."""
    if answer.lower() in (*_NOTHING, "none"):
        return ""
    parts = [part for part in re.split(r"[\s,;&]+|\band\b", answer[: SHORT + 1]) if part]
    found = [re.fullmatch(r"[(\[]?([A-Za-z0-9])[)\].:]?", part) for part in parts]
    return ", ".join(sorted({f[1].upper() for f in found if f})) if found and all(found) else None


def short_answer(answer: str) -> str | None:
    """An answer on one line, if it is short."""
    line = " ".join(answer.split())
    return "" if line.lower() in _NOTHING else line if len(line) <= SHORT else None


@cache
def _prompt(name: str) -> str:
    return Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").strip()


def _about(name: str, sample: Sample, text: str, form: Callable[[str], str | None], reply: str) -> JudgeQuestion:
    left_out, note = len(text) - HEAD - TAIL, ""
    if left_out > 0:
        text = f"{text[:HEAD]}\n[...]\n{text[-TAIL:]}"
        note = f" (of its middle, {left_out} characters are left out)"
    said = f"{_question(sample)}\n\nResponse{note}:\n{_marked(text)}"
    return JudgeQuestion(well_formed(f'{_prompt(name)}\n\n{said}\n\nReply with JSON only: {{"answer": {reply}}}'), form)


def _question(sample: Sample) -> str:
    """As it was asked; where it stands in the picture, what the board says of it (`question_for_eval`)."""
    asked = sample.meta.get("question_for_eval") or prompt_text(sample)
    return f"Now the item that counts.\n\nQuestion: {_cut(str(asked), QUESTION) or '(it stands in the picture)'}"


def _marked(text: str) -> str:
    mark = f"=== {hash_text(text)} ==="
    return f"{mark}\n{text.replace(mark, '')}\n{mark} END"


def _cut(text: str, most: int) -> str:
    text = text.strip()
    return text if len(text) <= most else f"{text[:most]} [...]"
