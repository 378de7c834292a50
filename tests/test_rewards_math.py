"""Mathematical answers: a table of right and wrong ones, the parser's limits, and what goes to the symbolic checker."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import pytest

from seethink.rewards.maths import decide as ladder
from seethink.rewards.maths.claims import read_claim
from seethink.rewards.maths.decide import gold_problem
from seethink.rewards.maths.equality import same
from seethink.rewards.maths.evaluate import evaluate
from seethink.rewards.maths.measures import same_measure
from seethink.rewards.maths.parse import parse
from seethink.rewards.maths.tokens import NotMath, TooBig, Unsupported
from seethink.rewards.maths.units import split_unit
from seethink.rewards.numerals import plain_number, replace_number_words
from seethink.rewards.text import normalise
from tests.answers import decide


def table() -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    gold = ""
    text = "".join(
        Path(__file__).with_name(f"rewards_{name}.txt").read_text(encoding="utf-8") for name in ("math", "wording")
    )
    for line in text.split("\n"):
        if line.startswith(("  + ", "  - ")):
            found[gold].append((line[4:].replace("⏎", "\n"), float(line[2] == "+")))
        elif line and not line.startswith("#"):
            gold = line
            found.setdefault(gold, [])
    return found


TABLE = table()


@pytest.mark.parametrize("gold", TABLE)
def test_answers_of_the_table(gold):
    decisions = [(answer, decide(gold, answer), value) for answer, value in TABLE[gold]]
    assert [
        (answer, decision) for answer, decision, value in decisions if decision is None or decision.value != value
    ] == []


@pytest.mark.parametrize("gold", TABLE)
def test_golds_equal_themselves_and_survive_wrapping(gold):
    assert gold_problem(gold) == ""
    for wrapped in (
        gold,
        f"${gold}$",
        f"\\({gold}\\)",
        f"\\[{gold}\\]",
        f"  {gold}\n",
        f"\\boxed{{{gold}}}",
        f"**{gold}**",
    ):
        decision = decide(gold, wrapped)
        assert decision is not None and decision.value == 1, wrapped


STATUSES = [
    ("3", "1 or 2 or 3", 0.0, "ambiguous"),
    ("3", r"\boxed{1} \boxed{3}", 0.0, "ambiguous"),
    ("3", "The answer is 3. No wait, the answer is 4.", 0.0, "ambiguous"),
    ("3", "Final answer: 3. Final answer: 4.", 0.0, "ambiguous"),
    ("3", "no idea", 0.0, "malformed"),
    ("3", "__import__('os').system('id')", 0.0, "malformed"),
    ("3", "exec('x=3')", 0.0, "malformed"),
    ("3", "lambda: 3", 0.0, "ok"),
    ("3", r"\log", 0.0, "malformed"),
    ("3", r"2\log 2", 0.0, "ok"),
    ("3", "1/0", 0.0, "malformed"),
    ("3", r"\boxed{3", 0.0, "malformed"),
    ("5", "9**9**9**9", 0.0, "malformed"),
    ("10", "10^{10^{10}}", 0.0, "malformed"),
    ("1", r"\sum_{k=1}^{10^{12}} k^k", 0.0, "malformed"),
    ("1", r"\prod_{k=1}^{10^9} (1+k)", 0.0, "malformed"),
    ("3", "((((((((3))))))))!!", None, None),
    ("1e400", "1e401", 0.0, "ok"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", 0.0, "ok"),
    (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}", 0.0, "ok"),
    (r"1-\frac1e", r"1+\frac1e", 0.0, "ok"),
    (r"15\text{ cm}^2", r"15\text{ m}^2", 0.0, "ok"),
    ("", "3", None, "gold_error"),
    ("...", "3", None, "gold_error"),
    (r"\frac{1}{0}", "3", None, "gold_error"),
    ("9" * 300, "3", 0.0, "ok"),
    (r"\boxed{1} \text{ is not } \boxed{2", "3", None, None),
]


@pytest.mark.parametrize(("gold", "answer", "value", "status"), STATUSES)
def test_statuses(gold, answer, value, status):
    decision = decide(gold, answer)
    if status is None:
        assert decision is None
    else:
        assert decision is not None and (decision.value, decision.status) == (value, status)


def test_reasoning_is_no_claim_but_may_surround_one():
    text = "We have $2+3=5$ apples and $4$ pears. Final Answer: The final answer is $9$. I hope it is correct."
    assert decide("9", text).value == 1
    assert decide("5", text).value == 0
    assert decide("9", r"First \(2+3=5\). Thus $5+4=\boxed{9}$.").value == 1
    assert decide("5", "Some 5 apples and 4 pears").value == 0


SYMBOLIC = [
    (r"\frac12", r"\int_0^1 x\,dx"),
    ("1", r"\lim_{x\to 0}\frac{\sin x}{x}"),
    ("x^2", r"\sum_{k=1}^{x} (2k-1)"),
    ("3", r"\max(1,3)"),
]


@pytest.mark.parametrize(("gold", "answer"), SYMBOLIC)
def test_what_only_algebra_can_decide_is_left_to_it(gold, answer):
    assert decide(gold, answer) is None


def test_normalise_keeps_the_meaning_of_small_digits():
    cases = {
        "x²": "x^{2}",
        "7²": "7^{2}",
        "½": "(1/2)",
        "1½": "1 1/2",
        "x⁻¹": "x^{-1}",
        "−3": "-3",
        "–3": "-3",
        "３": "3",
        "٣": "3",
    }
    assert {text: normalise(text) for text in cases} == cases
    assert normalise("$\\boxed{\\text{C}}$.") == "C"
    assert normalise("$a$ and $b$") == "$a$ and $b$"
    assert normalise("С") != "C"


def test_plain_numbers_are_exact():
    assert plain_number("1,234,567.50").value == Fraction(2469135, 2)
    assert plain_number("1e-3") == (Fraction(1, 1000), 3)
    assert [plain_number(t) for t in ("1,00", "1 0", "", "x", "1e99999", "--1", "1.2.3")] == [None] * 7
    assert replace_number_words("two hundred and five, one two, sixty-one thousand") == "205, 1 2, 61000"


def test_units():
    cases = {
        "15 cm^2": ("15", "cm^2"),
        "15 square centimetres": ("15", "cm^2"),
        r"15\text{ m/s}": ("15", "m/s"),
        "3s": ("3s", ""),
    }
    assert {text: split_unit(text) for text in cases} == cases
    assert split_unit("3s", glued=True) == ("3", "s")
    assert split_unit("25 percent") == ("25%", "")
    assert split_unit("12 red apples") == ("12", "")
    assert split_unit(r"1 - \frac{1}{\mathrm{e}}")[1] == ""


def test_evaluation_stays_exact_where_it_can():
    assert evaluate(parse(r"\frac{1}{3}+\frac{1}{6}"), {}) == Fraction(1, 2)
    assert evaluate(parse(r"\sqrt{\frac{4}{9}}"), {}) == Fraction(2, 3)
    assert evaluate(parse(r"\sqrt[3]{-27}"), {}) == -3
    assert evaluate(parse(r"\sum_{k=1}^{100} k"), {}) == 5050


LIMITS = ["(" * 60 + "1" + ")" * 60, "+".join(["1"] * 600), "1" * 300, "x" + "^x" * 200, r"\frac" * 300, "\\sin " * 200]


@pytest.mark.parametrize("text", LIMITS, ids=lambda t: t[:12])
def test_limits_stop_the_parser(text):
    with pytest.raises((TooBig, NotMath)):
        parse(text)


@pytest.mark.parametrize("text", ["hello world", "a is b", r"\frac{1}{", "2 +", ")(", "3 4", "x2", "|x", r"\{1,2"])
def test_what_is_not_mathematics(text):
    with pytest.raises(NotMath):
        parse(text)


def test_unknown_commands_are_told_from_prose():
    with pytest.raises(Unsupported):
        parse(r"\oint x")
    assert read_claim(r"\oint x").node is None


def test_equality_is_symmetric_on_the_table():
    for gold, answers in list(TABLE.items())[::7]:
        one = read_claim(normalise(gold))
        for answer, value in answers:
            other = read_claim(normalise(answer))
            measured = same_measure(normalise(gold), normalise(answer)) is not None
            if (
                value
                and not measured
                and one.node
                and other.node
                and not one.unit
                and not other.unit
                and "%" not in gold + answer
            ):
                assert same(other.node, one.node) or "." in gold + answer, (gold, answer)


HOSTILE = [
    "9" * 1999, "9^" * 900, "e^" * 900 + "x", "(" * 1999, "|" * 1999, "½" * 1999, "²" * 1999, "\\frac" * 399, "is " * 660, "1," * 999,
    "\\boxed{" * 280, "\\text{a}" * 240, "x = " * 490, "a " * 990 + "cm^2", "1 thousand" + "and" * 600, "\n" * 1990 + "1", "0.\\overline{" * 160,
    "\\sum_{k=1}^{" * 150, "\\begin{pmatrix}" * 130, "answer is " * 190, "-" * 1990 + "1", "\\sqrt" * 390 + "2", "5!" * 900, "2^{4000}" * 240,
    "\\sum_{k=1}^{200}" * 6 + "k", " and ".join(f"x\\ne{i}" for i in range(90)), "\\pm1" * 200, "y=x^{99}" + "(x+1)^{999}" * 60,
    "\\binom{2000}{1000}^{19}" * 40, "(1/3+x)^{3999}+" * 60 + "1", ",".join(f"\\sqrt{{{i}}}" for i in range(2, 60)), "\\log_{2}" * 45 + "x",
]  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda a: a[:14])
@pytest.mark.parametrize("gold", ["3", "x>2", "y=|x+9|", r"\{1,2\}", r"1,\sqrt{2},\pi,4,5,6,7,8,9,10"], ids=range(5))
def test_no_text_is_slow(gold, answer):
    best = float("inf")
    for _ in range(5):
        ladder.decide.cache_clear()
        start = time.thread_time()
        decide(gold, answer)
        best = min(best, time.thread_time() - start)
        if best < 0.02:
            break
    assert best < 0.15  # CPU seconds; a quiet machine takes less than a third of it
