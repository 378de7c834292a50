"""Alarms of a run: a run that learns nothing says so in its first round, and once more at its end."""

from __future__ import annotations

import pytest

from seethink.train import alarms

FINE = {
    "reward/mean": 0.4, "groups/zero_spread": 0.5, "tokens/trained": 90, "loss": 0.1, "grad_norm": 1.0, "completion/cut_share": 0.1,
    "completion/length": 9.0, "entropy": 1.0, "undecided": 0,
}  # fmt: skip
DEAD = {"groups/zero_spread": 1.0, "tokens/trained": 0, "grad_norm": 0.0, "loss": 0.0}


@pytest.mark.parametrize(
    ("row", "name", "words"),
    [
        ({**DEAD, "reward/mean": 0.0}, "nothing_trained", "every reward was 0"),
        ({**DEAD, "reward/mean": 1.0}, "nothing_trained", "no group had a spread of rewards"),
        ({**DEAD, "reward/mean": None}, "nothing_trained", "no reward was decided"),
        ({"tokens/trained": 0}, "nothing_trained", "no token was trained"),
        ({"completion/cut_share": 1.0}, "all_cut", "every completion of this round hit max_tokens"),
        ({"loss": None}, "not_finite", "not finite"),
        ({"grad_norm": None}, "not_finite", "not finite"),
    ],
)
def test_a_dead_round_is_named_at_once(row, name, words):
    assert words in alarms.grpo([{**FINE, **row}])[name]


def test_a_round_that_teaches_something_is_quiet():
    assert alarms.grpo([]) == alarms.grpo([FINE]) == {} == alarms.grpo([{**FINE, "groups/zero_spread": 0.9}])


def test_what_one_round_may_show_by_chance_waits():
    flat = {**FINE, "groups/zero_spread": 0.9}
    assert "no_spread" in alarms.grpo([flat] * alarms.WINDOW) and alarms.grpo([flat] * (alarms.WINDOW - 1)) == {}


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"tokens": 9, "loss": 1.0, "grad_norm": 1.0}, set()),
        ({"tokens": 0, "loss": 1.0, "grad_norm": 1.0}, {"nothing_trained"}),
        ({"tokens": 9, "loss": 1.0, "grad_norm": float("nan")}, {"nothing_trained", "not_finite"}),
    ],
)
def test_a_dead_step_is_named_at_once(row, names):
    assert set(alarms.sft(row)) == names


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ([{**FINE, **DEAD, "reward/mean": 0.0}] * 3, "every reward was 0"),
        ([{**FINE, **DEAD, "reward/mean": 0.0}, {**FINE, **DEAD, "reward/mean": 1.0}], "no group had a spread"),
        ([], "no step was kept"),
        ([FINE, {**FINE, **DEAD}], ""),
        ([{"tokens": 9, "loss": 1.0, "grad_norm": None}] * 2, "no gradient was finite"),
    ],
)
def test_a_run_that_learned_nothing_says_so_at_its_end(metrics, words):
    found = alarms.at_the_end(metrics)
    assert (words in found["nothing_learned"]) if words else found == {}


def test_more_prompts_than_samples_are_named_before_the_first_round():
    assert "16 prompts from 3 samples" in alarms.before_grpo(16, 3)["few_samples"] and alarms.before_grpo(3, 3) == {}
