"""Results that a trace states on its way, and whether the last of them is the answer it gives.

Rules, no model: a result is read only from a sentence that announces one (conclusions.txt), from an equation, or from a
box. Where nothing can be read the question stays undecided; open answers always do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_WORDS_FROM_ZERO = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
NUMBER_WORDS = {word: str(n) for n, word in enumerate(_WORDS_FROM_ZERO)}
_SENTENCE = re.compile(r"(?:[^.!?\n]|[.](?=\d))+")
_NUMBER = re.compile(rf"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-])|\b(?:{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
_EQUATED = re.compile(r"[=:]\s*(-?\d+(?:\.\d+)?)\s*$")
_LETTER = re.compile(
    r"\(([A-H])\)|\b(?:answer|option|choice|is|be)\s*:?\s+\(?([A-H])\)?(?=\s*(?:$|[,;:)]|because|since))"
)
_FORMULA = re.compile(r"(?:\bis\b|:|\bas\b)\s*((?:[a-z]\s*(?:\(\s*[a-z]\s*\))?\s*=)?[^=]{1,80})$", re.IGNORECASE)
_BOX = re.compile(r"[\[(]\s*{0}\s*,\s*{0}\s*\)?\s*,\s*\(?\s*{0}\s*,\s*{0}\s*[\])]".format(r"(-?\d+(?:\.\d+)?)"))
_PLAIN_FORMULA = re.compile(r"[\w+.^-]*")  # without brackets or products: unequal terms mean unequal formulas


@dataclass(frozen=True, slots=True)
class Claim:
    """A stated result: where in the text, its value in the form `canonical` gives, and whether it is announced as the
    result (a later one then revises it) or is one of several equations on the way."""

    start: int
    value: str
    announced: bool = True


def claims(thinking: str, kind: str, choices: Sequence[str] = ()) -> list[Claim]:
    """Results of one kind (digit, choice, math, box) in the order of the text; none for open questions."""
    if kind == "box":
        return [Claim(m.start(), ",".join(m.groups())) for m in _BOX.finditer(thinking)]
    if kind == "open":
        return []
    return list(_from_sentences(thinking, kind, choices))


def agree(claim: str, answer: str, kind: str, choices: Sequence[str] = ()) -> bool | None:
    """Whether a claim says the same as the answer; None where that cannot be read off the two texts."""
    given = canonical(answer, kind, choices)
    if given is None:
        return None
    if claim == given or kind in ("digit", "choice"):
        return claim == given
    if kind == "box":
        return _same_numbers(claim, given)
    if kind == "math" and _PLAIN_FORMULA.fullmatch(claim) and _PLAIN_FORMULA.fullmatch(given):
        return sorted(_terms(claim)) == sorted(_terms(given))
    return None


def canonical(text: str, kind: str, choices: Sequence[str] = ()) -> str | None:
    """Comparable form of an answer; None where it holds none."""
    if kind == "digit":
        numbers = [_plain_number(m[0]) for m in _NUMBER.finditer(text)]
        return numbers[-1] if numbers else None
    if kind == "choice":
        bare = text.strip().strip("().:* ")
        return bare.upper() if len(bare) == 1 and bare.isalpha() else _option(text, choices)
    if kind == "math":
        return _formula(text)
    found = _BOX.search(text) if kind == "box" else None
    return ",".join(found.groups()) if found else None


@cache
def conclusions() -> re.Pattern[str]:
    """The words of conclusions.txt as one pattern."""
    lines = (files("seethink.traces") / "conclusions.txt").read_text(encoding="utf-8").splitlines()
    phrases = sorted((re.escape(line) for line in lines if line and not line.startswith("#")), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE)


def _from_sentences(thinking: str, kind: str, choices: Sequence[str]) -> Iterator[Claim]:
    for sentence in _SENTENCE.finditer(thinking):
        text = sentence[0]
        concludes = conclusions().search(text) is not None
        value = None
        if kind == "digit":
            equated = _EQUATED.search(text)
            value = _plain_number(equated[1]) if equated else _concluded_number(text) if concludes else None
        elif kind == "choice":
            value = _option(text, choices) if concludes else _letter(text)
        elif kind == "math" and concludes:
            found = _FORMULA.search(text.strip())
            value = _formula(found[1]) if found else None
        if value:
            yield Claim(sentence.start(), value, concludes)


def _concluded_number(text: str) -> str | None:
    """First number after the last concluding word, else the last number before it."""
    end = [m.end() for m in conclusions().finditer(text)][-1]
    after = _NUMBER.search(text, end)
    return _plain_number(after[0]) if after else canonical(text, "digit")


def _letter(text: str) -> str | None:
    letters = {m[1] or m[2] for m in _LETTER.finditer(text)}
    return letters.pop() if len(letters) == 1 else None


def _option(text: str, choices: Sequence[str]) -> str | None:
    """The letter a text names, else the letter of the one option whose words it holds."""
    patterns = [rf"(?<!\w){re.escape(choice)}(?!\w)" for choice in choices]
    named = [chr(ord("A") + i) for i, pattern in enumerate(patterns) if re.search(pattern, text, re.IGNORECASE)]
    return _letter(text) or (named[0] if len(named) == 1 else None)


def _plain_number(text: str) -> str:
    text = NUMBER_WORDS.get(text.lower(), text)
    return text.rstrip("0").rstrip(".") if "." in text else text


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
