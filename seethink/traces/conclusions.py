"""Results that a trace states on its way, and whether the last of them is the answer it gives.

Rules, no model: a result is read only from a sentence that announces one (conclusions.txt), from an equation, or from a
box. Numbers, letters and boxes are read as the rewards read them. Where nothing can be read the question stays undecided;
open answers always do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from seethink.core.nouns import Sample
from seethink.rewards.box import number_groups
from seethink.rewards.choice import letters_of, options_of
from seethink.rewards.numerals import NUMBER, plain_number, replace_number_words
from seethink.rewards.text import lines_of

_SENTENCE = re.compile(r"(?:[^.!?\n]|[.](?=\d))+")
_NUMBER = re.compile(rf"(?<![\w.-]){NUMBER}(?![\w-])")
_EQUATED = re.compile(rf"[=:]\s*({NUMBER})\s*$")
_LETTER = re.compile(
    r"\(([A-H])\)|\b(?:answer|option|choice|is|be)\s*:?\s+\(?([A-H])\)?(?=\s*(?:$|[,;:)]|because|since))"
)
_FORMULA = re.compile(r"(?i)(?:\bis\b|:|\bas\b)\s*((?:[a-z]\s*(?:\(\s*[a-z]\s*\))?\s*=)?[^=]{1,80})$")
_PLAIN_FORMULA = re.compile(r"[\w+.^-]*")  # without brackets or products: unequal terms mean unequal formulas


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A stated result, its value in the form that `canonical` gives."""

    start: int
    value: str
    announced: bool = True
    """As the result, which a later one then revises; False for an equation on the way."""


def conclusions(thinking: str, sample: Sample) -> list[Conclusion]:
    """Results of the sample's kind in the order of the text; none for open questions."""
    if sample.kind == "box":
        return [Conclusion(start, value) for start, value in _boxes(thinking)]
    return list(_from_sentences(thinking, sample))


def agree(value: str, answer: str, sample: Sample) -> bool | None:
    """Whether a conclusion says the same as the answer; None where that cannot be read off the two texts."""
    kind, given = sample.kind, canonical(answer, sample)
    if given is None:
        return None
    if value == given or kind in ("digit", "choice"):
        return value == given
    if kind == "box":
        return _same_numbers(value, given)
    if kind == "math" and _PLAIN_FORMULA.fullmatch(value) and _PLAIN_FORMULA.fullmatch(given):
        return sorted(_terms(value)) == sorted(_terms(given))
    return None


def canonical(answer: str, sample: Sample) -> str | None:
    """Comparable form of an answer; None where it holds none."""
    if sample.kind == "digit":
        return _last_number(replace_number_words(answer))
    if sample.kind == "choice":
        letters = letters_of(answer, options_of(sample))
        return letters.pop() if len(letters) == 1 else _option(answer, sample.choices)
    if sample.kind == "math":
        return _formula(answer)
    return next((value for _, value in _boxes(answer)), None) if sample.kind == "box" else None


@cache
def announcement() -> re.Pattern[str]:
    """The words of conclusions.txt as one pattern."""
    phrases = sorted(map(re.escape, lines_of(Path(__file__).with_name("conclusions.txt"))), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE)


def _from_sentences(thinking: str, sample: Sample) -> Iterator[Conclusion]:
    for sentence in _SENTENCE.finditer(thinking):
        text = sentence[0]
        if thinking.startswith("?", sentence.end()):
            continue  # what is asked is not stated: "is it so ?"
        announced = announcement().search(text) is not None
        value = None
        if sample.kind == "digit" and (announced or "=" in text or ":" in text):
            text = replace_number_words(text)
            equated = _EQUATED.search(text)
            value = _number(equated[1]) if equated else _announced_number(text) if announced else None
        elif sample.kind == "choice":
            value = _option(text, sample.choices) if announced else _letter(text)
        elif sample.kind == "math" and announced:
            found = _FORMULA.search(text.strip())
            value = _formula(found[1]) if found else None
        if value:
            yield Conclusion(sentence.start(), value, announced)


def _announced_number(text: str) -> str | None:
    """First number after the last announcing word, else the last number before it."""
    end = [m.end() for m in announcement().finditer(text)][-1]
    after = _NUMBER.search(text, end)
    return _number(after[0]) if after else _last_number(text)


def _last_number(text: str) -> str | None:
    return next((_number(found) for found in reversed(_NUMBER.findall(text))), None)


def _number(text: str) -> str | None:
    """`2.50` as 2.5 and `1,000` as 1000."""
    number = plain_number(text) if len(text) < 100 else None
    if number is None:
        return None
    return str(number.value) if number.value.denominator == 1 else f"{float(number.value):.15g}"


def _letter(text: str) -> str | None:
    letters = {m[1] or m[2] for m in _LETTER.finditer(text)}
    return letters.pop() if len(letters) == 1 else None


def _option(text: str, choices: Sequence[str]) -> str | None:
    """The letter a text names, else the letter of the one option whose words it holds."""
    patterns = [rf"(?<!\w){re.escape(choice)}(?!\w)" for choice in choices]
    named = [chr(ord("A") + i) for i, pattern in enumerate(patterns) if re.search(pattern, text, re.IGNORECASE)]
    return _letter(text) or (named[0] if len(named) == 1 else None)


def _boxes(text: str) -> Iterator[tuple[int, str]]:
    """(start, "x1,y1,x2,y2") of brackets of four numbers, and of two corners with nothing but blanks and commas between."""
    groups = number_groups(text)
    for ((start, end), numbers), ((follows, _), more) in pairwise([*groups, ((len(text) + 1, 0), ())]):
        if len(numbers) == len(more) == 2 and not text[end:follows].strip(" ,\n"):
            numbers += more
        if len(numbers) == 4:
            yield start, ",".join(f"{number:.15g}" for number in numbers)


def _formula(text: str) -> str | None:
    """Without blanks, dollar signs, products signs and a left side `y =` or `f(x) =`."""
    bare = re.sub(r"[\s$*·]", "", text.replace("−", "-"))
    bare = re.sub(r"^[a-zA-Z](?:\([a-zA-Z]\))?=", "", bare).rstrip(".")
    return bare or None


def _terms(formula: str) -> list[str]:
    return re.findall(r"[+-]?[^+-]+", formula if formula.startswith("-") else f"+{formula}")


def _same_numbers(a: str, b: str) -> bool:
    left, right = ([float(n) for n in text.split(",")] for text in (a, b))
    close = 0.01 * max(map(abs, [*left, *right, 1e-9]))
    return all(abs(x - y) <= close for x, y in zip(left, right, strict=True))
