"""Counts: a short answer in whatever words, read as one whole number or not at all."""

from __future__ import annotations

import random
import re
from functools import lru_cache

from seethink.core.nouns import Sample
from seethink.rewards.decision import NOTHING, RIGHT, WRONG, Decision, ambiguous, gold_error, malformed
from seethink.rewards.numerals import NUMBER, Plain, plain_number, replace_number_words
from seethink.rewards.text import normalise_known
from seethink.rewards.wording import MAX_READ, REJECTED_AFTER, hollow_box, spaced, words

MAX_NUMBERS = 50
"""More than any count takes to say, however often it is repeated."""

_MARKUP = re.compile(r"\*\*|\$|#{2,}|\\(?:boxed|text|mathrm|textbf)\b|\\[()\[\]]|[{}\"`]")
_NUMBER = re.compile(rf"(?<![\w.]){NUMBER}(?!\w)")
_PRONOUN = re.compile(r"(?i)\b(?:the|this|that|which|each|every|any|no|another)\s+(?:(?!only\b)\w+\s+)?one\b")
_OPERATION = re.compile(
    rf"[0-9](?![0-9])[)\]\s]*(?:[-+\u2013\u2014*×÷·/^%!<>:]|{words('part.between')})[(\[\s]*[0-9]|[-+]\s*[-+]\s*[0-9]|[0-9]\s?[%!/^+°]"
    r"|[0-9],[0-9]{1,2}(?![0-9])|[/^<>≤≥≠√±*×÷]\s*[0-9]|\\[a-z]+"
)
_OTHER_VALUE = re.compile(
    rf"{words('reject.before', 'bound.before', 'part.before')}\s*(?:\b(?:exactly|about|equal to|of|the|an?|be|is|was|than)\s+)*[-+]?[0-9]"
    rf"|[0-9](?![0-9])(?:{REJECTED_AFTER}|\s*{words('part.after')}|(?:\s+[\w-]{{1,20}}){{0,3}}?\s*(?:{words('bound.after')}|\b(?:is|are|was|were|has been|have been)\s+{words('reject.wrong')}))"
)


@lru_cache(maxsize=10_000)
def _gold_number(gold: str) -> Plain | None:
    return plain_number(normalise_known(gold))


def digit(gold: str, said: str) -> Decision:
    """1 if the normalised answer names exactly one number, and it is the gold count."""
    target = _gold_number(gold)
    if target is None:
        return gold_error(f"{gold[:80]!r} is not a number")
    if len(said) > MAX_READ or hollow_box(said):
        return malformed("an empty box" if len(said) <= MAX_READ else "too long for a count")
    text = _PRONOUN.sub(" ", spaced(_MARKUP.sub(" ", said.replace("{,}", ","))))
    text = re.sub(r"\b(?:minus|negative)\s+(?=[0-9])", "-", replace_number_words(text), flags=re.IGNORECASE)
    left, equals, right = text.partition("=")
    if equals:
        if "=" in right or re.search(r"[;,\n]|\bor\b|\band\b|[<>!]$", left):
            return ambiguous("more than one equation")
        text = right
    written = _NUMBER.findall(text)
    if len(written) > MAX_NUMBERS or _OPERATION.search(text.lower()) or _OTHER_VALUE.search(text.lower()):
        return malformed("not a plain count")
    numbers = {plain_number(number) for number in written}
    if re.search(r"[0-9]", _NUMBER.sub(" ", text)) or None in numbers:
        return malformed("digits that are not a number of their own")
    values = {number.value for number in numbers if number}
    if len(values) != 1:
        return ambiguous("different numbers") if values else malformed("no number")
    return RIGHT if values == {target.value} else WRONG


def wrong_numbers(sample: Sample, rng: random.Random) -> list[str]:
    """Canaries for a gold that is a number (a count or a mathematical value) or, with fewer of them, any other text."""
    gold = normalise_known(sample.gold)
    if not gold.lstrip("-").replace(".", "", 1).isdigit():
        return [*NOTHING[:4], "?"] if gold.lower() not in NOTHING else []
    step = rng.randint(1, 9)
    return [
        f"({gold})+{step}",
        f"{gold} or {gold}{step}",
        f"{gold}{step}",
        f"-{gold}9",
        *(n for n in NOTHING if gold not in n),
    ]
