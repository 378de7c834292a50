"""The study: the plan refuses what it cannot compare, and a killed study ends with the tables of an undisturbed one."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.store import read_json
from seethink.core.tables import read_table
from seethink.pocket import study as pocket_study
from seethink.pocket.config import World
from seethink.study.check import check
from seethink.study.config import Arm, Prepare, Question, StudyConfig
from seethink.study.plan import describe, merge, plan
from seethink.study.run import run

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
TINY = [
    "--seeds", "[0]", "--prepare.settings.sft", "48", "--prepare.settings.examples", "16", "--prepare.settings.rl", "24", "--prepare.settings.board", "20", "--prepare.settings.ood", "4",
    "--grpo.rounds", "2", "--grpo.prompts", "4", "--grpo.update_prompts", "4", "--grpo.group", "4", "--grpo.max_tokens", "32",
    "--sft.epochs", "1", "--sft.batch_size", "8", "--eval.max_tokens", "48",
]  # fmt: skip


def config(tmp_path: Path, **changes) -> StudyConfig:
    for name in ("board", "rl", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
    arms = {"grpo": Arm(stage="grpo"), "sft": Arm(stage="sft", data="a"), "sft+grpo": Arm(stage="grpo", start="sft")}
    data = {"rl": tmp_path / "rl", "a": tmp_path / "a"}
    values = dict(out=tmp_path / "o", base=BASE, board=tmp_path / "board", data=data, arms=arms, seeds=[0, 1])
    return StudyConfig(**{**values, **changes})


def test_plan_differs_between_arms_only_in_what_an_arm_names(tmp_path):
    stages = {(s.arm, s.seed, s.name): s for s in plan(config(tmp_path, grpo={"rounds": 3}))}
    assert len(stages) == 1 + 2 * 3 * 2
    alone, after = stages["grpo", 1, "grpo"], stages["sft+grpo", 1, "grpo"]
    differing = {k for k in alone.settings if alone.settings[k] != after.settings[k]}
    assert differing == {"out", "model"} and after.settings["rounds"] == 3
    assert after.after == (stages["sft", 1, "sft"].out,)
    assert after.settings["model"]["path"] == str(stages["sft", 1, "sft"].out / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"x": Arm(stage="grpo", start="y")}}, "unknown arm 'y'"),
        ({"arms": {"x": Arm(stage="sft", data="zz")}}, "unknown data 'zz'"),
        ({"comparisons": [("grpo", "nothing")]}, "unknown arm 'nothing'"),
        ({"reference": "nothing"}, "reference: unknown arm 'nothing'"),
        ({"question": Question(comparisons=[("base", "grpo")])}, "base - grpo is not planned"),
        (
            {"comparisons": [("sft", "base")], "question": Question(comparisons=[("sft+grpo", "base")])},
            "question.comparisons: sft+grpo - base is not planned",
        ),
        ({"arms": {"x": Arm(stage="grpo", start="y"), "y": Arm(stage="grpo", start="x")}}, "starts from itself"),
        ({"base": Path("/nowhere")}, "/nowhere: there is no such model folder"),
        ({"base": Path()}, "the plan names no base"),
        ({"base": Path("nobody/nothing")}, "hf download nobody/nothing"),
        ({"board": Path()}, "the plan names no board"),
        ({"grpo": {"roundz": 3}}, "grpo: unknown config key 'roundz'. Did you mean rounds?"),
        ({"sft": {"optim": {"lr": -1}}}, "sft: optim.lr = -1"),
        ({"sft": {"data": "a"}}, "sft.data is not the plan's to say"),
        ({"grpo": {"seed": 7}}, "grpo.seed is not the plan's to say"),
        ({"arms": {"x": Arm(stage="grpo", set={"model": {"path": "m"}})}}, "arms.x.set.model.path is not the plan's"),
        ({"eval": {"base_url": "http://127.0.0.1:9"}}, "eval.base_url is not the plan's to say"),
        ({"eval": {"data": "other"}}, "eval.data is not the plan's to say"),
        ({"data": {"rl": Path("/nowhere"), "a": Path("/nowhere")}}, "/nowhere does not exist"),
    ],
)
def test_impossible_plans_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check(config(tmp_path, **changes))


def test_the_plan_says_what_is_compared_and_asked(tmp_path):
    described = describe(config(tmp_path, reference="grpo"), [])
    assert described["reference"] == "grpo"
    assert described["comparisons"] == [("sft", "grpo"), ("sft+grpo", "grpo")]
    assert described["question"]["comparisons"] == [("sft", "grpo")]
    pairs = [("sft", "base"), ("sft+grpo", "grpo")]
    asked = Question(text="Why?", comparisons=pairs[1:])
    described = describe(config(tmp_path, comparisons=pairs, question=asked), [])
    assert described["reference"] == "base" and described["comparisons"] == pairs
    assert described["question"]["text"] == "Why?" and described["question"]["comparisons"] == pairs[1:]


def test_the_pocket_plan_holds(tmp_path):
    """Its reference, question and comparisons name one another's arms; shown by a dry run, which writes nothing."""
    values = tomllib.loads((ROOT / "seethink/pocket/study.toml").read_text(encoding="utf-8"))
    assert not run(StudyConfig(**values, out=tmp_path / "o"), dry_run=True)
    assert not (tmp_path / "o").exists()


def make_nothing(plan: StudyConfig, dry_run: bool) -> StudyConfig:
    return plan


def test_a_dry_run_lists_what_is_to_make_and_to_run(tmp_path, capsys):
    made = Prepare(function="tests.test_study:make_nothing")
    board = tmp_path / "later.jsonl"
    assert not run(config(tmp_path, prepare=made, board=board), dry_run=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("to make the files of the plan by tests.test_study:make_nothing")
    assert sum(line.startswith("to run ") for line in printed) == 1 + 2 * 3 * 2
    with pytest.raises(UserError, match="does not exist"):
        run(config(tmp_path, board=board))
    assert not (tmp_path / "o").exists()


def make_late(plan: StudyConfig, dry_run: bool) -> StudyConfig:
    assert dry_run, "files were made for a plan that does not hold"
    return plan


def test_a_plan_that_does_not_hold_is_refused_before_its_files_are_made(tmp_path):
    broken = config(tmp_path, prepare=Prepare(function="tests.test_study:make_late"), grpo={"roundz": 3})
    with pytest.raises(UserError, match="roundz"):
        run(broken)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--prepare.settings.rl=100", ""),
        ("--prepare.settings.rll=100", "prepare.settings: unknown config key 'rll'. Did you mean rl?"),
        ("--prepare.settings.zzz=1", "Known keys: seed, sft, rl, board, unseen, ood, old, examples, teachers, shared"),
        ("--prepare.function=nowhere:make", "cannot be imported"),
        ("--reference=nothing", "Known: base, grpo, sft-hesitant"),
    ],
)
def test_the_command_line_reaches_the_pocket_study(tmp_path, capsys, flag, message):
    code = main(["study", "--out", str(tmp_path / "o"), "--dry-run", flag])
    assert code == (2 if message else 0) and message in capsys.readouterr().err


def test_merge_is_deep_and_later_wins():
    assert merge({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 3}}, {"d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def start(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "seethink", "study", "--out", str(out), *TINY]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(out: Path) -> str:
    child = start(out)
    output = child.communicate(timeout=3600)[0].decode()
    assert child.returncode == 0, output
    return output


def tables(out: Path) -> dict[str, list]:
    found = {}
    for path in sorted((out / "arms").rglob("scores.parquet")):
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_table(path)]
        found[str(path.relative_to(out))] = rows
    return found


def times(out: Path) -> dict[Path, int]:
    """When each result of an arm was written."""
    results = "done.json", "metrics.jsonl", "responses.jsonl", "scores.parquet"
    return {p: p.stat().st_mtime_ns for p in (out / "arms").rglob("*") if p.name in results}


@pytest.mark.slow
@pytest.mark.long
def test_killed_study_ends_with_the_same_tables(tmp_path):
    began = time.monotonic()
    finish(tmp_path / "whole")
    duration = time.monotonic() - began
    rng = random.Random(1)
    for _ in range(4):
        child = start(tmp_path / "killed")
        time.sleep(rng.uniform(0.1, 0.6) * duration)
        os.kill(child.pid, signal.SIGKILL)  # its children end with it
        child.communicate()
    finish(tmp_path / "killed")
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
    assert len(tables(tmp_path / "whole")) == 2 + 7
    assert (tmp_path / "killed" / "report.html").stat().st_size > 10_000
    written = times(tmp_path / "killed")
    finish(tmp_path / "killed")
    assert times(tmp_path / "killed") == written, "a finished study computes nothing again"
    assert read_json(tmp_path / "killed" / "study.json")["simulated"] is True


def test_the_files_of_the_pocket_world_are_made_once_and_again_when_one_is_gone(tmp_path, monkeypatch, capsys):
    """Questions share them, so each would wait for all teachers."""
    asked: list[str] = []

    monkeypatch.setattr(pocket_study.pipeline, "run", lambda settings: asked.append(settings.out.name))
    monkeypatch.setattr(pocket_study, "load_kept", lambda path: [])
    sizes = {name: 5 for name in ("sft", "rl", "board")} | {name: 0 for name in ("unseen", "ood", "old")}
    world = World(**sizes, teachers={"concise": "pocket-r1-concise", "false": "pocket-r1-false", "glance": ""})
    for _ in range(2):
        pocket_study.make_files(tmp_path, world)
        assert "0 questions were kept" in capsys.readouterr().out, "said again where nothing is made"
    assert asked == ["concise", "false"]
    (tmp_path / "data" / "false.jsonl").unlink()
    pocket_study.make_files(tmp_path, world)
    assert asked == ["concise", "false"] * 2
    pocket_study.make_files(tmp_path, world.model_copy(update={"seed": 1}))
    assert asked == ["concise", "false"] * 3
    elsewhere = [pocket_study.home_of(tmp_path / "o", World(shared=True, seed=seed)) for seed in (0, 1)]
    assert pocket_study.home_of(tmp_path / "o", world) == tmp_path / "o" and elsewhere[0] != elsewhere[1]
    assert {path.parent for path in elsewhere} == {tmp_path / "pocket-worlds"}
