"""Measures of every arm: each against a plain loop over the same rows, and a reason wherever there is no number."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest
from scipy.stats import spearmanr

from seethink.core.nouns import Sample, Score
from seethink.core.store import save_samples, write_json, write_jsonl
from seethink.core.tables import write_table
from seethink.core.tags import compose
from seethink.study.fair import root
from seethink.study.folder import load_study
from seethink.study.measures import MEASURES, STRATA, Measured, measure, stratum
from tests import synthetic_study

Y, N, U = True, False, None  # right, wrong, undecided
KINDS = ("digit", "choice", "digit", "open")
GOLDS = ("3", "B", " 3", "a cat")
ARMS = {"base": [], "zero": [], "sft": ["sft"], "grpo": ["grpo"], "late": ["sft", "grpo"], "zero-grpo": ["grpo"]}
STARTS = {"late": "sft", "zero-grpo": "zero"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A study without runs, on four items."""
    samples = [
        Sample(f"i{i}", "s", (), f"question {i}?", gold, kind, ("x", "y") if kind == "choice" else ())
        for i, (kind, gold) in enumerate(zip(KINDS, GOLDS, strict=True))
    ]
    save_samples(tmp_path / "board.jsonl", samples)
    arms = {name: {"stages": stages, "start": STARTS.get(name, "base")} for name, stages in ARMS.items()}
    write_json(tmp_path / "study.json", {"arms": arms, "comparisons": [], "board": "board.jsonl", "reference": "base"})
    return tmp_path


def evaluation(folder, arm, stage, rows, seed=0, inputs=None, **columns) -> None:
    """A finished evaluation; rows: for each item its verdicts, one a draw. `columns` give a value for each item."""
    scores = []
    for i, row in enumerate(rows):
        for draw, ok in enumerate(row if isinstance(row, list) else [row]):
            values = {"text": compose("so", "3"), "draw": draw} | {name: given[i] for name, given in columns.items()}
            values |= {"stop": "stop", "tokens": 3, "seconds": 0.1}
            scores.append(Score("b", "all", f"i{i}", KINDS[i], ok, None, "", None, **values))
    home = folder / "arms" / arm / f"seed{seed}" / stage
    home.mkdir(parents=True)
    write_table(home / "scores.parquet", scores)
    synthetic_study.finish(home, "eval", {}, {"model": f"{arm}{seed}"} | (inputs or {}), {}, 1)


def training(folder, arm, rows, seed=0, stage="grpo") -> None:
    home = folder / "arms" / arm / f"seed{seed}" / stage
    home.mkdir(parents=True)
    write_jsonl(home / "metrics.jsonl", rows)
    synthetic_study.finish(home, stage, {}, {"model": "base0"}, {}, 1)


def values(folder, name) -> dict[str, dict[str, Measured]]:
    """Row -> arm -> number, of one measure."""
    assert name in [one.name for one in MEASURES]
    return {row.row: row.values for row in measure(load_study(folder)) if row.measure.name == name}


def number(measured: Measured) -> float:
    assert measured.interval and not measured.why, measured
    assert measured.interval.low <= measured.interval.estimate <= measured.interval.high
    return measured.interval.estimate


def test_pass_at_k_is_over_every_choice_of_k_decided_answers(folder):
    seeds = [
        [[Y, N, N, U], [N, N, N, N], [Y, Y, Y, Y], [U, U, U, Y]],
        [[N, U, N, N], [N, Y, N, N], [Y, Y, N, Y], [N, U, U, U]],
    ]
    for seed, rows in enumerate(seeds):
        evaluation(folder, "grpo", "eval-samples", rows, seed)
    found = values(folder, "pass@k")
    for k in (1, 2, 4):
        shares = []
        for rows in seeds:
            for row in rows:
                decided = [ok for ok in row if ok is not None]
                shares += [fmean(any(c) for c in combinations(decided, k))] if len(decided) >= k else []
        assert number(found[f"pass@{k}"]["grpo"]) == pytest.approx(fmean(shares))
    assert found["pass@8"]["grpo"] == Measured(None, "fewer than 8 answers an item are decided")


@pytest.mark.parametrize(
    ("rate", "name"), [(0, "0"), (1 / 16, "(0, 25]"), (0.25, "(0, 25]"), (0.5, "(25, 75]"), (0.75, "(25, 75]"),
                       (15 / 16, "(75, 100)"), (1, "100")]
)  # fmt: skip
def test_strata(rate, name):
    assert stratum(rate) == name and name in STRATA


def test_accuracy_by_the_rate_of_the_model_that_an_arm_goes_back_to(folder):
    evaluation(folder, "base", "eval-samples", [[N, N, U, N], [Y, N, N, N], [Y, Y, Y, Y], [U, U, U, U]])
    evaluation(folder, "zero", "eval-samples", [[Y, Y, Y, Y], [Y, Y, Y, Y], [N, N, N, N], [N, N, N, Y]])
    for seed, rows in enumerate([[Y, Y, N, Y], [N, Y, Y, Y]]):
        evaluation(folder, "late", "eval", rows, seed)
        evaluation(folder, "zero-grpo", "eval", rows, seed)
    study, found = load_study(folder), values(folder, "Accuracy by the base's pass rate")
    assert [root(study, arm) for arm in ("base", "late", "zero-grpo", "zero")] == ["base", "base", "zero", "zero"]
    assert number(found["0"]["late"]) == 0.5 and found["0"]["late"].items == 1
    assert number(found["(0, 25]"]["late"]) == 1.0 and number(found["100"]["late"]) == 0.5
    assert found["(25, 75]"]["late"] == Measured(None, "no item of the board has this rate")
    assert number(found["100"]["zero-grpo"]) == 0.75 and found["100"]["zero-grpo"].items == 2
    assert number(found["0"]["zero-grpo"]) == 0.5 and number(found["(0, 25]"]["zero-grpo"]) == 1.0


def test_without_answers_of_the_base_nobody_knows_what_is_hard(folder):
    evaluation(folder, "grpo", "eval", [Y, N, Y, N])
    assert values(folder, "Accuracy by the base's pass rate")[""]["grpo"].why == "base has no evaluation 'samples'"


def test_the_drop_is_paired_by_item_and_seed(folder):
    seen, grey = [[Y, Y, N, U], [Y, N, Y, Y], [N, N, N, N]], [[N, Y, N, Y], [N, N, Y, U]]
    for seed, rows in enumerate(seen):
        evaluation(folder, "grpo", "eval", rows, seed)
    for seed, rows in enumerate(grey):
        evaluation(folder, "grpo", "eval-blank", rows, seed)
    pairs = [(a, b) for x, y in zip(seen, grey, strict=False) for a, b in zip(x, y, strict=True) if None not in (a, b)]
    assert number(values(folder, "Drop without pictures")[""]["grpo"]) == pytest.approx(fmean(a - b for a, b in pairs))


def test_old_skills_and_what_is_left_of_them(folder):
    evaluation(folder, "base", "eval-old", [Y, Y, Y, N])
    evaluation(folder, "sft", "eval-old", [Y, N, N, U], 0)
    evaluation(folder, "sft", "eval-old", [Y, N, Y, U], 1)
    evaluation(folder, "zero-grpo", "eval-old", [Y, N, N, N])
    kept, change = (values(folder, name)[""] for name in ("Old skills", "Old skills, change"))
    assert number(kept["base"]) == 0.75 and number(kept["sft"]) == pytest.approx(0.5)
    assert number(change["sft"]) == pytest.approx(-0.5)  # of three items one is lost by both seeds, another by one
    assert change["base"].why == "it is the start" and change["zero-grpo"].why == "zero has no evaluation 'old'"


def test_entropy_before_and_during_exploration(folder):
    evaluation(folder, "grpo", "eval-sampled", [Y, Y, N, N], entropy=[0.1, 0.2, 0.3, None])
    training(folder, "grpo", [{"round": r, "entropy": 1 / r} for r in range(1, 13)])
    training(folder, "late", [{"round": r, "entropy": 1.0} for r in range(1, 6)])
    evaluation(folder, "late", "eval", [Y, N, N, N])
    found = values(folder, "Entropy")
    assert (
        number(found["held-out prompts"]["grpo"]) == pytest.approx(0.2) and found["held-out prompts"]["grpo"].items == 3
    )
    assert number(found["first 5 rounds"]["grpo"]) == pytest.approx(fmean(1 / r for r in range(1, 6)))
    assert number(found["last 5 rounds"]["grpo"]) == pytest.approx(fmean(1 / r for r in range(8, 13)))
    assert found["last 5 rounds"]["late"].why == "no GRPO of its own with 10 rounds", "five rounds have no end"
    assert found["held-out prompts"]["late"].why == "no evaluation 'sampled' against a model"


def test_kl_is_to_the_start_or_not_told(folder):
    evaluation(folder, "base", "eval", [Y, N, N, N])
    near = {"against": "base0", "model": "m"}
    evaluation(folder, "grpo", "eval-sampled", [Y, Y, N, N], inputs=near, kl=[0.1, 0.3, -1e-9, 0.2])
    evaluation(folder, "sft", "eval-sampled", [Y, Y, N, N], inputs={"against": "sft0"}, kl=[0.1, 0.3, 0.0, 0.2])
    evaluation(folder, "late", "eval-sampled", [Y, Y, N, N])
    found = values(folder, "KL to the start")[""]
    assert number(found["grpo"]) == pytest.approx(0.15)
    assert found["sft"].why == "it was scored against another model than base"
    assert found["late"].why == "it was not scored against a model (against)"
    assert found["base"].why == "no evaluation 'sampled'"


def test_agreement_and_empty_thinking_by_kind(folder):
    texts = [
        compose("2 + 1 = 3 .", "3"),
        compose("the answer is (A).", "B"),
        compose("", "3"),
        "<answer>a cat</answer>",
    ]
    evaluation(folder, "base", "eval", [Y, Y, Y, Y], text=texts)
    agrees, empty = (values(folder, name) for name in ("Thinking agrees with the answer", "Empty thinking"))
    assert number(agrees["all"]["base"]) == 0.5 and number(agrees["digit"]["base"]) == 1.0
    assert number(agrees["choice"]["base"]) == 0.0 and agrees["open"]["base"].why == "no thinking states a result"
    assert [number(empty[kind]["base"]) for kind in ("all", "digit", "choice", "open")] == [0.5, 0.5, 0.0, 1.0]


def test_reward_against_accuracy_is_scipys_rank_correlation(folder):
    """Evaluations at rounds 0, 2, 4, 6; the reward of one is the mean of the rounds since the one before."""
    pairs = []
    rewards = [[0.1, 0.3, 0.2, 0.2, 0.6, 0.6], [0.4, 0.5, 0.1, 0.3, 0.9, 0.7]]
    accuracies = [[0.3, 0.5, 0.4, 0.6], [0.5, 0.4, 0.6, 0.7]]
    for seed, (reward, accuracy) in enumerate(zip(rewards, accuracies, strict=True)):
        rows = [{"round": r + 1, "reward/mean": value} for r, value in enumerate(reward)]
        rows += [{"round": 2 * i, "held_out/accuracy": value} for i, value in enumerate(accuracy)]
        training(folder, "grpo", rows, seed)
        mean = [fmean(reward[i : i + 2]) for i in (0, 2, 4)]
        pairs += [(r - fmean(mean), a - fmean(accuracy[1:])) for r, a in zip(mean, accuracy[1:], strict=True)]
    evaluation(folder, "grpo", "eval", [Y, N, N, N])
    found = values(folder, "Reward against held-out accuracy")[""]["grpo"]
    assert found.items == 6 and number(found) == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"round": 1, "reward/mean": 0.1}], "not evaluated while it trained"),
        ([{"round": r, "reward/mean": 0.1 * r, "held_out/accuracy": 0.5 + 0.1 * r} for r in range(3)], "2 eval"),
        ([{"round": r, "reward/mean": 0.1, "held_out/accuracy": 0.1 * r} for r in range(9)], "all alike"),
    ],
)
def test_no_correlation_without_points(folder, rows, why):
    training(folder, "grpo", rows)
    evaluation(folder, "grpo", "eval", [Y, N, N, N])
    evaluation(folder, "sft", "eval", [Y, N, N, N])
    found = values(folder, "Reward against held-out accuracy")[""]
    assert why in found["grpo"].why and found["sft"].why == "no grpo run"


def test_every_number_is_an_interval_or_a_reason(tmp_path):
    """A study without further evaluations, with its board gone."""
    study = synthetic_study.build(tmp_path, seeds=(0, 1), items=20, steps=12)
    (study / "world" / "board.jsonl").unlink()
    rows = measure(load_study(study))
    assert {row.measure.name for row in rows} == {one.name for one in MEASURES}
    for row in rows:
        assert list(row.values) == list(synthetic_study.ARMS)
        assert all((value.interval is None) == bool(value.why) for value in row.values.values()), row
    reasons = {row.measure.name: next(iter(row.values.values())).why for row in rows if not row.measured}
    assert reasons["pass@k"] == "no evaluation 'samples'"
    assert reasons["Thinking agrees with the answer"] == "the board's file is gone"


def test_a_study_that_has_not_begun_has_no_rows(folder):
    assert measure(load_study(folder)) == []
