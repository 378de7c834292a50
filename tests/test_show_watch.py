"""`seethink watch`: what is seen of a run that is being written, and that looking disturbs nothing."""

from __future__ import annotations

import json
import threading
import time

import pytest
from rich.cells import cell_len

from seethink import cli
from seethink.core.run import Run
from seethink.show.watch import curve, look, over
from tests.test_core import settings

HOSTILE = "\x1b[2J\x1b]0;owned\x07<think>\u202eevil</think>"


def rollout(n: int, sample: str, reward: float | None, text: str = "some text") -> dict:
    return {"round": n, "sample_id": sample, "group": 0, "text": text, "tokens": 3, "reward": reward, "status": "ok"}


@pytest.fixture
def running(tmp_path):
    """A GRPO run in its third round, held open as its process would."""
    with Run.open(tmp_path / "run", "grpo", settings(tmp_path), {}, unit="round") as folder:
        for n in (1, 2, 3):
            folder.log(n, **{"reward/mean": n / 10, "entropy": 1.5, "loss": float("nan")})
            worst = HOSTILE if n == 3 else "early"
            folder.write_rows("rollouts.jsonl", [rollout(n, "a", 0.5), rollout(n, "a", 0.5), rollout(n, "b", 1.0)])
            folder.write_rows("rollouts.jsonl", [rollout(n, "b", 0.0, worst), rollout(n, "c", None, "undecided one")])
        folder.alarm("reward", "the reward does not move", 2)
        yield folder


def test_a_running_run_is_seen_with_its_curves_alarms_and_last_completions(running, capsys):
    assert cli.main(["watch", str(running.folder), "--once", "--width", "140"]) == 0
    printed = capsys.readouterr().out
    assert "grpo" in printed and "running, round 3" in printed
    line = next(line for line in printed.splitlines() if line.startswith("reward/mean"))
    assert "▁▄█" in line and "0.3" in line and "0.1 to 0.3" in line
    assert "loss" not in printed, "a curve without a number is no curve"
    assert "! round 2: the reward does not move" in printed
    assert (
        "b: reward 1" in printed and "b: reward 0" in printed and "a: reward" not in printed and "early" not in printed
    )


def test_text_of_a_model_steers_no_terminal(running, capsys):
    cli.main(["watch", str(running.folder), "--once", "--width", "140"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\u202e" not in printed and "owned" not in printed and "evil" in printed


WIDE_TEXT = "数一数图中的球 😀👩‍👩‍👧 עברית وعربي \x1b[5;1H\x9b31m 漢字" * 20


@pytest.mark.parametrize("width", [60, 100, 140])
def test_every_line_fits_whatever_a_model_writes(running, capsys, width):
    for n in range(4, 90):
        running.log(n, **{"reward/mean": n / 100, "completion/cut_share": 1e-7 * n, "held_out/accuracy": None})
    running.write_rows(
        "rollouts.jsonl", [rollout(90, "漢" * 50, 1.0, WIDE_TEXT), rollout(90, "漢" * 50, 0.0, WIDE_TEXT)]
    )
    running.alarm("long", "x " * 100, 90)
    assert cli.main(["watch", str(running.folder), "--once", "--width", str(width)]) == 0
    printed = capsys.readouterr().out
    assert max(map(cell_len, printed.splitlines())) <= width and "\x1b" not in printed and "\x9b" not in printed
    curves = [line for line in printed.splitlines() if line.startswith(("reward/mean", "completion/cut_share"))]
    assert len(curves) == 2 and all("▁" in line for line in curves), "a curve is one line"
    assert ("0.04 to 0.89" in printed) == (width >= 80)


def test_a_run_of_another_verb_has_no_curves_and_says_so(tmp_path, capsys):
    with Run.open(tmp_path / "run", "eval", settings(tmp_path), {}) as folder:
        folder.alarm("subset", "five items", None)
        folder.finish()
    (tmp_path / "run/report.html").write_text("")
    assert cli.main(["watch", str(tmp_path / "run"), "--once", "--width", "200"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"eval {tmp_path}/run: finished" and printed[1] == "! five items"
    assert printed[2].startswith("curves are those of sft and grpo; ") and "report.html has the numbers" in printed[2]


def test_a_study_says_how_many_stages_are_where(running, tmp_path, capsys):
    study = tmp_path / "study"
    (study / "arms/a/seed0").mkdir(parents=True)
    running.folder.rename(study / "arms/a/seed0/grpo")
    (study / "study.json").write_text(json.dumps({"commands": ["one", "two", "three"]}))
    assert cli.main(["watch", str(study), "--once", "--width", "300"]) == 0
    assert capsys.readouterr().out.startswith(f"study {study}: 0 of 3 stages finished, 1 running\n")


def test_looking_takes_no_lock_and_writes_nothing(running):
    before = {path.name: path.stat().st_mtime_ns for path in running.folder.iterdir()}
    seen = look(running.folder)
    assert seen.state == "running" and not over(running.folder)
    assert {path.name: path.stat().st_mtime_ns for path in running.folder.iterdir()} == before


def test_a_half_written_row_waits(running):
    with open(running.folder / "rollouts.jsonl", "a") as file:
        file.write(json.dumps(rollout(4, "d", 1.0))[:20])
    assert {row["round"] for row in look(running.folder).last} == {3}


def test_it_ends_with_the_run(running, capsys):
    """Another thread finishes the run while the watch is looking."""
    ends = threading.Timer(0.5, running.finish)
    ends.start()
    start = time.monotonic()
    assert cli.main(["watch", str(running.folder), "--every", "0.2", "--json"]) == 0
    ends.join()
    state = json.loads(capsys.readouterr().out)[str(running.folder)]
    assert state["state"] == "finished" and state["reward/mean"] == 0.3 and time.monotonic() - start < 30


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert cli.main(["watch", str(tmp_path)]) == 2
    assert "no run and no study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([1.0], "▁"), ([2.0, 2.0], "▁▁"), ([0, 7, 3.5], "▁█▄"), ([0] * 40 + [7] * 40, "▁" * 20 + "█" * 20)],
)
def test_a_curve_is_a_line_of_bars(values, drawn):
    assert curve(values) == drawn
