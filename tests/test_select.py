"""Perplexity ranking: equal to the stock forward, subsets nested, a killed run ends as if nothing had happened."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from seethink import cli
from seethink.core.nouns import Example
from seethink.core.run import read_log
from seethink.core.store import load_examples, load_samples, read_json, save_examples, write_json
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.study.sets import made_file
from seethink.train.config import SelectConfig
from seethink.train.model.saving import save_policy
from seethink.train.select import cut, mean_perplexity, run
from seethink.train.sft import encode
from tests.tiny import plain_policy, stock_log_probs

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Forty examples with pictures and a second model: the base with noise on its weights."""
    from seethink.pocket.build import build

    out = tmp_path_factory.mktemp("select")
    build(out, seed=3, sft=40, rl=0, board=0, ood=0)
    samples = load_samples(out / "sft_pool.jsonl")
    words = [
        "let me look .",
        "one , two , three .",
        "the red square is left of the blue circle . wait , let me check .",
    ]
    save_examples(out / "sft.jsonl", [Example(s, compose(words[i % 3], s.gold)) for i, s in enumerate(samples)])
    policy = plain_policy(BASE)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += 0.05 * parameter.std() * torch.randn_like(parameter)
    save_policy(policy, out / "other")
    return out


def settings(folder: Path, out: Path, **more) -> SelectConfig:
    shared = dict(data=folder / "sft.jsonl", models=(BASE, folder / "other"), dtype="float32", micro_tokens=400)
    return SelectConfig(out=out, **{**shared, **more})


def test_ranking_equals_the_stock_forward_and_subsets_are_nested(folder, tmp_path):
    run(settings(folder, tmp_path / "run", sizes=(20, 8, 3)))
    table = {r["id"]: r for r in read_table(tmp_path / "run" / "ranking.parquet")}
    examples = load_examples(folder / "sft.jsonl")
    assert set(table) == {e.sample.id for e in examples}
    for number, path in enumerate((BASE, folder / "other"), 1):
        policy, stock = (
            plain_policy(path),
            AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32),
        )
        for example in examples[::8]:
            encoded = encode(policy, example)
            with torch.no_grad():
                theirs = -stock_log_probs(stock, encoded.prompt, encoded.completion, banned=policy.banned.tolist())
            row = table[example.sample.id]
            assert row[f"nll_{number}"] == pytest.approx(float(theirs.mean()), abs=1e-5)
            assert row[f"tokens_{number}"] == len(theirs)
    for row in table.values():
        assert row["perplexity"] == pytest.approx((math.exp(row["nll_1"]) + math.exp(row["nll_2"])) / 2)
    ranked = sorted(table.values(), key=lambda r: r["place"])
    assert [r["perplexity"] for r in ranked] == sorted((r["perplexity"] for r in ranked), reverse=True)
    subsets = [[e.sample.id for e in load_examples(tmp_path / "run" / f"highest-{n}.jsonl")] for n in (3, 8, 20)]
    assert set(subsets[0]) < set(subsets[1]) < set(subsets[2]) and [len(s) for s in subsets] == [3, 8, 20]
    assert set(subsets[1]) == {r["id"] for r in ranked[:8]}


def test_a_stage_of_a_study_is_one_file_at_a_known_place(folder, tmp_path):
    """Called as a study calls it, by a file of settings; the funnel of a set is that of the examples in it."""
    stage = {"data": str(folder / "sft.jsonl"), "models": [str(BASE)], "dtype": "float32", "micro_tokens": 800}
    stage |= {"sizes": [6], "choose": "lowest", "out": str(tmp_path / "set"), "overwrite": True}
    write_json(tmp_path / "stage.json", stage)
    file = made_file("select", tmp_path / "set", stage)
    for _ in range(2):
        assert cli.main(["select", f"@{tmp_path / 'stage.json'}"]) == 0
        chosen = load_examples(file)
        lowest = sorted(read_table(tmp_path / "set" / "ranking.parquet"), key=lambda r: -r["place"])[:6]
        assert {e.sample.id for e in chosen} == {r["id"] for r in lowest}
    rows = read_json(tmp_path / "set" / "funnel.json")
    assert {r["source"]: r["sft"] for r in rows if r["sft"]} == Counter(e.sample.source for e in chosen)
    assert sum(r["in"] for r in rows) == 40 and sum(sum(r["dropped"].values()) for r in rows) == 34


@pytest.mark.parametrize(("choose", "expected"), [("highest", [9, 8, 7]), ("lowest", [2, 1, 0]), ("middle", [6, 5, 4])])
def test_cuts_are_nested(choose, expected):
    order = list(range(9, -1, -1))
    assert cut(order, 3, choose) == expected
    for size in range(1, 10):
        assert set(cut(order, size, choose)) < set(cut(order, size + 1, choose))


def test_mean_perplexity_is_that_of_perplexities_and_never_overflows():
    assert mean_perplexity((0.0, math.log(3))) == pytest.approx(2.0)
    assert math.isfinite(mean_perplexity((5000.0,)))


@pytest.mark.slow
def test_a_run_that_is_killed_and_goes_on_in_two_processes_ends_bit_identical(folder, tmp_path):
    """Two blocks a model: what is left of the first model is for one process, of the second for both."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of several processes has them
    run(settings(folder, tmp_path / "whole", sizes=(5,)))
    torch.set_num_threads(threads)
    arguments = ["--data", folder / "sft.jsonl", "--models", BASE, folder / "other", "--dtype", "float32"]
    arguments += ["--micro_tokens", "400", "--sizes", "5", "--device", "cpu", "--out", tmp_path / "killed"]
    command = [sys.executable, "-m", "seethink", "select", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, cwd=ROOT, env=environment)
    scores = tmp_path / "killed" / "scores.jsonl"
    deadline = time.monotonic() + 600
    while not read_log(scores) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert 1 <= len(read_log(scores)) < 4 and not (tmp_path / "killed" / "done.json").exists()
    with open(scores, "a") as f:
        f.write('{"model": 0, "nll": [1.')  # as a kill in the middle of a line would leave it
    both = subprocess.run([*command, "--gpus", "2"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert both.returncode == 0 and both.stdout.count("select: ") == 1, both.stderr
    assert "--nproc-per-node 2 -m seethink select" in both.stderr
    tables = [read_table(tmp_path / name / "ranking.parquet") for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    assert len({(tmp_path / name / "highest-5.jsonl").read_bytes() for name in ("whole", "killed")}) == 1
    assert not scores.exists() and read_json(tmp_path / "killed" / "done.json")["summary"]["examples"] == 40


def test_bad_calls_and_dry_run(folder, tmp_path, capsys):
    call = ["select", "--data", str(folder / "sft.jsonl"), "--out", str(tmp_path / "run")]
    assert cli.main([*call, "--models", str(BASE), "--sizes", "10", "5", "--dry-run"]) == 0
    assert f"40 examples under {BASE}; subsets of the highest: 10, 5" in capsys.readouterr().out
    for arguments, message in (
        (["--models", str(BASE), "--sizes", "41"], "a subset of 41 from 40 examples"),
        (["--models", str(BASE), "--sizes", "0"], "greater than 0"),
        (["--models", str(tmp_path)], "model folder has no config.json"),
        ([], "models is required"),
    ):
        assert cli.main([*call, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
