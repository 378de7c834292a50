"""The strict profile: one place is read, the rules of the rewards decide, and what they do not understand is undecided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seethink.core.nouns import Sample, Trace
from seethink.evals.board import Response
from seethink.evals.strict import MAX_ANSWER, STRICT, read, score
from seethink.evals.verdicts import grade


def item(kind="math", gold="8", options=None, **more):
    meta = {"options": options} if options else {}
    return Sample(id="1", source="s", images=(), question="q", gold=gold, kind=kind, meta={**meta, **more})


YES = item("choice", "A", {"A": "yes", "B": "no"})


@pytest.mark.parametrize(
    ("text", "answer", "by"),
    [
        ("<think>9</think><answer>8</answer>", "8", "tags"),
        ("<answer>7</answer> no: <answer>8</answer>", "8", "tags"),
        ("<think>it is 8", None, None),  # never ended
        ("<think>9</think> so \\boxed{8}", "8", "box"),
        ("\\boxed{7}, rather \\boxed{\\frac{8}{1}}.", "\\frac{8}{1}", "box"),
        ("\\boxed{}", None, None),
        ("The answer is 7. No, the answer is: **8**\nThank you", "8**", "answer is"),
        ("**Answer:**\n8", "8", "answer is"),
        ("2 + 2 = 4\nso 4 + 4 = 8", "8", "last line"),
        ("We add.\nThe sum is 8.\nI hope this helps!", "The sum is 8.", "last line"),
        ("There are 2 of them. The sum is 8.", "The sum is 8.", "last line"),
        ("x = 8 or x = 9", "x = 8 or x = 9", "last line"),
        ("", None, None),
        ("a" * (MAX_ANSWER + 1), None, None),
    ],
)
def test_where_an_answer_is_read(text, answer, by):
    found = read(item(), text)
    assert (found and found.answer, found and found.by) == (answer, by)


def test_options_that_are_listed_again_are_no_answer():
    text = "x" * 100
    assert read(YES, f"{text}\nChoices:\n(A) yes\n(B) no") is None
    assert read(YES, f"{text}\nso I take\n(B) no").answer == "(B) no"
    assert read(YES, "A. It is").by == "whole"


@pytest.mark.parametrize(
    ("sample", "answer", "ok"),
    [
        (item(), "8", True),
        (item(), "16/2", True),
        (item(), "9", False),
        (item(), "8 or 9", None),
        (item(), "I do not know", None),
        (item(), "10**10**10", None),
        (item(gold="\\frac{1}{\\sqrt{2}}"), "\\frac{\\sqrt{2}}{2}", True),
        (item("digit", "3"), "three", True),
        (item("digit", "3"), "4", False),
        (YES, "(A) yes", True),
        (YES, "No", False),
        (YES, "A or B", None),
        (YES, "(A) no", None),
        (item("choice", "A, C", dict.fromkeys("ABCD", "")), "C and A", True),
        (item("choice", "A, C", dict.fromkeys("ABCD", "")), "A", False),
        (item("open", "Cape Town"), "cape town.", True),
        (item("choice", "Q", dict.fromkeys("ABCD", "")), "A", None),
        (item(), "</answer>8<answer>", True),
        (item(), "8" * 10**6, None),
        (item("open", "x"), "8" * 10**6, None),
    ],
)
def test_rules_decide_or_do_not(sample, answer, ok):
    (verdict,) = score([(sample, answer)])
    assert verdict is not None and verdict.ok is ok


def test_only_the_meaning_tells_two_texts_apart():
    assert score([(item("open", "Cape Town"), "Town")]) == [None]
    assert score([]) == []


class Replies:
    """A judge with fixed replies, which counts what it is asked."""

    name = "j"

    def __init__(self, extracted="", same=True):
        self.extracted, self.same, self.asked = extracted, same, []

    def extract(self, questions):
        self.asked += ["extract"] * len(questions)
        return [self.extracted] * len(questions)

    def grade(self, questions):
        self.asked += ["grade"] * len(questions)
        return [self.same] * len(questions)


@pytest.mark.parametrize(
    ("text", "judge", "ok", "asked"),
    [
        ("Answer: 8", Replies(), True, []),
        ("Answer: 9", Replies(), False, []),
        ("eight is what many would say", Replies("8"), True, ["extract"]),
        ("who knows", Replies(""), None, ["extract"]),
        ("who knows", Replies(None), None, ["extract"]),
        ("who knows", Replies("between 7 and 9"), True, ["extract", "grade"]),
        ("who knows", Replies("between 7 and 9", same=None), None, ["extract", "grade"]),
    ],
)
def test_judges_are_asked_where_rules_end(text, judge, ok, asked):
    profile = replace(STRICT, extract=lambda sample, text: text, grade=lambda sample, answer: answer)
    (found,) = grade(profile, [Response(item(), Trace("1", "m", text))], judge)
    assert found.verdict.ok is ok and judge.asked == asked


@pytest.mark.parametrize(
    "text",
    [
        "answer" + "*" * 10**6,
        "answer is" * 10**5,
        "\\boxed{" * 10**5,
        "<answer>" * 10**5,
        "= " * 10**6,
        "(A) \n" * 10**5,
    ],
)
def test_a_long_text_is_bounded(text):
    for sample in (item(), YES):
        found = read(sample, text)
        assert found is None or len(found.answer) <= MAX_ANSWER
