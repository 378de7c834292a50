"""Whole SFT and GRPO runs on the pocket base: killed at any moment and started again, they end as if nothing happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from seethink.core.run import read_log
from seethink.core.store import load_samples, read_json, read_table, save_examples, write_json
from seethink.core.tags import compose
from seethink.core.types import Example

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
TIMES = {"cpu_seconds", "seconds", "seconds/rollout", "tokens_per_s", "memory_gb"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    from seethink.pocket.build import build

    out = tmp_path_factory.mktemp("world")
    build(out, seed=7, sft=40, rl=40, board=0, ood=0)
    samples = load_samples(out / "sft_pool.jsonl")
    save_examples(out / "sft.jsonl", [Example(s, compose("let me look .", s.gold)) for s in samples])
    return out


def settings(verb: str, world: Path, out: Path) -> dict:
    shared = {"out": str(out), "model": {"path": str(BASE), "dtype": "float32"}, "save_every": 2}
    if verb == "sft":
        return {**shared, "data": str(world / "sft.jsonl"), "epochs": 2, "batch_size": 8, "optim": {"lr": 5e-4}}
    grpo = {"steps": 6, "prompts": 6, "update_prompts": 3, "group": 4, "max_tokens": 24, "temperature": 1.0}
    return {
        **shared,
        "data": str(world / "rl_pool.jsonl"),
        **grpo,
        "optim": {"lr": 1e-4},
        "reward": {"scorer": "lexical"},
    }


def start(verb: str, config: dict) -> subprocess.Popen:
    file = Path(config["out"]).with_suffix(".json")
    write_json(file, config)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "seethink", verb, f"@{file}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(verb: str, config: dict) -> None:
    child = start(verb, config)
    output = child.communicate(timeout=300)[0].decode()
    assert child.returncode == 0, output


def logged(out: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_log(out / "metrics.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["sft", "grpo"])
def test_killed_runs_end_bit_identical(verb, world, tmp_path):
    whole = settings(verb, world, tmp_path / "whole")
    began = time.monotonic()
    finish(verb, whole)
    duration = time.monotonic() - began
    killed = settings(verb, world, tmp_path / "killed")
    rng = random.Random(0)
    for _ in range(3):
        child = start(verb, killed)
        time.sleep(rng.uniform(0.4, 1.0) * duration)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    finish(verb, killed)
    ours, theirs = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("killed", "whole"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")
    same = {k: v for k, v in read_json(tmp_path / "whole" / "done.json")["summary"].items() if k not in TIMES}
    assert {k: v for k, v in read_json(tmp_path / "killed" / "done.json")["summary"].items() if k not in TIMES} == same
    assert not list((tmp_path / "killed").glob("*.tmp")) and not (tmp_path / "killed" / "checkpoint").exists()


@pytest.mark.slow
def test_grpo_tables_and_second_call(world, tmp_path):
    config = settings("grpo", world, tmp_path / "run")
    finish("grpo", config)
    rows = read_table(tmp_path / "run" / "rollouts.parquet")
    assert len(rows) == 6 * 6 * 4 and {r["step"] for r in rows} == set(range(1, 7))
    assert all(r["reward"] is None or 0 <= r["reward"] <= 1 for r in rows)
    for step in range(1, 7):
        for sample in {r["sample_id"] for r in rows if r["step"] == step}:
            group = [r for r in rows if r["step"] == step and r["sample_id"] == sample and r["advantage"] is not None]
            assert abs(sum(r["advantage"] for r in group)) < 1e-3 and len(group) != 1
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    finish("grpo", config)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before
    changed = start("grpo", {**config, "seed": 5})
    output = changed.communicate(timeout=120)[0].decode()
    assert changed.returncode == 2 and "seed: 0 -> 5" in output
