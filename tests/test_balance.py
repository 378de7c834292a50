"""The balance table: counted by hand, letters against scipy, and alarms only where a constant answer would win."""

from __future__ import annotations

import random

import pytest
from PIL import Image
from scipy import stats

from seethink.core.nouns import Example, Sample
from seethink.core.run import Run
from seethink.core.store import read_json, read_jsonl
from seethink.core.tags import compose
from seethink.data.balance import Balance, chi_square, skewed


def choices(golds: str, options: int = 4, source: str = "s") -> list[Example]:
    """A choice question for each letter of `golds`."""
    texts = tuple(f"option {n}" for n in range(options))
    return [
        Example(Sample(f"c{n}", source, (), f"Which {n}?", gold, "choice", texts), "") for n, gold in enumerate(golds)
    ]


def alarms(examples: list[Example]) -> list[tuple[str, str]]:
    balance = Balance()
    for example in examples:
        balance.add("rl", example)
    return skewed(balance.rows())


def test_rows_are_counted_by_set_and_source(tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    rows = [
        Example(Sample("1", "s", (a,), "q", "3", "digit", meta={"difficulty": 0.5}), compose("wait three words", "3")),
        Example(Sample("2", "s", (a, b), "q", "3", "digit", meta={"difficulty": None}), compose("one " * 9, "3")),
        Example(Sample("3", "s", (), "q", "A dog", "open"), compose("none", "A dog")),
    ]
    balance = Balance()
    for row in rows:
        balance.add("sft", row)
    balance.add("sft", Example(Sample("4", "t", (), "Which?", "(b)", "choice", ("x", "y")), ""))
    balance.add("rl", Example(Sample("5", "t", (), "q", "4", "digit"), ""))
    first, second, third = balance.rows()
    assert first == {
        "set": "sft", "source": "s", "rows": 3, "kinds": {"digit": 2, "open": 1}, "pictures": 2,
        "golds": {"digit": {"gold": "3", "rows": 2, "share": 1.0}, "open": {"gold": "a dog", "rows": 1, "share": 1.0}},
        "letters": None, "words": {"p50": 3.0, "p90": pytest.approx(7.8)}, "hesitating": pytest.approx(1 / 3),
        "difficulty": {"known": 1, "mean": 0.5},
    }  # fmt: skip
    assert second["golds"]["choice"]["gold"] == "B" and second["letters"]["right"] == {"A": 0, "B": 1}
    assert (third["set"], third["words"], third["hesitating"], third["difficulty"]) == ("rl", None, None, None)


def test_chi_square_is_scipys():
    rng = random.Random(0)
    for _ in range(50):
        seen = [rng.randint(0, 40) for _ in range(rng.randint(2, 6))]
        seen[0] += 1
        weights = [rng.random() + 0.1 for _ in seen]
        expected = [sum(seen) * w / sum(weights) for w in weights]
        p, effect = chi_square(seen, expected)
        found = stats.chisquare(seen, expected)
        assert p == pytest.approx(found.pvalue, rel=1e-6) and effect == pytest.approx(
            (found.statistic / sum(seen)) ** 0.5
        )


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (choices("ABCD" * 10), []),
        (choices("A" * 30 + "BCD" * 3), ["constant_answer", "letters"]),
        (choices("A" * 18 + "BCD" * 10), []),  # 18 of 48 against 12: w is .29
        (choices("ABC" * 20, options=4), ["letters"]),  # D is never right
        (choices("AB" * 20 + "A" * 6, options=2), []),  # 57 % of two
        (choices("A" * 16 + "B" * 3), []),  # too few to say
        (choices("A" * 40 + "B" * 5, options=2), ["constant_answer", "letters"]),
        ([Example(Sample(f"d{n}", "s", (), "q", "2" if n < 13 else str(n), "digit"), "") for n in range(25)], ["constant_answer"]),
        ([Example(Sample(f"d{n}", "s", (), "q", "2" if n < 12 else str(n), "digit"), "") for n in range(25)], []),
        (choices("ABCD" * 10) + choices("B" * 30, source="t"), ["constant_answer", "letters"]),
    ],
)  # fmt: skip
def test_what_is_said_of_it(examples, expected):
    assert [name for name, _ in alarms(examples)] == expected


def test_sentences_name_the_place_and_go_on_record(tmp_path, capsys):
    balance = Balance()
    for example in choices("A" * 30 + "BCD" * 3, source="arxivqa"):
        balance.add("rl", example)
    with Run(tmp_path, "key") as folder:
        balance.report(folder)
    said = capsys.readouterr()
    assert (
        "! 'A' is the gold of 30 of 39 choice rows of arxivqa in rl: always saying it would be right in 77%" in said.err
    )
    assert "! A is right in 30 of 39 choice rows of arxivqa in rl, by chance 10 (p < 0.001, w = 1.20)" in said.err
    assert "arxivqa" in said.out and read_json(tmp_path / "balance.json") == balance.rows()
    assert [row["alarm"] for _, row in read_jsonl(tmp_path / "alarms.jsonl")] == ["constant_answer", "letters"]
