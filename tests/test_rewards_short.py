"""Counts, letters and boxes as models write them: a table of answers; readers that stay linear; golds that cannot be used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from seethink.core.fields import lettered
from seethink.core.nouns import Sample
from seethink.core.tags import compose
from seethink.data.sources.paper import worked_answer
from seethink.rewards import RewardConfig, Rewarder
from seethink.rewards.box import number_groups
from seethink.rewards.check import check_gold
from seethink.rewards.choice import letters_of, options_of
from seethink.rewards.config import BoxConfig
from seethink.rewards.numerals import plain_number, replace_number_words
from seethink.traces.conclusions import canonical, conclusions
from tests.answers import box, choice, digit

TABLE = Path(__file__).with_name("rewards_short.txt")
FRAME = {"coords": "pixel", "image_size": [1000, 800]}


def groups() -> Iterator[tuple[str, str, list[str], list[str]]]:
    """(kind, gold and options, right answers, wrong ones)."""
    right: list[str] = []
    wrong: list[str] = []
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for line in lines:
        if not line.startswith("  "):
            right, wrong = [], []
            kind, head = line.split(" ", 1)
            yield kind, head, right, wrong  # filled by the lines below
        else:
            answers = line[4:].replace("⏎", "\n").split(" ¦ ")
            (right if line[2] == "+" else wrong).extend(answers)


def value(kind: str, head: str, answer: str) -> float | None:
    gold, _, texts = head.partition("; ")
    if kind == "digit":
        return digit(gold, answer).value
    if kind == "box":
        return box(gold, answer, FRAME).value
    options = dict(zip("ABCDEFGH", texts.split(" ¦ "), strict=False))
    return choice(
        gold, answer, options if list(options) != list(options.values()) else dict.fromkeys(options, "")
    ).value


@pytest.mark.parametrize(("kind", "head", "right", "wrong"), list(groups()))
def test_answers_as_models_write_them(kind, head, right, wrong):
    assert [a for a in right if value(kind, head, a) != 1] == []
    assert [a for a in wrong if value(kind, head, a) != 0] == []


def test_the_table_is_long_enough_to_mean_something():
    table = list(groups())
    counts = {kind: sum(len(r) + len(w) for k, _, r, w in table if k == kind) for kind in ("choice", "digit", "box")}
    assert counts["choice"] > 800 and counts["digit"] > 400 and counts["box"] > 60


NAMES = ["shirt [23]", "car (2, 3)", "row [1, 2, 3, 4]", "seat 4", "7", "no. 3 (left)"]
CALLED = [
    '{{"bbox_2d": {box}, "label": "{name}"}}', '[{{"label": "{name}", "bbox_2d": {box}}}]', "{{'name': '{name}', 'box': {box}}}",
    '```json\n[\n\t{{"bbox_2d": {box}, "label": "{name}"}}\n]\n```', "<ref>{name}</ref><box>{box}</box>",
    "<|object_ref_start|>{name}<|object_ref_end|><|box_start|>{box}<|box_end|>",
]  # fmt: skip
FRAMES = [
    ("[100, 200, 300, 400]", FRAME), ("[100, 200, 300, 400]", {"coords": "norm1000"}), ("[0.1, 0.2, 0.3, 0.4]", {"coords": "norm1"}),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "meta"), FRAMES)
def test_what_a_box_is_called_is_no_box(gold, meta):
    answers = [form.format(box=gold, name=name) for form, name in product(CALLED, NAMES)]
    assert [a for a in answers if box(gold, a, meta).value != 1] == []
    assert box(gold, f'{{"label": "{gold}"}}', meta).value == 0


def exact(a: tuple[int, ...], b: tuple[int, ...]) -> Fraction:
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return Fraction(overlap, areas - overlap)


@pytest.mark.parametrize(
    ("meta", "side"), [({"coords": "pixel", "image_size": [644, 476]}, 1), ({"coords": "norm1000"}, 1), ({}, 1000)]
)
def test_half_a_box_is_a_half_on_every_lattice(meta, side):
    from seethink.rewards.box import box as decide

    halves = 0
    for left, top, width, height in product((0, 4, 32, 120), (0, 8, 60), range(4, 60, 8), (4, 28, 92)):
        whole = (left, top, left + 2 * width, top + height)
        for part in (
            (left, top, left + width, top + height),
            (left + width // 2, top, left + width // 2 + width, top + height),
        ):
            gold, said = (str([n / side if side > 1 else n for n in corners]) for corners in (whole, part))
            overlap = exact(whole, part)
            halves += overlap == Fraction(1, 2)
            assert decide(gold, said, meta, BoxConfig()).value == float(overlap), (gold, said)
            assert decide(gold, said, meta, BoxConfig(threshold=0.5)).value == (overlap >= Fraction(1, 2))
    assert halves > 400


INLINE = Rewarder(RewardConfig.model_validate({"symbolic": {"on": False}}))
BLANK = ["", " ", "\n", "\u200b", "\u3000"]
LONG = ["7" * 4301, "-" + "7" * 4301, "0." + "7" * 4301, f"[{'7' * 4301}, 1, 2, 3]", "1e" + "7" * 4301]


@pytest.mark.parametrize(
    ("kind", "gold"), [*product(("digit", "choice", "math", "box"), BLANK + LONG), *product(["open"], BLANK)]
)
def test_golds_without_a_meaning_are_refused_and_undecided(kind, gold):
    sample = Sample("s", "", (), "q", gold, kind)
    assert check_gold(sample)
    reward = INLINE.score(sample, compose("", "A" if kind == "choice" else "7"))
    assert reward.value is None and reward.status == "gold_error" and reward.detail


OPTIONS = {"A": "a dog", "B": "Vitamin C", "C": "12 cm", "D": "Both A and B"}
SAMPLES = {
    kind: Sample("s", "", (), "q", "7", kind, meta={"options": OPTIONS}) for kind in ("digit", "choice", "math", "box")
}
READERS: dict[str, Callable[[str], object]] = {
    "digit": lambda text: digit("7", text),
    "count": lambda text: digit("7", f"7 {text}"),
    "choice": lambda text: choice("A", text, OPTIONS),
    "set": lambda text: choice("AC", f"A {text}", dict.fromkeys("ABCD", "")),
    "letters": lambda text: letters_of(text, OPTIONS),
    "box": lambda text: box("[0, 0, 1, 1]", text, {}),
    "groups": number_groups,
    "number": plain_number,
    "words": replace_number_words,
    "question": lambda text: options_of(Sample("s", "", (), text, "A", "choice")),
    "lettered": lettered,
    "worked_answer": lambda text: worked_answer(text, "Which function?", text),
    **{f"conclusions {kind}": lambda text, s=sample: conclusions(text, s) for kind, sample in SAMPLES.items()},
    **{f"canonical {kind}": lambda text, s=sample: canonical(text, s) for kind, sample in SAMPLES.items()},
}
UNITS = [
    " ", "\n", "\t", "(", "[", "{", "$", "|", "\\", "*", "`", "7", "A", "个", "½", " \n", "A. ", "(A) ", "[1,", "7 ", "is ", "not ",
    "answer ", "B is ", "A和", "y = ", "\\frac{", "\\boxed{", '"a": "', "one ", "Vitamin C ",
]  # fmt: skip


def seconds(reader: Callable[[str], object], text: str) -> float:
    """CPU time of the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        reader(text)
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.parametrize("name", READERS)
def test_readers_are_linear(name):
    """Eight times the text takes nowhere near sixty-four times as long. Below 20 ms there is nothing to tell apart."""
    for unit in UNITS:
        short, long = (unit * (size // len(unit)) for size in (6_000, 48_000))
        if (longer := seconds(READERS[name], long)) > 0.02:
            assert longer < 24 * seconds(READERS[name], short), (name, unit)
