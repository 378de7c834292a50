"""Counts, letters and boxes: tables of answers and what they earn."""

from __future__ import annotations

import re

import pytest

from seethink.core.nouns import Sample
from seethink.rewards.box import generalised_iou, iou
from seethink.rewards.check import check_gold
from seethink.rewards.choice import options_of
from tests.answers import box, choice, digit

DIGITS = {
    "7": (
        [
            "7",
            "+7",
            "07",
            "7.0",
            "7.",
            "7,",
            "７",
            "⑦",
            "seven",
            "Seven",
            "seven (7)",
            "7 7",
            "7\n7",
            "7 and 7",
            "7?",
            "#### 7",
        ]
        + [
            "There are seven cubes.",
            "There are 7 cubes left.",
            "7 cubes are left, 7 in total",
            "10 - 3 = 7",
            "x = 7",
            "count: 7",
        ]
        + [
            "$7$",
            "\\(7\\)",
            "\\boxed{7}",
            "**7** cubes",
            "`7`",
            '"7"',
            '{"count": 7}',
            "[7]",
            "The answer is $7$.",
            "7e0",
            "7 cubes!",
        ],
        [
            "8",
            "70",
            "17",
            "77",
            "-7",
            "7.5",
            "7.0001",
            "6.9999999999999999999",
            "seventy",
            "seventeen",
            "seven (8)",
            "7, 8",
            "7 or 8",
        ]
        + [
            "7-8",
            "7–8",
            "6 to 8",
            "at least 7",
            "more than 7",
            "7 or more",
            "7+",
            ">7",
            "≥7",
            "not 7",
            "7 is wrong",
            "7%",
            "7/1",
            "1/7",
        ]
        + [
            "14/2",
            "7²",
            "½",
            "7!",
            "7x",
            "x7",
            "7th",
            "0x7",
            "VII",
            "±7",
            "7 ± 1",
            "seven hundred",
            "7 dozen",
            "half of 14",
            "7;8",
        ]
        + [
            "(7)+1",
            "(3)+(4)",
            "10-3",
            "7 of the 8",
            "1 + 1 = 2, 5 + 2 = 7",
            "O",
            "inf",
            "nan",
            "",
            "many",
            "I cannot tell",
            "7" * 400,
        ],
    ),
    "0": (["0", "zero", "-0", "0.0", "00"], ["O", "no", "nothing", "I cannot tell"]),
    "10": (["10", "ten", "10.", "010"], ["1 0", "1,0", "one zero", "1"]),
    "1000": (["1,000", "1 000", "1{,}000", "1000.0", "1e3", "one thousand"], ["1.000", "10,00", "1,0000", "1000,0"]),
    "-5": (["-5", "−5", "minus 5", "negative five", "-5.0"], ["5", "--5"]),
    "21": (["twenty-one", "twenty one"], ["twenty and one", "2 1"]),
}


@pytest.mark.parametrize("gold", DIGITS)
def test_digit(gold):
    right, wrong = DIGITS[gold]
    assert [a for a in right if digit(gold, a).value != 1] == []
    assert [a for a in wrong if digit(gold, a).value != 0] == []


def test_digit_says_what_it_saw():
    assert digit("7", "7 or 8").status == "ambiguous"
    assert digit("7", "many").status == "malformed"
    assert digit("7", "8").status == "ok"
    assert digit("seven?", "7").value is None


NUMBERS = {"A": "10", "B": "11", "C": "12", "D": "15"}
WORDS = {"A": "a red cube", "B": "a blue ball", "C": "a green cone", "D": "none of these"}
BARE = dict.fromkeys("ABCD", "")
NINE = dict.fromkeys("ABCDEFGHI", "")

CHOICES = [
    ("C", NUMBERS, ["C", "c", "(c)", "C.", "c)", "C: 12", "C 12", "C = 12", "12 (C)", "12", "12.0", "The answer is 12", "Option C"]
     + ["choice c", "I choose C", "My answer is C", "Final Answer: C", "It's C", "C, because 12 fits", "Ｃ", "（C）", "[C]", "{C}", "<C>"]
     + ["\\text{C}", "$\\boxed{\\text{C}}$", "The answer is \\boxed{C}", "**C**", "**C.** 12", "`C`", "C\nC", "Answer: C\nAnswer: C"]
     + ['{"answer": "C"}', '{"choice": "c"}', "{'option': 'C. 12'}", 'Sure!\n{"choice": "C"}', "```json\n{\"answer\": \"C\"}\n```", "C?"]),
    ("A", BARE, ["A", "A.", "a", "A is correct", "A because it fits", "The answer is A", "Answer A", "The answer is a"]),
    ("B", BARE, ["As shown, B", "A person would say B", "I think B", "I'd go with B"]),
    ("I", NINE, ["I", "(I)", "The answer is I."]),
    ("A", WORDS, ["a red cube", "A red cube", "A. a red cube", "The answer is a red cube."]),
    ("D", WORDS, ["None of these", "D"]),
    ("AC", BARE, ["A, C", "AC", "CA", "A and C", "(A) and (C)", "C, A"]),
    ("(a)", NUMBERS, ["A"]), ("A) 10", NUMBERS, ["A"]), ("Option A", NUMBERS, ["a"]), ("10", NUMBERS, ["A"]),
]  # fmt: skip
NOT_CHOICES = [
    ("C", NUMBERS, ["A", "13", "15", "C or D", "C/D", "CD", "C, D", "C and D", "C? D?", "(A) (B) (C) (D)", "A, B, C, D", "not C", "С"]
     + ["The answer is not C", "C is incorrect", "C isn't right", "It can't be C", "except C", "anything but C", "All but C", "(C) 15"]
     + ["C because A is wrong", "it is c", "Cats", "Correct", "cube", "none", "I don't know", "C\nD", "C <!-- A -->", '{"choice": "C or D"}']),
    ("A", BARE, ["A cube", "a cube", "The answer is a cube", "The answer is A cube", "An apple", "As shown, B", "Answer: C", "AC", "0", "E"]),
    ("I", NINE, ["I think so", "I don't know"]),
    ("A", WORDS, ["A) a blue ball", "red", "a cube"]),
    ("AC", BARE, ["A", "ABC", "A, B, C"]),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "options", "answers"), CHOICES)
def test_choice_right(gold, options, answers):
    assert [a for a in answers if choice(gold, a, options).value != 1] == []


@pytest.mark.parametrize(("gold", "options", "answers"), NOT_CHOICES)
def test_choice_wrong(gold, options, answers):
    assert [a for a in answers if choice(gold, a, options).value != 0] == []


def test_choice_gold_that_names_no_option():
    assert choice("Z", "A", NUMBERS).value is None
    assert choice("", "A", NUMBERS).status == "gold_error"
    assert choice("Z", "Z", NUMBERS).value == 0  # no option either


def sample(**fields):
    return Sample(**{"id": "1", "source": "", "images": (), "question": "q", "gold": "A", "kind": "choice"} | fields)


def test_options_come_from_meta_choices_or_the_question():
    assert options_of(sample(choices=("x", "y"))) == {"A": "x", "B": "y"}
    assert options_of(sample(choices=("A. x", "B. y"))) == {"A": "x", "B": "y"}
    assert options_of(sample(choices=("A", "B"))) == {"A": "", "B": ""}
    assert options_of(sample(meta={"options": {"A": "x"}}, choices=("y",))) == {"A": "x"}
    assert options_of(sample(question="Which?\nA. one\nB. two\nC. three")) == {"A": "one", "B": "two", "C": "three"}
    assert options_of(sample(question="Which? (A) one (B) two")) == {"A": "one", "B": "two"}
    assert list(options_of(sample())) == list("ABCD")


GOLD = "[0.1, 0.2, 0.7, 0.5]"
SAME = [
    GOLD, "(0.1, 0.2, 0.7, 0.5)", "[.1, .2, .7, .5]", "[1e-1, 2e-1, 7e-1, 5e-1]", "0.1, 0.2, 0.7, 0.5", "(0.1,0.2),(0.7,0.5)",
    '{"bbox_2d": [0.1, 0.2, 0.7, 0.5], "label": "dog"}', '```json\n[{"bbox_2d": [0.1, 0.2, 0.7, 0.5]}]\n```', f"**{GOLD}**",
    "<|box_start|>(0.1,0.2),(0.7,0.5)<|box_end|>", f"The dog is at {GOLD}.", f"{GOLD} {GOLD}",
]  # fmt: skip
MALFORMED = [
    "", "a box", "[0.1, 0.2, 0.7]", "[0.1, 0.2, 0.7, 0.5, 0.9]", "[NaN, NaN, NaN, NaN]", "[true, true, true, true]", "[1e999, 0, 1, 1]",
    "[0.7, 0.5, 0.1, 0.2]", "[0.1, 0.2, 0.1, 0.5]", "[-0.5, 0.2, 0.7, 0.5]", "[100, 200, 700, 500]", "[1.0005, 0.2, 0.7, 0.5]", "[]",
    '{"bbox_2d": null}', "[0.1; 0.2; 0.7; 0.5]", "x1=0.1, y1=0.2, x2=0.7, y2=0.5", "IoU = 1.0", "(0.1, 0.2)", GOLD * 101,
]  # fmt: skip


def test_box_forms_are_equal():
    assert [a for a in SAME if box(GOLD, a, {}).value != 1] == []


def test_malformed_boxes_earn_nothing_and_are_counted():
    assert [a for a in MALFORMED if box(GOLD, a, {})[:2] != (0.0, "malformed")] == []


def test_two_boxes_for_one_target_are_no_claim():
    assert box(GOLD, f"{GOLD} or [0.3, 0.3, 0.9, 0.9]", {}).status == "ambiguous"


OVERLAPS = [
    ("[0, 0, 1, 1]", "[0, 0, 0.5, 1]", {}, 0.5),
    ("[0, 0, 2, 2]", "[0, 0, 1, 1]", {"coords": "pixel", "image_size": [100, 100]}, 0.25),
    ("[0, 0, 0.5, 0.5]", "[0, 0, 500, 500]", {"coords": "norm1000", "gold_coords": "norm1"}, 1.0),
    ("[64, 96, 448, 240]", "[0.1, 0.2, 0.7, 0.5]", {"gold_coords": "pixel", "image_size": [640, 480]}, 1.0),
    (
        "[64, 96, 448, 240]",
        "[32, 48, 224, 120]",
        {"coords": "pixel", "image_size": [320, 240], "gold_image_size": [640, 480]},
        1.0,
    ),
    ("[0.6, 0.2, 1.0, 0.5]", "[0.5, 0.2, 1.0005, 0.5]", {}, 0.8),
    ("[0.1, 0.1, 0.2, 0.2]", "[0.5, 0.5, 0.6, 0.6]", {}, 0.0),
    ("[[0.1,0.1,0.3,0.3],[0.6,0.6,0.9,0.9]]", "[[0.6,0.6,0.9,0.9],[0.1,0.1,0.3,0.3]]", {}, 1.0),
    ("[[0.1,0.1,0.3,0.3],[0.6,0.6,0.9,0.9]]", "[[0.1,0.1,0.3,0.3],[0.6,0.6,0.9,0.9],[0,0,1,1]]", {}, 2 / 3),
    ("[[0.1,0.1,0.3,0.3],[0.6,0.6,0.9,0.9]]", "[[0.1,0.1,0.3,0.3],[0.1,0.1,0.3,0.3]]", {}, 0.5),
]


@pytest.mark.parametrize(("gold", "answer", "meta", "expected"), OVERLAPS)
def test_overlap(gold, answer, meta, expected):
    assert box(gold, answer, meta).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("gold", "meta", "problem"),
    [
        ("[100, 50, 200, 150]", {"coords": "norm1000", "gold_coords": "pixel", "image_size": [400, 200]}, ""),
        ("[100, 50, 200, 150]", {"coords": "pixel", "image_size": [56, 28], "gold_image_size": [400, 200]}, ""),
        ("[100, 50, 200, 150]", {"coords": "pixel", "image_size": [56, 28]}, "outside the image"),
        ("[0.1, 0.2, 0.7, 0.5]", {"coords": "percent", "gold_coords": "norm1"}, "coords 'percent'"),
        ("[0.1, 0.2, 0.7, 0.5]", {"gold_coords": "percent"}, "gold_coords 'percent'"),
        ("[0.1, 0.2, 0.7, 0.5]", {"coords": "pixel", "gold_coords": "norm1"}, "coords 'pixel' with image_size None"),
        ("[1, 2, 7, 5]", {"gold_coords": "pixel", "gold_image_size": [0, 3]}, r"gold_image_size \[0, 3\]"),
    ],
)
def test_a_gold_is_checked_in_the_frame_that_it_is_written_in(gold, meta, problem):
    found = check_gold(Sample("a", "", (), "Where?", gold, "box", meta=meta))
    assert re.search(problem, found) if problem else not found


def test_frames_are_declared_never_guessed():
    assert box(GOLD, GOLD, {"coords": "pixel"}).value is None  # no image size
    assert box(GOLD, GOLD, {"coords": "percent"}).status == "gold_error"
    assert box("nowhere", GOLD, {}).status == "gold_error"


def test_generalised_iou_tells_near_from_far():
    near, far = (0.0, 0.0, 0.1, 0.1), (0.8, 0.8, 0.9, 0.9)
    gold = (0.11, 0.11, 0.2, 0.2)
    assert iou(near, gold) == iou(far, gold) == 0
    assert 0 < generalised_iou(far, gold) < generalised_iou(near, gold) < generalised_iou(gold, gold) == 1
