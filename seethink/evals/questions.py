"""What a judge is asked, in our own words: to find the answer that a response gives, or to say whether two answers mean the same."""

from __future__ import annotations

from seethink.core.nouns import Sample


def ask_letter(sample: Sample, text: str) -> str:
    """Which one option the response chooses."""
    raise NotImplementedError


def ask_letters(sample: Sample, text: str) -> str:
    """Which options the response chooses, one or several."""
    raise NotImplementedError


def ask_value(sample: Sample, text: str) -> str:
    """Which value, expression or words the response gives as its answer."""
    raise NotImplementedError


def ask_same(sample: Sample, answer: str) -> str:
    """Whether an answer means what the gold means."""
    raise NotImplementedError
