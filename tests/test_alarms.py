"""Every alarm of the tables fires on a history made for it, and stays silent on a healthy one; the page is rendered from the tables."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from seethink.study.alarms import STUDY_RULES
from seethink.train import alarms
from seethink.train.alarms import RULES, WINDOW

ROUNDS = 20
FINE = {
    "reward/mean": 0.4, "reward/open": 0.3, "reward/digit": 0.5, "groups/zero_spread": 0.5, "tokens/trained": 90, "loss": 0.1, "grad_norm": 1.0,
    "completion/cut_share": 0.1, "completion/length": 9.0, "entropy": 1.0, "undecided": 0, "sampler/capped_share": 0.001, "seconds": 1.0,
}  # fmt: skip
DEAD = {"groups/zero_spread": 1.0, "tokens/trained": 0, "grad_norm": 0.0, "loss": 0.0}
STEP = {"tokens": 9, "loss": 1.0, "grad_norm": 1.0, "seconds": 1.0}


def held(accuracy: float, decided: int = 400, **more) -> dict:
    return {"held_out/accuracy": accuracy, "held_out/reward": accuracy, "held_out/decided": decided, "seconds/held_out": 1.0, **more}  # fmt: skip


def open_held(accuracy: float, right: float) -> dict:
    return held(accuracy, **{"held_out/open": right, "held_out/decided/open": 400})


def history(lately: dict | None = None, first: dict | None = None, last: dict | None = None, rounds: int = ROUNDS) -> list[dict]:  # fmt: skip
    """A run whose last five rows are changed by `lately`; `first` and `last`: evaluations before the first and after the last."""
    rows = [{"round": n + 1, **FINE, **((lately or {}) if n >= rounds - WINDOW else {})} for n in range(rounds)]
    rows[-1] |= last or {}
    return ([{"round": 0, **first}] if first else []) + rows


HEALTHY = {
    "steady": history(),
    "watched": history({"reward/mean": 0.6, "reward/open": 0.5}, open_held(0.4, 0.4), open_held(0.58, 0.55)),
    "watched, too few to tell": history({"reward/mean": 0.6}, held(0.4, 20), held(0.4, 20)),
    "watched, a small rise that accuracy may have shared": history({"reward/mean": 0.46}, held(0.4), held(0.41)),
    "watched, below within the noise": history({}, held(0.4), held(0.36)),
    "one odd round": history()[:-1] + [{**history()[-1], "groups/zero_spread": 0.95, "completion/cut_share": 0.9, "entropy": 0.01}],
    "short": history(rounds=WINDOW - 1),
    "nothing yet": [],
    "evaluated only": [{"round": 0, **held(0.4)}],
}  # fmt: skip

CASES = {
    "nothing_trained": [
        (history()[:-1] + [{**FINE, **DEAD, "reward/mean": 0.0}], "nothing was learned in this round: every reward was 0"),
        (history()[:-1] + [{**FINE, **DEAD, "reward/mean": 1.0}], "no group had a spread of rewards"),
        (history()[:-1] + [{**FINE, **DEAD, "reward/mean": None}], "no reward was decided"),
        (history()[:-1] + [{**FINE, "tokens/trained": 0}], "no token was trained"),
    ],
    "not_finite": [([{**FINE, "loss": None}], "not finite"), ([{**FINE, "grad_norm": math.nan}], "its update was left out")],
    "all_cut": [([{**FINE, "completion/cut_share": 1.0}], "every completion of this round hit max_tokens")],
    "cut": [(history({"completion/cut_share": 0.6}), "60% of completions hit max_tokens")],
    "no_spread": [
        (history({"groups/zero_spread": 0.9}), "90% of groups have no spread (all members agree, mean reward 0.40)"),
        (history({"groups/zero_spread": 0.9, "reward/mean": 0.9}), "nearly all right, mean reward 0.90"),
        (history({"groups/zero_spread": 0.9, "reward/mean": 0.1}), "nearly all wrong, mean reward 0.10"),
        (history({"groups/zero_spread": 0.9, "reward/mean": None}), "nothing decided"),
    ],
    "undecided": [(history({"undecided": 2}), "10 rewards of the last 5 rounds are undecided")],
    "length_collapse": [(history({"completion/length": 4.0}), "completions shrank from 9 to 4 tokens")],
    "length_runaway": [(history({"completion/length": 19.0}), "completions grew from 9 to 19 tokens")],
    "entropy_collapse": [(history({"entropy": 0.05}), "entropy fell from 1.000 to 0.050 nats")],
    "sampler": [(history({"sampler/capped_share": 0.05}), "5.0% of tokens have capped importance weights")],
    "never_scores_digit": [
        ([{**row, "reward/digit": 0.0} for row in history()], "kind digit has not earned a single reward in 20 rounds"),
    ],
    "reward_without_accuracy": [
        (history({"reward/mean": 0.6}, held(0.4), held(0.41)), "reward rose by 0.20, but held-out accuracy did not follow (+1.0 points"),
    ],
    "scorer_drift": [
        (history({"reward/open": 0.7}, open_held(0.4, 0.4), open_held(0.5, 0.38)), "open answers rose by 0.40, but held-out open answers"),
    ],
    "below_its_start": [(history({}, held(0.4), held(0.3)), "held-out accuracy is 10.0 points below the model it started from")],
}  # fmt: skip
"""Alarm of a round -> histories that raise it, and words that it says then."""


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_quiet(name):
    rows = HEALTHY[name]
    assert [alarms.grpo(rows[: n + 1]) for n in range(len(rows))] == [{}] * len(rows)


@pytest.mark.parametrize(
    ("name", "rows", "words"), [(name, *case) for name, cases in CASES.items() for case in cases], ids=lambda x: ""
)
def test_what_is_wrong_is_named(name, rows, words):
    found = alarms.grpo(rows)
    assert words in found[name] and "nan" not in found[name]
    assert set(found) - {"nothing_trained"} == {name} - {"nothing_trained"}


def test_every_alarm_of_the_table_has_a_case_here():
    elsewhere = {"few_samples", "held_out_in_data", "no_export", "loss_spike_{step}", "nothing_learned"}
    assert {rule.name for rule in RULES} == {n.replace("_digit", "_{kind}") for n in CASES} | elsewhere
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.when == "round" and rule.needs], ids=lambda r: r.name)
def test_a_rule_without_what_it_needs_is_silent(rule):
    """Leaving out any one of the metrics that a rule names takes its alarm away, and raises no other."""
    kind = rule.name.replace("{kind}", "digit")
    rows, _ = CASES[kind][0]
    for need in rule.needs:
        need = need.replace("<kind>", "digit")
        assert kind not in alarms.grpo([{k: v for k, v in row.items() if k != need} for row in rows])


def test_what_one_round_may_show_by_chance_waits():
    flat = {**FINE, "groups/zero_spread": 0.9}
    assert "no_spread" in alarms.grpo([flat] * WINDOW) and alarms.grpo([flat] * (WINDOW - 1)) == {}


def test_accuracy_is_judged_in_the_round_that_measured_it():
    rows = history({"reward/mean": 0.6}, held(0.4), held(0.41))
    assert "reward_without_accuracy" in alarms.grpo(rows)
    assert alarms.grpo([*rows, {"round": ROUNDS + 1, **FINE, "reward/mean": 0.6}]) == {}


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({}, set()),
        ({"tokens": 0}, {"nothing_trained"}),
        ({"grad_norm": float("nan")}, {"nothing_trained", "not_finite"}),
        (held(0.4), {"below_its_start"}),
        (held(0.48), set()),
    ],
)
def test_a_step_of_sft_is_named_at_once(row, names):
    assert set(alarms.sft([{"step": 0, **held(0.5)}, {"step": 1, **STEP, **row}])) == names


@pytest.mark.parametrize(
    ("before", "loss", "taken_back"),
    [
        ([1.0] * 20, 2.1, True),
        ([1.0] * 20, 1.9, False),
        ([9.0] * 30 + [1.0] * 20, 2.1, True),
        ([1.0] * 4, 50.0, False),
        ([], math.nan, True),
        ([1.0] * 20, math.inf, True),
        ([None, *[1.0] * 5], 3.0, True),
    ],
    ids=[
        "spike",
        "within",
        "of the last twenty alone",
        "too early to tell",
        "nan",
        "infinite",
        "a step without a loss",
    ],
)
def test_a_loss_spike_is_taken_back(before, loss, taken_back):
    rows = [{"step": 0, **held(0.4)}, *({**STEP, "loss": value} for value in before)]
    found = alarms.spiked(rows, loss, 21, factor=2.0)
    assert found == ({"loss_spike_21": f"loss {loss:.3f} at step 21: rolled back, batch skipped"} if taken_back else {})


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ([{**FINE, **DEAD, "reward/mean": 0.0}] * 3, "every reward was 0"),
        ([{**FINE, **DEAD, "reward/mean": 0.0}, {**FINE, **DEAD, "reward/mean": 1.0}], "no group had a spread"),
        ([{"round": 0, **held(0.4)}, {**FINE, **DEAD, "reward/mean": 0.0}], "every reward was 0"),
        ([], "no step was kept"),
        ([{"step": 0, **held(0.4)}], "no step was kept"),
        ([FINE, {**FINE, **DEAD}], ""),
        ([{"tokens": 9, "loss": 1.0, "grad_norm": None}] * 2, "no gradient was finite"),
    ],
)
def test_a_run_that_learned_nothing_says_so_at_its_end(metrics, words):
    found = alarms.at_the_end(metrics)
    assert (words in found["nothing_learned"]) if words else found == {}


def test_what_limits_a_run_is_named_before_its_first_round():
    assert "16 prompts from 3 samples" in alarms.before_grpo(16, 3)["few_samples"] and alarms.before_grpo(3, 3) == {}
    assert alarms.before_watch(total=49, export_every=7, held_out=200, leaked=0) == {}
    found = alarms.before_watch(total=49, export_every=50, held_out=200, leaked=4)
    assert "4 of 200 held-out samples" in found["held_out_in_data"] and "the run has 49" in found["no_export"]


def test_the_page_is_rendered_from_the_tables():
    root = Path(__file__).parents[1]
    sys.path.insert(0, str(root / "docs"))
    from render import alarms as rendered

    page = (root / "docs/alarms.md").read_text()
    assert page == rendered(page), "render it: python docs/render.py"
    assert all(rule.rule in page for rule in (*RULES, *STUDY_RULES))
