"""Whole SFT and GRPO runs on the pocket base: killed at any moment and started again, they end as if nothing happened."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from kills import build_world, finish, settings, start, torment

from seethink.core.run import read_log
from seethink.core.store import load_samples, save_samples
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder
from tests.tiny import tiny_reward_model


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.mark.slow
@pytest.mark.parametrize("verb", [pytest.param("sft", marks=pytest.mark.long), "grpo"])
def test_killed_runs_end_bit_identical(verb, tmp_path):
    result = torment(verb, tmp_path, kills=3, rng=random.Random(0))
    assert result["kills"] == 3 and not result["unequal"], result


@pytest.mark.slow
def test_grpo_tables_and_second_call(world, tmp_path):
    config = settings("grpo", world, tmp_path / "run")
    finish("grpo", config)
    rows = read_table(tmp_path / "run" / "rollouts.parquet")
    assert len(rows) == 6 * 6 * 4 and {r["round"] for r in rows} == set(range(1, 7))
    assert all(r["reward"] is None or 0 <= r["reward"] <= 1 for r in rows)
    for number in range(1, 7):
        for sample in {r["sample_id"] for r in rows if r["round"] == number}:
            group = [
                r for r in rows if r["round"] == number and r["sample_id"] == sample and r["advantage"] is not None
            ]
            assert abs(sum(r["advantage"] for r in group)) < 1e-3 and len(group) != 1
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    finish("grpo", config)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before
    changed = start("grpo", {**config, "seed": 5})
    output = changed.communicate(timeout=600)[0].decode()
    assert changed.returncode == 2 and "seed: 0 -> 5" in output


@pytest.mark.slow
def test_a_reward_model_scores_beside_the_policy(tmp_path):
    """Pictures are not for a text model, so its samples lose theirs: a question, an answer, a reference."""
    world = build_world(tmp_path / "world")
    samples = [replace(s, images=()) for s in load_samples(world / "rl_pool.jsonl") if s.kind == "open"]
    save_samples(tmp_path / "open.jsonl", samples)
    model = tiny_reward_model(tmp_path / "rm")
    reward = {"open": {"scorer": "model", "path": model, "mode": "sigmoid"}}
    changes = {"data": str(tmp_path / "open.jsonl"), "reward": reward, "rounds": 4}
    result = torment("grpo", tmp_path, kills=1, rng=random.Random(0), **changes)
    assert not result["unequal"], result
    config, of_id = RewardConfig(**reward), {s.id: s for s in samples}
    with Rewarder(config) as rewarder:
        for row in read_table(tmp_path / "whole" / "rollouts.parquet"):
            alone = rewarder.score(of_id[row["sample_id"]], row["text"])
            assert row["status"] == alone.status and row["reward"] == pytest.approx(alone.value, abs=1e-4)
        answers = [compose("so", s.gold) for s in samples]  # each as an answer to the first question
        values = [r.value for r in rewarder.score_batch([samples[0]] * len(samples), answers)]
    assert values[0] == 0.5 and min(abs(a - b) for a, b in combinations(values, 2)) > 1e-3
    log = read_log(tmp_path / "whole" / "metrics.jsonl")
    assert all(0 < metrics["seconds/reward"] < metrics["seconds/rollout"] for metrics in log)
    assert log[0]["seconds/reward_transfer"] == 0 == log[0]["scorer/on_cpu"], "it lives where it scores"
