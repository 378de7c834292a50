"""Sentences that several boards ask with, in our own words."""

from __future__ import annotations

from collections.abc import Mapping

LETTER = "the letter of the right option"
LETTERS = "the letter of every right option"
VALUE = "the value that is asked for"


def with_options(question: str, options: Mapping[str, str]) -> str:
    """A question and its options, a line each."""
    return "\n".join([question, *(f"({letter}) {text}" for letter, text in options.items())])


def direct(text: str, form: str) -> str:
    """Asks for the answer alone. `form` says what an answer is: LETTER, VALUE, ..."""
    return f"{text}\nReply with {form} and nothing else."


def with_reasoning(text: str, form: str) -> str:
    """Asks for the way to the answer, too."""
    return f"{text}\nWork it out step by step. Then close with a line that reads 'Answer:' and {form}."
