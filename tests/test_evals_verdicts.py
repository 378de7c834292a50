"""From a response to a verdict: who is asked, what state comes of it, and why. A profile and a judge by table."""

from __future__ import annotations

import pytest

from seethink.core.nouns import Sample, Trace, Verdict
from seethink.evals.board import Profile, Reading, Response
from seethink.evals.judge.questions import ask_letter, ask_same, ask_value
from seethink.evals.verdicts import REASONS, STATES, grade, scored_part, state

SAMPLE = Sample("1", "s", (), "Which?", "B", "choice", ("one", "two", "three"))


class Told:
    """A judge that says what a table holds, and remembers what it was asked."""

    name = "told"

    def __init__(self, extraction: str | None = None, same: bool | None = None):
        self.extraction, self.same = extraction, same
        self.asked: list[str] = []

    def extract(self, questions):
        self.asked += ["extract"] * len(questions)
        return [self.extraction] * len(questions)

    def grade(self, questions):
        self.asked += ["grade"] * len(questions)
        return [self.same] * len(questions)


def read(sample, text):
    """Understands `=X`; `=?` is read and not understood."""
    return Reading(text[1:], "equals") if text.startswith("=") else None


def score(pairs):
    """Letters are right or wrong, `?` is not understood, and of words only the meaning tells."""
    return [
        Verdict(None, "letter") if answer == "?"
        else Verdict(answer == sample.gold, "letter") if len(answer) == 1
        else None
        for sample, answer in pairs
    ]  # fmt: skip


PLAIN = Profile(read, score)
FIRST = Profile(read, score, extract=ask_letter)
BOTH = Profile(read, score, extract=ask_value, grade=ask_same)


def response(text: str, stop: str = "stop", extraction: str | None = None) -> Response:
    return Response(SAMPLE, Trace("1", "m", text, stop), extraction=extraction)  # type: ignore[arg-type]


NOBODY, DEAD = None, Told()


@pytest.mark.parametrize(
    ("profile", "given", "judge", "expected", "asked"),
    [
        # rules alone
        (BOTH, response("=B"), DEAD, ("right", "", "equals > letter", "B"), []),
        (BOTH, response("=A"), DEAD, ("wrong", "", "equals > letter", "A"), []),
        (BOTH, response("<think>x</think><answer>=B</answer>"), DEAD, ("right", "", "equals > letter", "B"), []),
        # nothing was answered: nobody is asked
        (BOTH, response("", "error"), DEAD, ("unparsed", "no_response", "endpoint", None), []),
        (BOTH, response(" \n"), DEAD, ("unparsed", "no_response", "rule", None), []),
        (BOTH, response("<answer></answer>"), DEAD, ("unparsed", "invalid_response_format", "rule", None), []),
        # no judge: no verdict, with the reason
        (BOTH, response("two"), NOBODY, ("unparsed", "invalid_response_format", "rule", None), []),
        (BOTH, response("two, beca", "length"), NOBODY, ("unparsed", "truncated", "rule", None), []),
        (BOTH, response("I’m sorry, I can't see it"), NOBODY, ("unparsed", "refusal", "rule", None), []),
        (BOTH, response("=?"), NOBODY, ("unparsed", "invalid_response_format", "equals > letter", "?"), []),
        (BOTH, response("=the two"), NOBODY, ("unparsed", "scoring_failed", "equals", "the two"), []),
        (PLAIN, response("two"), Told("B"), ("unparsed", "invalid_response_format", "rule", None), []),
        (FIRST, response("=the two"), Told("B"), ("unparsed", "scoring_failed", "equals", "the two"), []),
        # words of refusal beside an answer are no refusal
        (BOTH, response("=B"), NOBODY, ("right", "", "equals > letter", "B"), []),
        (BOTH, response("I'm sorry, I cannot see it well: two"), Told("B"), ("right", "", "judge told > letter", "B"), ["extract"]),
        # a stored extraction is scored as it is
        (BOTH, response("=A", extraction="B"), DEAD, ("right", "", "extraction > letter", "B"), []),
        (BOTH, response("", extraction="B"), DEAD, ("right", "", "extraction > letter", "B"), []),
        (BOTH, response("=B", extraction=""), DEAD, ("unparsed", "invalid_response_format", "extraction", ""), []),
        (BOTH, response("=B", extraction=" "), Told("B", True), ("unparsed", "invalid_response_format", "extraction", " "), []),
        (BOTH, response("", extraction=""), DEAD, ("unparsed", "no_response", "rule", None), []),
        (BOTH, response("x", extraction="two"), NOBODY, ("unparsed", "scoring_failed", "extraction", "two"), []),
        (BOTH, response("x", extraction="two"), Told(same=True), ("right", "", "judge told", "two"), ["grade"]),
        (BOTH, response("x", extraction="two"), Told(same=False), ("wrong", "", "judge told", "two"), ["grade"]),
        (BOTH, response("x", extraction="two"), DEAD, ("judge_failed", "grader_failed", "judge", "two"), ["grade"]),
        # the extraction judge
        (FIRST, response("two"), Told("B"), ("right", "", "judge told > letter", "B"), ["extract"]),
        (FIRST, response("two"), Told("A"), ("wrong", "", "judge told > letter", "A"), ["extract"]),
        (FIRST, response("=?"), Told("B"), ("right", "", "judge told > letter", "B"), ["extract"]),
        (FIRST, response("two"), Told(""), ("unparsed", "invalid_response_format", "judge told", ""), ["extract"]),
        (FIRST, response("two", "length"), Told(""), ("unparsed", "truncated", "judge told", ""), ["extract"]),
        (FIRST, response("I cannot help."), Told(""), ("unparsed", "refusal", "judge told", ""), ["extract"]),
        (FIRST, response("two"), Told("?"), ("unparsed", "invalid_response_format", "judge told > letter", "?"), ["extract"]),
        (FIRST, response("two"), DEAD, ("judge_failed", "grader_failed", "judge", None), ["extract"]),
        (FIRST, response("=?"), DEAD, ("judge_failed", "grader_failed", "judge", None), ["extract"]),
        # and the grading judge after it
        (BOTH, response("it is two"), Told("two", True), ("right", "", "judge told", "two"), ["extract", "grade"]),
        (BOTH, response("it is two"), Told("two", False), ("wrong", "", "judge told", "two"), ["extract", "grade"]),
        (BOTH, response("it is two"), Told("two"), ("judge_failed", "grader_failed", "judge", "two"), ["extract", "grade"]),
        (BOTH, response("it is two"), Told("", True), ("unparsed", "invalid_response_format", "judge told", ""), ["extract"]),
        (BOTH, response("=the two"), Told(same=True), ("right", "", "judge told", "the two"), ["grade"]),
    ],
)  # fmt: skip
def test_state_reason_and_rung(profile, given, judge, expected, asked):
    if judge:
        judge.asked = []
    (got,) = grade(profile, [given], judge)
    assert (state(got.verdict), got.verdict.reason, got.verdict.by, got.answer) == expected
    assert (judge.asked if judge else []) == asked
    assert expected[0] in STATES and (got.verdict.ok is not None or got.verdict.reason in REASONS)


def test_order_is_kept_and_only_the_undecided_are_asked():
    texts = ["=B", "x", "", "=A", "y", "=?"]
    judge = Told("B")
    got = grade(FIRST, [response(text) for text in texts], judge)
    assert [state(g.verdict) for g in got] == ["right", "right", "unparsed", "wrong", "right", "right"]
    assert judge.asked == ["extract"] * 3 and grade(FIRST, [], judge) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("plain", "plain"),
        ("<think>a</think>\n<answer> B </answer>", "B"),
        ("<answer>A</answer> <answer>B</answer>", "<answer>A</answer> <answer>B</answer>"),
        ("</answer>A<answer>", "</answer>A<answer>"),
        ("<answer>A", "<answer>A"),
    ],
)
def test_what_is_scored_is_the_text_of_one_pair_of_tags(text, part):
    assert scored_part(text) == part
    (got,) = grade(PLAIN, [response(text)])
    assert got.scored == (part if part != text else None)
