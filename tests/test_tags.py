"""Extraction: one grammar, three modes, linear time."""

from __future__ import annotations

import time

import pytest

from seethink.core.tags import END_TOKENS, Parsed, clean, compose, extract

GOOD = "<think>x</think><answer>5</answer>"

STRICT = [
    (GOOD, "ok", "5"),
    ("  \n<think>x</think>\n\n\n<answer>5</answer>  \n\n", "ok", "5"),
    ("<think> reasoning here </think> <answer> answer here </answer>", "ok", "answer here"),
    ("<think>a\nb</think>\n<answer>\n333\n</answer>\n", "ok", "333"),
    ("<think></think><answer>4</answer>", "ok", "4"),
    ("<think>x < y > z <b></think><answer>x<5</answer>", "ok", "x<5"),
    ("<think>x</think><answer>0</answer>", "ok", "0"),
    ("<think>x</think><answer>3\u200b</answer>", "ok", "3"),
    ("<think>x</think><answer></answer>", "no_answer", None),
    ("<think>x</think><answer> \n\u200b\0 </answer>", "no_answer", None),
    ("<think>x</think>\n5", "no_format", None),
    ("<answer>5</answer>", "no_format", None),
    ("<answer>5</answer><think>x</think>", "no_format", None),
    ("<think>x</think>so<answer>5</answer>", "no_format", None),
    ("so<think>x</think><answer>5</answer>", "no_format", None),
    (GOOD + " trailing", "no_format", None),
    (GOOD + "<answer>5</answer>", "no_format", None),
    (GOOD + "</answer>", "no_format", None),
    ("<think>a <answer>1</answer></think><answer>2</answer>", "no_format", None),
    ("<think>x</think><answer><think>y</think>5</answer>", "no_format", None),
    ("<think>a</think><think>b</think><answer>5</answer>", "no_format", None),
    ("<think>x<answer>5</answer>", "no_format", None),
    ("<think>x</think><answer>5", "no_format", None),
    ("<think>x</think><answer>5</answer", "no_format", None),
    ("<Think>x</Think><Answer>5</Answer>", "no_format", None),
    ("< think >x< /think >< answer >5< /answer >", "no_format", None),
    ("```\n" + GOOD + "\n```", "no_format", None),
    ("&lt;think&gt;x&lt;/think&gt;&lt;answer&gt;5&lt;/answer&gt;", "no_format", None),
    ("", "no_format", None),
]


@pytest.mark.parametrize(("text", "status", "answer"), STRICT)
def test_strict_grammar(text, status, answer):
    parsed = extract(text)
    assert (parsed.status, parsed.answer) == (status, answer)


@pytest.mark.parametrize("token", END_TOKENS)
def test_end_tokens_may_follow(token):
    assert extract(GOOD + token + "\n" + token).answer == "5"
    assert extract(token + GOOD).status == "no_format"


def test_prefilled_prompt_may_have_taken_the_opening_tag():
    assert extract("x</think><answer>5</answer>").status == "no_format"
    assert extract("x</think><answer>5</answer>", "prefilled") == Parsed("x", "5", "ok")
    assert extract(GOOD, "prefilled").answer == "5"
    assert extract("<think>a<think>x</think><answer>5</answer>", "prefilled").status == "no_format"


LENIENT = [
    ("no thinking <answer>7</answer> bye", None, "7"),
    (
        "<think>try <answer>1</answer></think> <answer>2</answer> or <answer>3</answer> done",
        "try <answer>1</answer>",
        "3",
    ),
    ("<think>x</think> the answer is 5", None, None),
    ("<answer>1</answer><think>x</think>", None, None),
]


@pytest.mark.parametrize(("text", "think", "answer"), LENIENT)
def test_lenient_takes_the_last_answer_after_the_thinking(text, think, answer):
    parsed = extract(text, "lenient")
    assert parsed.answer == answer
    if answer:
        assert parsed.think == think


def test_compose_and_extract_are_inverse():
    assert extract(compose("look here\nand there", "(1, 2)")) == Parsed("look here\nand there", "(1, 2)", "ok")
    assert extract(compose("", "7")) == Parsed("", "7", "ok")


def test_clean_keeps_what_can_be_seen():
    assert clean(" a\u200bb\0c\td\ne\u00ad\u2060 ") == "abc\td\ne"


@pytest.mark.parametrize(
    "text",
    [
        "<think>" + "a" * 10**6 + "</think><answer>5</answer>",
        "<think></think><answer>" + "\0" * 10**6 + "</answer>",
        "<think></think><answer>" + "é" * 10**6 + "</answer>",
        "<think>" * 150_000,
        GOOD + "\0" * 10**6,
        "<answer>" * 60_000 + "</answer>" * 60_000,
    ],
    ids=["long think", "nulls", "accents", "open tags", "null tail", "many answers"],
)
def test_a_megabyte_takes_milliseconds(text):
    best = float("inf")
    for mode in ("strict", "prefilled", "lenient") * 2:
        start = time.thread_time()
        extract(text, mode)
        best = min(best, time.thread_time() - start)
    assert best < 0.1  # CPU seconds; a quiet machine takes a third of it


def test_longer_than_allowed_is_not_read():
    assert extract("a" * 11, max_chars=10).status == "too_long"
