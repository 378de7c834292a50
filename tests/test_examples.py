"""The examples run, and say what they are there to show."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from seethink import cli

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("score_one_answer.py", ["Reward(value=1.0, status='ok'", "0.0 ambiguous", "0.0 no_format"]),
        ("own_reward.py", ["7:30 1.0 ok 0 minutes away", "7:45 0.75 ok", "half past 0.0 malformed", "two 1.0 ok"]),
        ("own_reward_model.py", ["a green bottle 0.5", "glasses and a green bottle 0.75", "nothing at all 0.0"]),
    ],
)
def test_scripts_run(capsys, name, expected):
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    assert all(text in printed for text in expected), printed


def test_an_arm_of_your_own_is_lines_of_toml(capsys, tmp_path):
    plan = EXAMPLES.parent / "seethink" / "pocket" / "study.toml"
    assert (
        cli.main(["study", f"@{plan}", f"@{EXAMPLES / 'own_arm.toml'}", "--out", str(tmp_path / "o"), "--dry-run"]) == 0
    )
    printed = capsys.readouterr().out
    assert "grpo-std" in printed and "sft-hesitant" in printed and not (tmp_path / "o").exists()
