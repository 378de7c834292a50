"""Whole verbs on a device that only pretends: no tensor is on the wrong side, and how often a program waits is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROUNDS = {"rounds": 2}


def run(verb: str, way: str, **changes) -> tuple[Counter, list[dict]]:
    """(file of ours -> how often it waited, rows of metrics.jsonl)"""
    command = [sys.executable, "-m", "tests.pretended_run", verb, json.dumps(changes), way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    waits: Counter = Counter()
    for place, times in found["waits"].items():
        waits[place.partition(":")[0]] += times
    return waits, found["rows"]


def test_grpo_waits_once_a_token_and_a_constant_number_of_times_an_update():
    waits, rows = run("grpo", "flex", **ROUNDS)
    longest, steps = 24, 2
    assert waits["sampler.py"] <= ROUNDS["rounds"] * (longest + 15), waits  # rows leave a few times, the end is read
    assert waits["update.py"] <= ROUNDS["rounds"], waits
    assert waits["optimiser.py"] <= ROUNDS["rounds"] * steps, waits
    assert not waits["loss.py"] + waits["pack.py"] + waits["flex.py"] + waits["prefix.py"], waits
    _, plain = run("grpo", "cpu", **ROUNDS)
    for ours, theirs in zip(rows, plain, strict=True):
        same = ("loss", "kl", "grad_norm", "reward/mean", "completion/length")
        assert {name: ours[name] for name in same} == pytest.approx(
            {name: theirs[name] for name in same}, rel=1e-3, abs=1e-6
        )


def test_so_does_sft_however_many_micro_batches_it_takes():
    found = [run("sft", "flex", epochs=0.4, micro_tokens=tokens)[0] for tokens in (100, 16384)]
    for waits in found:
        assert waits["sft.py"] + waits["optimiser.py"] <= 2 * 2 and not waits["loss.py"] + waits["pack.py"], waits
