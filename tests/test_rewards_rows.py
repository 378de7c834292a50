"""The table of kinds: it has a row for every kind that data may have, and one more row is one more kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seethink.core.nouns import KINDS, Sample
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder, score
from seethink.rewards.audit import canaries
from seethink.rewards.check import check_gold
from seethink.rewards.decision import Decision, malformed
from seethink.rewards.kinds import RULES, Rules


def test_every_kind_of_data_has_its_row():
    assert set(RULES) == set(KINDS)


def named(sample, answer, config):
    """A toy kind: the colour of something; `teal` is only decided later, in a batch."""
    if answer.text == "teal":
        return None
    return Decision(float(answer.text == sample.gold)) if answer.text.isalpha() else malformed("not a colour")


@pytest.fixture
def colours(monkeypatch):
    for module in ("core.nouns", "rewards.config"):
        monkeypatch.setattr(f"seethink.{module}.KINDS", (*KINDS, "colour"))
    monkeypatch.setitem(
        RULES,
        "colour",
        Rules(
            decide=named,
            later=lambda pairs, config, scorer: [Decision(0.6, detail="greenish") for _ in pairs],
            check=lambda sample: "no colour" if sample.gold == "seven" else "",
            wrong=lambda sample, rng: ["pink", sample.gold if sample.gold == "leaky" else "none of them"],
            correct=lambda config: 0.5,
        ),
    )
    return lambda gold: Sample("c", "", (), "Which colour?", gold, "colour")  # type: ignore[arg-type]


def test_a_sixth_kind_is_one_row(colours):
    green, rewarder = colours("green"), Rewarder(RewardConfig(kind_scale={"colour": 0.9}))
    responses = [compose("", a) for a in ("teal", "**green**.", "red", "3")] + ["green"]
    rewards = rewarder.score_batch([green] * 5, responses)
    assert [r.value for r in rewards] == pytest.approx([0.54, 0.9, 0, 0, 0])
    assert [r.status for r in rewards] == ["ok", "ok", "ok", "malformed", "no_format"]
    assert [rewarder.is_correct(r) for r in rewards] == [True, True, False, False, False]
    assert score(green, compose("", "green")).value == 1


def test_its_golds_are_checked_and_its_canaries_sing(colours):
    assert check_gold(colours("green")) == "" and check_gold(colours("")) == "empty gold"
    assert check_gold(colours("seven")) == "no colour"
    assert "malformed" in check_gold(colours("7"))  # an answer that repeats it is not right
    quiet, loud = (canaries([colours(gold)], Rewarder()) for gold in ("green", "leaky"))
    assert (quiet["tried"], quiet["alarm"]) == (2, False)
    assert (loud["paid"], loud["alarm"], loud["examples"][0]["kind"]) == (1, True, "colour")


def test_a_scale_of_the_rewards_makes_no_gold_bad():
    sample = Sample("d", "", (), "q", "7", "digit")
    assert check_gold(sample, RewardConfig(kind_scale={"digit": 0.5})) == ""


UNREADABLE = "x" * 5
"""As a gold of a count."""


@pytest.mark.parametrize(
    ("kind", "golds", "answer", "value"),
    [
        ("digit", ("3", "4"), "4", 1.0),
        ("digit", ("3", "4"), "5", 0.0),
        ("digit", (UNREADABLE, "4"), "4", 1.0),
        ("digit", (UNREADABLE, "4"), "5", None),  # nobody knows whether the other gold would be right
        ("digit", ("4", UNREADABLE), "5", None),
        ("choice", ("A", "C"), "C", 1.0),
        ("choice", ("A", "C"), "B", 0.0),
        ("math", ("1/2", "0.7"), "7/10", 1.0),
        ("open", ("a cat", "cat"), "cat", 1.0),
        ("box", ("[0, 0, 1, 1]", "[0, 0, 2, 2]"), "[0, 0, 2, 2]", 1.0),
        ("box", ("[0, 0, 4, 4]", "[0, 0, 2, 2]"), "[0, 0, 4, 2]", 0.5),
    ],
)
def test_any_gold_makes_an_answer_right(kind, golds, answer, value):
    sample = Sample(
        "a", "", (), "q", golds[0], kind, meta={"coords": "pixel", "image_size": [8, 8]}, alternatives=golds[1:]
    )
    assert score(sample, compose("x", answer)).value == value


def test_every_gold_is_checked():
    sample = Sample("a", "", (), "q", "3", "digit", alternatives=("4",))
    assert check_gold(sample) == "" and check_gold(replace(sample, alternatives=("4", UNREADABLE))) != ""
    assert canaries([sample], Rewarder())["tried"] == 0  # what is wrong by one gold may be right by another
