"""Boards of choices: MathVista, LogicVista, GeoQA, and the rules that read a letter."""

import json

import pytest

from seethink.evals.rules.options import can_infer, lettered


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("The answer is (B) No.", ["yes", "no"], "B"),
        ("I'm sorry, but without the image provided I cannot say", ["yes", "no"], "Z"),
        ("Z", ["yes", "no"], "Z"),
        ("Failed to obtain answer via API.", ["fail", "pass"], None),
        ("(A) or (B)", ["x", "y"], None),
        ("B is what I would choose of them all", ["x", "y"], None),  # named too far from the end
        ("Of A and B, the answer is **a** I think", ["x", "y"], "A"),
        ("Of A and B, the answer is based on what I see", ["x", "y"], "B"),  # as the original
        ("Of A and B, the answer is D", ["x", "y"], None),
        ("so it is increasing", ["increasing", "decreasing"], "A"),
        ("so it is increasing, after all that was said about it here", ["rising", "falling"], None),
        ("yes and no", ["yes", "no"], None),
        ("", ["yes", "no"], None),
    ],
)
def test_can_infer(text, options, letter):
    assert can_infer(text, lettered(options)) == letter


def test_can_infer_as_vlmevalkit_does(shared):
    rows = json.loads((shared / "golden/vlmevalkit_can_infer.json").read_text())["rows"]
    assert len(rows) == 690
    differ = [
        r["pid"] for r in rows if can_infer(r["response"], lettered(list(map(str, r["choices"])))) != r["expected"]
    ]
    assert differ == []


@pytest.mark.parametrize("text", ["answer " * 150_000, "answer is " + " *" * 500_000, "A " * 500_000, "(" * 10**6])
def test_a_long_text_is_bounded(text):
    assert can_infer(text, lettered(["yes", "no"])) in ("A", None)
