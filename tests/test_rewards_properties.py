"""What holds for every response: bounds, invariance to wrapping, one claim, no exception, no hang. Run by hypothesis."""

from __future__ import annotations

import string
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seethink.core.nouns import Sample
from seethink.core.tags import compose, extract
from seethink.rewards import RewardConfig, Rewarder, score
from seethink.rewards.box import generalised_iou, iou
from tests.answers import choice, decide, digit
from tests.test_rewards_math import TABLE

INLINE = RewardConfig.model_validate({"symbolic": {"on": False}})
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
GOLDS = {
    "digit": ["7", "0", "-5", "1000"],
    "choice": ["A", "C", "AC", "(b)"],
    "math": list(TABLE),
    "box": ["[0.1, 0.2, 0.7, 0.5]", "[[0.1,0.1,0.3,0.3],[0.6,0.6,0.9,0.9]]"],
    "open": ["A man repairs a bicycle next to a lake."],
}
SAMPLES = [
    Sample(f"{kind}{i}", "", (), "q", gold, kind) for kind, golds in GOLDS.items() for i, gold in enumerate(golds)
]
ANSWERS = [answer for answers in TABLE.values() for answer, _ in answers] + [
    g for golds in GOLDS.values() for g in golds
]
FRAGMENTS = Path(__file__).with_name("rewards_fragments.txt").read_text(encoding="utf-8").splitlines()
PIECES = st.sampled_from([*FRAGMENTS, "\0", "\u200b", "\u202e", "\n", " "])
TEXT = st.one_of(
    st.sampled_from(ANSWERS),
    st.lists(st.one_of(PIECES, st.sampled_from(ANSWERS)), max_size=12).map("".join),
    st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=30).map("".join),
    st.tuples(PIECES, st.integers(1, 400)).map(lambda p: p[0] * p[1]),
    st.text(max_size=60),
)


@QUICK
@given(st.sampled_from(SAMPLES), TEXT)
def test_any_answer_gets_a_bounded_reward_quickly(sample, answer):
    start = time.thread_time()
    reward = score(sample, compose("", answer), INLINE)
    seconds = time.thread_time() - start
    assert reward.value is None or 0 <= reward.value <= 1
    assert reward.value is not None or reward.status == "gold_error"
    assert reward.value in (0, None) or reward.status == "ok"
    assert seconds < 10, "a guard against what never ends; bounds of work are tested in test_rewards_math"


@QUICK
@given(st.sampled_from(SAMPLES), st.text(max_size=300))
def test_text_that_is_no_response_earns_nothing(sample, text):
    reward = score(sample, text, INLINE)
    assert reward.value == 0 and reward.status in ("no_format", "no_answer")


WRAPPERS = [
    "{}",
    " {} ",
    "\n{}\n",
    "${}$",
    "\\({}\\)",
    "\\boxed{{{}}}",
    "**{}**",
    "`{}`",
    "{}.",
    "The answer is {}.",
    "Answer: {}",
    "\u200b{}",
]


@QUICK
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.sampled_from(WRAPPERS))
def test_counts_are_compared_as_integers_whatever_wraps_them(gold, given_number, wrapper):
    answer = wrapper.format(given_number)
    expected = float(gold == given_number)
    assert digit(str(gold), answer).value == expected
    assert decide(str(gold), answer).value == expected
    assert digit(str(given_number), answer).value == 1


@QUICK
@given(
    st.sampled_from("ABCDEF"),
    st.sampled_from("ABCDEF"),
    st.sampled_from([*WRAPPERS, "({})", "{})", "{}:", "Option {}"]),
)
def test_letters_are_compared_whatever_wraps_them(gold, letter, wrapper):
    options = dict.fromkeys("ABCDEF", "")
    assert choice(gold, wrapper.format(letter), options).value == float(gold == letter)


@QUICK
@given(
    st.lists(st.integers(0, 99), min_size=2, max_size=4, unique=True),
    st.sampled_from([" or ", ", ", " and ", "; ", "\n"]),
)
def test_two_claims_are_none(numbers, separator):
    answer = separator.join(map(str, numbers))
    for number in numbers:
        assert digit(str(number), answer).value == 0
        assert decide(str(number), answer).value == 0


@QUICK
@given(st.lists(st.sampled_from(string.ascii_uppercase[:6]), min_size=2, max_size=4, unique=True))
def test_two_letters_are_none(letters):
    options = dict.fromkeys("ABCDEF", "")
    for separator in (" or ", ", ", "/", " and ", " "):
        assert choice(letters[0], separator.join(letters), options).value == 0


SIDE = st.tuples(st.floats(0, 0.9), st.floats(0.01, 0.1)).map(lambda p: (p[0], p[0] + p[1]))
BOX = st.tuples(SIDE, SIDE).map(lambda p: (p[0][0], p[1][0], p[0][1], p[1][1]))


@QUICK
@given(BOX, BOX)
def test_overlap_is_symmetric_and_bounded(a, b):
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1 and iou(a, a) == 1
    assert 0 <= generalised_iou(a, b) <= 1


@QUICK
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 50), st.integers(-9, 9))
def test_polynomials_equal_themselves_in_other_words_only(a, b, c, step):
    gold = f"y={c}x^2+({a})x+({b})".replace("+(0)x", "")
    assert decide(gold, f"({b})+x\\cdot({c}x+({a}))").value == 1
    assert decide(gold, f"y=({b + step})+x({c}x+({a}))").value == float(step == 0)


@QUICK
@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=1000))
def test_fractions_equal_their_decimals_when_they_end(value):
    gold = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    assert decide(gold, f"{value.numerator}/{value.denominator}").value == 1
    assert decide(gold, f"{(value + 1).numerator}/{(value + 1).denominator}").value == 0


@QUICK
@given(st.text(max_size=40), st.text(max_size=40))
def test_extraction_takes_apart_what_was_composed(think, answer):
    parsed = extract(compose(think, answer))
    if parsed.status == "ok":
        assert parsed.think == think.strip() and parsed.answer


def test_same_result_in_any_thread_order_and_batch():
    pairs = [(sample, compose("", answer)) for sample in SAMPLES[:40] for answer in ANSWERS[::29]]
    rewarder = Rewarder(INLINE)
    once = [(r.value, r.status, r.detail) for r in rewarder.score_batch([s for s, _ in pairs], [r for _, r in pairs])]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda pair: rewarder.score(*pair), reversed(pairs)))[::-1]
    assert once == [(r.value, r.status, r.detail) for r in again]


def test_accuracy_has_thresholds_and_undecided():
    samples = {s.kind: s for s in SAMPLES}
    half = score(Sample("b", "", (), "q", "[0,0,1,1]", "box"), compose("", "[0,0,0.5,1]"), INLINE)
    strict = Rewarder(RewardConfig.model_validate({"box": {"correct": 0.75}}))
    is_correct = Rewarder().is_correct
    assert is_correct(half) is True and strict.is_correct(half) is False
    assert is_correct(score(samples["open"], compose("", samples["open"].gold), INLINE)) is True
    assert is_correct(score(Sample("m", "", (), "q", "", "math"), compose("", "3"), INLINE)) is None


def test_options_of_the_config():
    digit_sample, box_sample = SAMPLES[0], Sample("b", "", (), "q", "[0,0,1,1]", "box")
    wrong, right = compose("", "8"), compose("", "7")
    assert score(digit_sample, wrong, RewardConfig(format_bonus=0.1)).value == 0.1
    assert score(digit_sample, right, RewardConfig(format_bonus=0.1)).value == 1
    assert score(digit_sample, "8", RewardConfig(format_bonus=0.1)).value == 0
    assert score(digit_sample, right, RewardConfig(kind_scale={"digit": 0.5})).value == 0.5
    halves = RewardConfig.model_validate({"box": {"threshold": 0.5}})
    assert score(box_sample, compose("", "[0,0,0.5,1]"), halves).value == 1
    assert score(box_sample, compose("", "[0,0,0.4,1]"), halves).value == 0
    assert score(digit_sample, compose("", "7" + " " * 3000 + "."), RewardConfig()).status == "too_long"
    assert score(digit_sample, "so <answer>7</answer>", RewardConfig(extraction="lenient")).value == 1
