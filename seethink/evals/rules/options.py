"""Which option a response chooses, as VLMEvalKit's rules tell it for MathVista, MathVision and We-Math.

The rules are reproduced with what is odd about them, because numbers are compared that were made with them: a lone article "A"
near the end is option A, "the answer is based on" is option B, and a text that only mentions an option's words chooses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_uppercase

NONE = "Z"
"""The letter that stands for a refusal, or for no option at all; it is never right."""
_FAILED = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
"""Texts that other programs write, to the letter."""
_BLANKED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST = 4
"""The one letter named must be first named among so many last words."""
_PHRASE = re.compile(r"(?i)answer\s+is\s+\**([a-d])")


def lettered(texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    """{A: first text, B: second, ...}"""
    return dict(zip(ascii_uppercase, texts, strict=False))


def can_infer(text: str, options: Mapping[str, str]) -> str | None:
    """The letter that a response chooses, NONE where it refuses, None where a judge must tell. `options` are texts by letter.

    Time grows with the length of the text alone. Source: vlmeval/utils/matching_util.py.
    """
    if _FAILED in text:
        return None
    if any(phrase in text for phrase in _REFUSALS):
        return NONE
    words = text.translate(_BLANKED).split()
    present = set(words)
    named = [letter for letter in options if letter in present]
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST:
        return named[0]
    if not named and NONE in present:
        return NONE
    phrase = _PHRASE.search(text)
    if phrase and phrase[1].upper() in options:
        return phrase[1].upper()
    return _by_text(text, options)


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    """The one option whose words a text contains, unless the text is much longer than all options."""
    text = text.lower()
    if len(text) > 2 * sum(len(option) for option in options.values()):
        return None
    found = [letter for letter, option in options.items() if option.lower() in text]
    return found[0] if len(found) == 1 else None
