"""Counts: a short answer in whatever words, read as one whole number or not at all."""

from __future__ import annotations

import random
import re

from seethink.core.nouns import Sample
from seethink.rewards.decision import NOTHING, RIGHT, WRONG, Decision, ambiguous, gold_error, malformed
from seethink.rewards.numerals import NUMBER, plain_number, replace_number_words
from seethink.rewards.text import normalise_known

_MARKUP = re.compile(r"\*\*|\$|#{2,}|\\(?:boxed|text|mathrm|textbf)\b|\\[()\[\]]|[{}\"`]")
_NUMBER = re.compile(rf"(?<![\w.]){NUMBER}(?!\w)")
_OPERATION = re.compile(
    r"[0-9][)\]\s]*[-+\u2013\u2014*×÷·/^%!<>][(\[\s]*[0-9]|[-+]\s*[-+]\s*[0-9]|[0-9]\s?[%!/^+°]|[/^<>≤≥≠~√±*×÷]\s*[0-9]|\\[a-zA-Z]+"
)
_HEDGE_BEFORE = re.compile(
    r"(?i)(?:\b(?:at least|at most|up to|(?:more|less|fewer|greater|other) than|over|under|above|below|almost|nearly|not|never"
    r"|except|without)|n't)\s+(?:exactly\s+|about\s+|be\s+)?[-+]?[0-9]"
)
_HEDGE_AFTER = re.compile(
    r"(?i)[0-9]\s*(?:or (?:more|less|fewer|so)|percent|pct|dozen|hundred|thousand|million|billion|half|halves|thirds?|quarters?"
    r"|(?:is|are|was|were)(?:n't| not| wrong| incorrect| false))\b"
)


def digit(gold: str, said: str) -> Decision:
    """1 if the normalised answer names exactly one number, and it is the gold count."""
    target = plain_number(normalise_known(gold))
    if target is None:
        return gold_error(f"{gold[:80]!r} is not a number")
    text = said.replace("{,}", ",")
    text = re.sub(r"\b(?:minus|negative)\s+", "-", replace_number_words(_MARKUP.sub(" ", text)), flags=re.IGNORECASE)
    left, equals, right = text.partition("=")
    if equals:
        if "=" in right or re.search(r"[;,\n]|\bor\b|\band\b|[<>!]$", left):
            return ambiguous("more than one equation")
        text = right
    if _OPERATION.search(text) or _HEDGE_BEFORE.search(text) or _HEDGE_AFTER.search(text):
        return malformed("not a plain count")
    numbers = {plain_number(number) for number in _NUMBER.findall(text)}
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
