"""Evaluation and exports on the way change nothing of a training, and say what an evaluation of the model would say."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kills import BASE, build_world, settings, untimed

from seethink.cli import main
from seethink.core.run import read_log
from seethink.core.store import hash_file, load_samples, read_json, save_samples, write_json
from seethink.data.behind import data_behind
from seethink.train import grpo, sft
from seethink.train.config import GRPOConfig
from seethink.train.watch import HeldOutAnswer, Watch, held_out, held_out_metrics

ROOT = Path(__file__).parents[1]
TRAINERS = {"sft": sft, "grpo": grpo}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A training set, and ten held-out samples of which two stand in it under other ids."""
    folder = build_world(tmp_path_factory.mktemp("world"))
    pool = load_samples(folder / "rl_pool.jsonl")
    save_samples(folder / "explored.jsonl", pool[:12])
    imitated = [replace(s, id=f"again-{s.id}") for s in load_samples(folder / "sft_pool.jsonl")[:2]]
    explored = [replace(s, id=f"again-{s.id}") for s in pool[:2]]
    save_samples(folder / "held_out_of_sft.jsonl", [*pool[12:20], *imitated])
    save_samples(folder / "held_out_of_grpo.jsonl", [*pool[12:20], *explored])
    return folder


def config_of(verb: str, world: Path, out: Path, watched: bool = True, **changes) -> Path:
    """The file of a run of four steps or rounds, looked at every third, exported after every second."""
    config = settings(verb, world, out)
    config |= {"epochs": 32 / 36} if verb == "sft" else {"data": str(world / "explored.jsonl"), "rounds": 4}
    config["optim"] |= {"lr_floor": 1e-4}  # so that the last step changes something
    if watched:
        watch = {"data": str(world / f"held_out_of_{verb}.jsonl"), "every": 3, "max_tokens": 24, "rows": 4}
        config |= {"watch": watch, "export_every": 2}
    write_json(out.with_suffix(".json"), config | changes)
    return out.with_suffix(".json")


def train(verb: str, config: Path) -> Path:
    assert main([verb, f"@{config}"]) == 0
    return config.with_suffix("")


def weights(model: Path) -> str:
    return hash_file(model / "model.safetensors")


@pytest.fixture(scope="module", params=TRAINERS)
def runs(request, world, tmp_path_factory) -> tuple[str, Path, Path]:
    """(verb, run that nobody looked at, run that was watched)"""
    folder, verb = tmp_path_factory.mktemp(request.param), request.param
    plain = train(verb, config_of(verb, world, folder / "plain", watched=False))
    return verb, plain, train(verb, config_of(verb, world, folder / "watched"))


def test_training_does_not_notice(runs):
    verb, plain, watched = runs
    assert weights(plain / "model") == weights(watched / "model")
    rows = [
        [{k: v for k, v in untimed(row).items() if not k.startswith("held_out/")} for row in read_log(run / "metrics.jsonl")]
        for run in (plain, watched)
    ]  # fmt: skip
    assert rows[0] == rows[1][1:] and len(rows[0]) == 4 and set(rows[1][0]) == {"round" if verb == "grpo" else "step"}
    a, b = (untimed(read_json(run / "done.json")["summary"]) for run in (plain, watched))
    assert a.pop("exports") == [] and len(b.pop("exports")) == 2 and a == b


def test_rows_are_measured_before_the_first_at_every_third_and_after_the_last(runs):
    verb, _, watched = runs
    rows = read_log(watched / "metrics.jsonl")
    unit = "round" if verb == "grpo" else "step"
    assert [row[unit] for row in rows if "held_out/accuracy" in row] == [0, 3, 4]
    kinds = {sample.kind for sample in load_samples(Path(read_json(watched / "config.json")["watch"]["data"]))}
    for row in (rows[0], rows[3], rows[4]):
        assert kinds == {key.rpartition("/")[2] for key in row if key.startswith("held_out/decided/")}
        assert row["held_out/decided"] == sum(row[f"held_out/decided/{kind}"] for kind in kinds) == 10
        right = sum(row[f"held_out/{kind}"] * row[f"held_out/decided/{kind}"] for kind in kinds)
        assert row["held_out/accuracy"] == pytest.approx(right / 10) and row["seconds/held_out"] > 0
    summary = read_json(watched / "done.json")["summary"]
    assert summary["seconds_held_out"] == pytest.approx(sum(row.get("seconds/held_out", 0) for row in rows))
    assert summary["seconds"] == pytest.approx(sum(row.get("seconds", 0) for row in rows)), "counted apart"
    assert summary["optimiser_steps"] == (8 if verb == "grpo" else 4)


def test_an_evaluation_of_the_model_agrees(runs, tmp_path):
    _, _, watched = runs
    last = read_log(watched / "metrics.jsonl")[-1]
    data = read_json(watched / "config.json")["watch"]["data"]
    arguments = ["--model", watched / "model", "--data", data, "--max_tokens", 24, "--dtype", "float32"]
    assert main(["eval", "--out", str(tmp_path / "eval"), *map(str, arguments)]) == 0
    summary = read_json(tmp_path / "eval" / "done.json")["summary"]
    assert (summary["accuracy"], summary["n"]) == (pytest.approx(last["held_out/accuracy"]), 10)


def test_exports_are_models_as_the_last_one_is(runs):
    verb, _, watched = runs
    name = "round-00000{}" if verb == "grpo" else "step-00000{}"
    exports = read_json(watched / "done.json")["summary"]["exports"]
    assert exports == [f"exports/{name.format(2)}", f"exports/{name.format(4)}"]
    assert {p.name for p in (watched / "exports").iterdir()} == {name.format(2), name.format(4)}
    files = [{p.name: hash_file(p) for p in folder.iterdir()} for folder in (watched / exports[1], watched / "model")]
    assert files[0] == files[1]
    assert weights(watched / exports[0]) != weights(watched / "model")
    assert list(data_behind(watched / exports[0])) == list(data_behind(watched / "model")) != []


def test_held_out_samples_in_the_training_data_are_named(runs):
    (text,) = [r["text"] for r in read_log(runs[2] / "alarms.jsonl") if r["alarm"] == "held_out_in_data"]
    assert text.startswith("2 of 10 held-out samples stand in the training data")


@pytest.mark.parametrize("moment", [0, 1, 2], ids=["before the first", "in the middle", "after the last"])
def test_a_run_that_was_killed_while_looked_at_ends_as_if_nothing_happened(runs, world, moment, tmp_path, monkeypatch):
    verb, _, watched = runs
    calls, whole = iter(range(9)), Watch.evaluate

    def killed(self):
        if next(calls) == moment:
            raise KeyboardInterrupt
        return whole(self)

    config = config_of(verb, world, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "evaluate", killed)
        assert main([verb, f"@{config}"]) == 130
    run = train(verb, config)
    assert [untimed(r) for r in read_log(run / "metrics.jsonl")] == [
        untimed(r) for r in read_log(watched / "metrics.jsonl")
    ]
    for name in ("model", *read_json(watched / "done.json")["summary"]["exports"]):
        assert weights(run / name) == weights(watched / name)


def test_accuracy_means_the_same_whatever_the_training_pays(world, runs, tmp_path):
    """A placebo, as every reward that is scaled for an ablation, is what is paid, not what is right."""
    verb, _, watched = runs
    if verb == "sft":
        pytest.skip("there training pays nothing")
    before = read_log(watched / "metrics.jsonl")[0]
    for name, reward, expected in (("none", {"placebo": "none"}, 0.0), ("half", {"kind_scale": dict.fromkeys(("digit", "open", "math", "box", "choice"), 0.5)}, before["held_out/reward"] / 2)):  # fmt: skip
        row = read_log(
            train("grpo", config_of("grpo", world, tmp_path / name, rounds=1, reward=reward)) / "metrics.jsonl"
        )[0]
        assert row["held_out/reward"] == pytest.approx(expected)
        assert {k: v for k, v in row.items() if "reward" not in k and "seconds" not in k} == {
            k: v for k, v in before.items() if "reward" not in k and "seconds" not in k
        }


def test_a_spike_on_a_step_that_is_looked_at_leaves_an_evaluation(world, tmp_path, monkeypatch):
    """Step three is taken back: what is measured and exported there is the model as it then is."""
    losses = iter([2.0, 2.0, float("nan"), 2.0])
    backward = sft.backward
    monkeypatch.setattr(sft, "backward", lambda *a: (backward(*a), next(losses))[1])
    run = train("sft", config_of("sft", world, tmp_path / "run"))
    rows = read_log(run / "metrics.jsonl")
    assert [("loss" in row, "held_out/accuracy" in row) for row in rows] == [
        (False, True), (True, False), (True, False), (False, True), (True, True),
    ]  # fmt: skip
    assert read_json(run / "done.json")["summary"]["optimiser_steps"] == 3
    assert [r["alarm"] for r in read_log(run / "alarms.jsonl")] == ["held_out_in_data", "loss_spike_3"]


def test_faults_in_held_out_rows_are_told_before_there_is_a_folder(world, tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "x", "question": "?", "gold": "1", "kind": "digit", "images": ["gone.png"]}\n')
    config = config_of("grpo", world, tmp_path / "run", watch={"data": str(bad)}, skip_bad=True)
    assert main(["grpo", f"@{config}"]) == 2 and f"{bad}:1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_held_out_set_is_another_run(runs, world, tmp_path, capsys):
    verb, _, watched = runs
    other = tmp_path / "other.jsonl"
    save_samples(other, load_samples(world / "held_out_of_sft.jsonl")[:3])
    config = read_json(watched / "config.json")
    write_json(tmp_path / "c.json", {**config, "watch": {**config["watch"], "data": str(other)}})
    assert main([verb, f"@{tmp_path / 'c.json'}"]) == 2 and "watch.data" in capsys.readouterr().err


def test_settings_of_an_evaluation_that_never_happens_are_refused(world, tmp_path, capsys):
    for verb, watch, name in (("grpo", {"every": 5}, "every"), ("sft", {"reward": {"format_bonus": 0.1}}, "reward")):
        config = config_of(verb, world, tmp_path / verb, watch=watch)
        assert main([verb, f"@{config}"]) == 2 and f"watch.{name} without watch.data" in capsys.readouterr().err
        assert not (tmp_path / verb).exists()


def test_a_limit_draws_the_same_samples_in_every_run_of_all_kinds(world):
    config = GRPOConfig(out="x", data="y", model={"path": BASE}, watch={"data": world / "rl_pool.jsonl", "limit": 8})
    few = [s.id for s in held_out(config)]
    assert few == [s.id for s in held_out(config.model_copy(update={"seed": 5}))] and len(few) == 8
    every = [s.id for s in load_samples(world / "rl_pool.jsonl")]
    assert few == sorted(few, key=every.index) and few != every[:8]


def test_what_is_not_decided_is_not_counted():
    answers = [
        HeldOutAnswer("digit", True, 1.0, False), HeldOutAnswer("digit", None, None, True), HeldOutAnswer("box", None, None, False),
        HeldOutAnswer("math", False, 0.5, False),
    ]  # fmt: skip
    assert held_out_metrics(answers) == {
        "held_out/accuracy": 0.5, "held_out/reward": 0.75, "held_out/cut_share": 0.25, "held_out/decided": 2, "held_out/digit": 1.0,
        "held_out/decided/digit": 1, "held_out/box": None, "held_out/decided/box": 0, "held_out/math": 0.0, "held_out/decided/math": 1,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_share_the_answers(runs, world, tmp_path):
    """They answer as one does, train as if nobody looked, and export what they end with."""
    verb, _, watched = runs
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name, looked_at in (("plain", False), ("seen", True)):
        config = config_of(verb, world, tmp_path / name, watched=looked_at, device="cpu", gpus=2)
        command = [sys.executable, "-m", "seethink", verb, f"@{config}"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "plain/model") == weights(tmp_path / "seen/model")
    alone, together = (read_log(run / "metrics.jsonl") for run in (watched, tmp_path / "seen"))
    assert untimed(together[0]) == untimed(alone[0]) and len(together) == len(alone)
    assert [row.get("held_out/decided") for row in together] == [10, None, None, 10, 10]
    last = read_json(tmp_path / "seen" / "done.json")["summary"]["exports"][-1]
    assert weights(tmp_path / "seen" / last) == weights(tmp_path / "seen/model")
