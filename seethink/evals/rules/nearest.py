"""An option from an extracted answer, as MathVista's authors choose it: by its letter, else the one that is spelled most like it."""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_COMPARED = 2_000
"""Characters of an answer that are compared with the options; the longest ever extracted has a few hundred."""
_BRACKETED = re.compile(r"\(([a-zA-Z])\)")


def nearest(answer: str, options: Mapping[str, str]) -> str:
    """The text of an option: of the first letter in parentheses, of the bare letter, else the one at the least edit distance.

    Source: evaluation/calculate_score.py of lupantech/MathVista.
    """
    answer = answer.strip()
    letter = _BRACKETED.search(answer)
    answer = letter[1].upper() if letter else answer
    if answer in options:
        return options[answer]
    return min(options.values(), key=lambda text: distance(text, answer[:MAX_COMPARED]))


def distance(one: str, other: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions that make `one` of `other`.

    A column of the usual table is kept as two integers of bits, which say where it rises and where it falls (Hyyrö 2003, after
    Myers 1999): time len(other) for a short `one`.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for i, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << i
    every, last, found = (1 << len(one)) - 1, 1 << len(one) - 1, len(one)
    rises, falls = every, 0
    for character in other:
        same = places.get(character, 0)
        diagonal = (((same & rises) + rises) ^ rises) | same | falls
        right_up, right_down = falls | ~(diagonal | rises) & every, rises & diagonal
        found += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = (right_up << 1 | 1) & every, right_down << 1 & every
        rises, falls = right_down | ~(diagonal | right_up) & every, right_up & diagonal
    return found
