"""The one place that knows how a completion is laid out:

    response := WS* "<think>" THINK "</think>" WS* "<answer>" ANSWER "</answer>" (WS | end token)*

Each tag occurs exactly once and in this order; anything else is not an answer. That is the implicit format reward of
the paper (sec. 4.1): an answer that cannot be extracted earns nothing, whatever it says. Tags are found with plain string
search, never with a regular expression that could match too early, too late or for too long.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

THINK, THINK_END, ANSWER, ANSWER_END = TAGS = ("<think>", "</think>", "<answer>", "</answer>")
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<end_of_turn>", "\0")

Mode = Literal["strict", "prefilled", "lenient"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A response taken apart.

    think    text between the think tags, trimmed; None where there is none
    answer   text between the answer tags, trimmed and free of invisible characters; None unless status is ok
    status   ok, no_format (tags missing, repeated or out of order), no_answer (nothing visible inside), too_long
    """

    think: str | None
    answer: str | None
    status: str


def extract(text: str, mode: Mode = "strict", max_chars: int = 2_000_000) -> Parsed:
    """Thinking and answer of a response, in linear time.

    strict     the grammar above
    prefilled  the prompt already ended with "<think>", so the opening tag may be missing
    lenient    the last complete answer after the last "</think>"; for evaluation, where format is not the question
    """
    if len(text) > max_chars:
        return Parsed(None, None, "too_long")
    if mode == "lenient":
        return _last_answer(text)
    if mode == "prefilled" and THINK not in text:
        text = THINK + text
    if any(text.count(tag) != 1 for tag in TAGS):
        return Parsed(None, None, "no_format")
    think, think_end, answer, answer_end = (text.find(tag) for tag in TAGS)
    if not think < think_end < answer < answer_end:
        return Parsed(None, None, "no_format")
    before = text[:think]
    between = text[think_end + len(THINK_END) : answer]
    if not _blank(before) or not _blank(between) or not _only_end_tokens(text[answer_end + len(ANSWER_END) :]):
        return Parsed(None, None, "no_format")
    return _parsed(text[think + len(THINK) : think_end], text[answer + len(ANSWER) : answer_end])


def compose(think: str, answer: str) -> str:
    """The completion that `extract` takes apart again: both parts on one line each, tags on their own side."""
    return f"{THINK}{think}{THINK_END}\n{ANSWER}{answer}{ANSWER_END}"


def clean(text: str) -> str:
    """Text without control and format characters (Unicode Cc and Cf; newline and tab stay), trimmed.

    A zero-width space must neither make nor hide an answer.
    """
    for character in set(text):  # few different ones even in a megabyte
        if unicodedata.category(character) in ("Cc", "Cf") and character not in "\n\t":
            text = text.replace(character, "")
    return text.strip()


def _last_answer(text: str) -> Parsed:
    think_end = text.rfind(THINK_END)
    start = think_end + len(THINK_END) if think_end >= 0 else 0
    answer_end = text.rfind(ANSWER_END, start)
    answer = text.rfind(ANSWER, start, answer_end) if answer_end >= 0 else -1
    if answer < 0:
        return Parsed(None, None, "no_format")
    think = text[:think_end].rpartition(THINK)[2] if think_end >= 0 else None
    return _parsed(think, text[answer + len(ANSWER) : answer_end])


def _parsed(think: str | None, answer: str) -> Parsed:
    think = None if think is None else think.strip()
    answer = clean(answer)
    return Parsed(think, answer, "ok") if answer else Parsed(think, None, "no_answer")


def _only_end_tokens(tail: str) -> bool:
    for token in END_TOKENS:
        tail = tail.replace(token, " ")
    return _blank(tail)


def _blank(text: str) -> bool:
    """True for white space and what nobody sees: a byte order mark, a zero-width space."""
    return all(character.isspace() or unicodedata.category(character) == "Cf" for character in set(text))
