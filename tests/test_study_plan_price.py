"""What a dry run says a study takes: bounds counted by hand, what is missing, what is unknown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from seethink.core.nouns import Example, Sample
from seethink.core.store import read_json, save_examples, save_samples, write_json, write_jsonl
from seethink.study.config import StudyConfig
from seethink.study.folder import load_study
from seethink.study.matched import AXES, efforts
from seethink.study.plan import planned
from seethink.study.price import Pricing, parameters, say
from seethink.study.run import run
from tests import synthetic_study

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
GRPO = {"rounds": 10, "prompts": 4, "group": 3, "update_prompts": 2, "max_tokens": 20}


@pytest.fixture
def make(tmp_path):
    rows = [Sample(f"q{n}", "s", (), f"How many? {n}", str(n), "digit") for n in range(10)]
    save_samples(tmp_path / "board.jsonl", rows[:4])
    save_samples(tmp_path / "rl.jsonl", rows)
    save_examples(tmp_path / "a.jsonl", [Example(row, "x" * (n + 1)) for n, row in enumerate(rows)])

    def config(**changes) -> StudyConfig:
        data = {name: tmp_path / f"{name}.jsonl" for name in ("rl", "a")}
        arms = {"grpo": {"stage": "grpo"}, "sft": {"stage": "sft", "data": "a"}}
        given = {"out": tmp_path / "o", "base": BASE, "board": tmp_path / "board.jsonl", "data": data, "arms": arms}
        shared = {"grpo": GRPO, "sft": {"epochs": 2, "batch_size": 5}, "eval": {"max_tokens": 7}}
        return StudyConfig(**{**given, **shared, "seeds": [0, 1], "comparisons": [("sft", "grpo")], **changes})

    return config


def priced(config: StudyConfig) -> Pricing:
    return Pricing(config, planned(config))


def row(config: StudyConfig, verb: str):
    return next(row for row in priced(config).rows if row.verb == verb)


def test_work_is_counted_from_the_plan(make):
    config = make()
    assert (row(config, "grpo").runs, row(config, "grpo").work.rollouts) == (2, 2 * 10 * 4 * 3)
    assert row(config, "grpo").work.generated == row(config, "grpo").work.trained == 2 * 120 * 20
    assert row(config, "sft").work.trained == 2 * 2 * 55, "no token has less than a byte"
    assert (row(config, "eval").work.rollouts, row(config, "eval").work.generated) == (5 * 4, 5 * 4 * 7)
    samples = {"samples": {"arms": ["base"], "set": {"samples": 16, "temperature": 1.0}}}
    assert row(make(evals=samples), "eval").work.rollouts == 5 * 4 + 16 * 4


def test_what_trains_beside_and_what_is_asked_on_the_way_counts(make):
    watch = {"data": "board", "every": 5, "limit": 3}
    assert row(make(grpo={**GRPO, "watch": watch}), "grpo").work.rollouts == 2 * (120 + 4 * 3)
    arms = {"mixed": {"stage": "grpo", "demos": "a", "set": {"demos": {"batch": 2, "every": 5}}}}
    mixed = make(arms=arms, comparisons=[])
    assert row(mixed, "grpo").work.trained == 2 * (120 * 20 + 2 * 2 * 2 * 10), (
        "2 rounds x 2 steps x 2 rows x the longest"
    )


def test_a_set_is_no_larger_than_what_it_is_made_of_and_asked_for(make):
    sets = {
        "short": {"verb": "curate", "of": "a", "set": {"shortest": 3}},
        "hard": {"verb": "select", "of": "a", "set": {"sizes": [4]}},
        "passes": {"verb": "eval", "of": "rl", "set": {"samples": 4, "temperature": 1.0}},
        "own": {"verb": "curate", "of": "rl", "set": {"from_scores": "passes", "per_question": 2}},
    }
    arms = {name: {"stage": "sft", "data": name} for name in ("short", "hard", "own")}
    config = make(sets=sets, arms=arms, comparisons=[], seeds=[0])
    assert row(config, "sft").work.trained == 2 * ((10 + 9 + 8) + (10 + 9 + 8 + 7) + 20 * 7)
    assert row(config, "eval").work.rollouts == 4 * 4 + 4 * 10
    assert row(config, "select").gpu_hours is None


def test_hours_and_dollars_follow_from_what_is_stated(make):
    stated = {
        "sampled_tokens_per_s": 10,
        "trained_tokens_per_s": 5,
        "gpus": 2,
        "usd_per_gpu_hour": 3,
        "source": "a guess",
    }
    config = make(throughput=stated)
    hours = (2 * 2400 / 10 + 2 * 2400 / 5) / 3600
    assert row(config, "grpo").gpu_hours == pytest.approx(hours)
    total = hours + (220 / 5 + 140 / 10) / 3600
    assert priced(config).total.gpu_hours == pytest.approx(total)
    said = "\n".join(say(priced(config)))
    assert (
        f"GPUs: {total * 3:,.2f} USD" in said
        and "stated figures: a guess" in said
        and "unknown: memory per GPU" in said
    )
    assert re.search(r"^unknown: GPU hours", said, re.M) is None


def test_disk_counts_every_model_that_stays(make):
    size = parameters(BASE)
    header = BASE / "model.safetensors"
    raw = header.read_bytes()
    tensors = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    ends = max(tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__")
    assert size * 4 == ends or size * 2 == ends
    arms = {"grpo": {"stage": "grpo"}, "at": {"stage": "grpo", "start": "grpo", "at": 4}}
    models, checkpoint = priced(make(arms=arms, comparisons=[])).disk
    assert models == pytest.approx(2 * (1 + 2 + 1) * size * 4 / 1e9) and checkpoint == pytest.approx(size * 12 / 1e9)


def test_an_endpoint_has_a_price_where_a_budget_bounds_it(make):
    judge = {"scorer": "judge", "judge": {"url": "http://127.0.0.1:1/v1", "model": "m"}}
    config = make(grpo={**GRPO, "reward": {"open": judge}})
    assert (row(config, "grpo").work.calls, row(config, "grpo").work.usd) == (240, None)
    assert any(text.startswith("unknown: cost of m") for text in say(priced(config)))
    judge["judge"] |= {"budget": 5.0, "price": (1, 2)}
    assert row(make(grpo={**GRPO, "reward": {"open": judge}}), "grpo").work.usd == 10.0
    asked = {
        "verb": "eval",
        "of": "rl",
        "set": {"base_url": "http://127.0.0.1:1/v1", "model": "m", "budget": 2.0, "price": [1, 2]},
    }
    sets = {"asked": asked, "own": {"verb": "curate", "of": "rl", "set": {"from_scores": "asked"}}}
    config = make(sets=sets, arms={"x": {"stage": "sft", "data": "own"}}, comparisons=[])
    work = row(config, "eval").work
    assert (work.calls, work.usd, work.generated) == (10, 2.0, 3 * 4 * 7)


def test_a_dry_run_without_the_files_names_them_and_prices(make, tmp_path, capsys):
    gone = {
        "base": "nobody/nothing",
        "board": tmp_path / "no.jsonl",
        "data": {"rl": tmp_path / "no-rl", "a": tmp_path / "no-a"},
    }
    assert not run(make(**gone), dry_run=True)
    said = capsys.readouterr().out
    assert "  grpo: 40 prompts, 120 rollouts, 20 optimiser steps\n" in said
    assert "  sft: unknown prompts, 0 rollouts, unknown optimiser steps\n" in said
    for text in ("board", "data rl", "data a", "base nobody/nothing: there is no such model folder"):
        assert f"missing: {text}" in said
    for text in ("rows of board", "rows of a", "disk: nobody/nothing is not here", "GPU hours: the plan states no"):
        assert f"unknown: {text}" in said
    stated = {"rows": {"board": 4, "a": 10}, "completion_tokens": 6, "billion_parameters": 2.0}
    config = make(**gone, throughput=stated)
    assert row(config, "sft").work.trained == 2 * 2 * 10 * 6 and row(config, "eval").work.rollouts == 20
    assert priced(config).disk == (pytest.approx(4 * 8), pytest.approx(24))
    assert not (tmp_path / "o").exists()


# ------------------------------------------------------------------------------------------------------- after the run


def test_an_arm_that_starts_at_an_export_is_charged_up_to_there(tmp_path):
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")}
    folder = synthetic_study.build(tmp_path / "study", seeds=(0,), items=30, arms=arms, steps=12)
    run_folder = folder / "arms/sft-hesitant/seed0/sft"
    before = read_json(run_folder / "done.json")["summary"]

    def spent():
        return {e.axis: e.value for e in efforts(load_study(folder), "sft-hesitant+grpo", "grpo")}

    whole = spent()
    described = read_json(folder / "study.json")
    described["arms"]["sft-hesitant+grpo"]["at"] = 3
    write_json(folder / "study.json", described)
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    write_jsonl(run_folder / "metrics.jsonl", [{**r, "seconds": 2.0, "tokens": 5} for r in rows])
    part = spent()
    own = {"optimiser_steps": 3, "prompts": before["prompts"] * 3 / before["optimiser_steps"], "rollouts": 0}
    own |= {"tokens_generated": 0, "tokens_trained": 15, "seconds": 6.0}
    for axis, key in AXES.items():
        if key in own:
            assert part[axis] == pytest.approx(whole[axis] - before[key] + own[key]), axis
