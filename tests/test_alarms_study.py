"""Every alarm of a study fires on a study made for it, and stays silent on a healthy one."""

from __future__ import annotations

from pathlib import Path

import pytest

from seethink.core.alarms import raised
from seethink.core.store import read_json, read_jsonl, write_json, write_jsonl
from seethink.core.tables import read_table, write_table
from seethink.study.alarms import STUDY_RULES, Findings, study_alarms
from seethink.study.folder import load_study
from seethink.study.results import contrasts
from tests import synthetic_study
from tests.synthetic_study import ARMS

EXPLORING = ("base", "grpo")
BOTH = ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")


def built(folder: Path, arms: tuple[str, ...]) -> Path:
    return synthetic_study.build(folder / "study", items=40, arms={name: ARMS[name] for name in arms}, steps=12)


def rescored(folder: Path, arm: str, **changes: object) -> None:
    for path in folder.glob(f"arms/{arm}/*/eval/scores.parquet"):
        write_table(path, [{**row, **changes} for row in read_table(path)])


def remeasured(folder: Path, **changes: object) -> None:
    for path in folder.glob("arms/grpo/*/grpo/metrics.jsonl"):
        write_jsonl(path, [{**row, **changes} for _, row in read_jsonl(path)])


def board_leaks(folder: Path) -> None:
    write_json(folder / "study.json", {**read_json(folder / "study.json"), "board_in_data": {"rl": 3}})


def same_questions(folder: Path) -> None:
    """Both arms explore the same data, so that one may stand beside the other."""
    plan = read_json(folder / "study.json")
    for arm in ("grpo", "sft-hesitant+grpo"):
        plan["arms"][arm]["data"] = "rl"
    write_json(folder / "study.json", plan)


def reward_alone_rises(folder: Path) -> None:
    """Rewards climb, and every answer is right where that of the base is, in other words."""
    (base,) = folder.glob("arms/base/*/eval/scores.parquet")
    right = {row["sample_id"]: row["ok"] for row in read_table(base)}
    for path in folder.glob("arms/grpo/*/eval/scores.parquet"):
        write_table(path, [{**row, "ok": right[row["sample_id"]]} for row in read_table(path)])
    for path in folder.glob("arms/grpo/*/grpo/metrics.jsonl"):
        write_jsonl(path, [{**row, "reward/mean": 0.3 + 0.02 * row["round"]} for _, row in read_jsonl(path)])


CASES = {
    "learned_nothing grpo": (EXPLORING, lambda f: remeasured(f, **{"groups/zero_spread": 1.0}), "no group had a spread"),
    "cut_in_training grpo": (EXPLORING, lambda f: remeasured(f, **{"completion/cut_share": 1.0}), "every completion was cut"),
    "all_cut grpo": (EXPLORING, lambda f: rescored(f, "grpo", stop="length"), "every answer of grpo was cut at max_tokens"),
    "undecided grpo": (EXPLORING, lambda f: rescored(f, "grpo", ok=None), "no answer of grpo is decided"),
    "at_the_edge grpo": (EXPLORING, lambda f: rescored(f, "grpo", ok=True), "grpo is at the ceiling: 100.0 % right"),
    "board_in_data rl": (EXPLORING, board_leaks, "3 of 40 board items stand in the training data rl"),
    "reward_without_accuracy grpo": (EXPLORING, reward_alone_rises, "training reward rose by 0.14, but held-out accuracy did not follow (+0.0"),
    "below_exploring sft-hesitant+grpo grpo": (
        BOTH, lambda f: rescored(f, "sft-hesitant+grpo", ok=False), "sft-hesitant+grpo is below grpo: imitating before exploring cost",
    ),
    "short_of_compute sft-hesitant+grpo": (BOTH, same_questions, "beside it (grpo spent 0."),
}  # fmt: skip
"""Alarm -> arms of the study, what is done to it, and words that it says then."""


def test_a_healthy_study_is_quiet(tmp_path):
    study = load_study(built(tmp_path, EXPLORING))
    assert study_alarms(study, contrasts(study)) == []


def test_every_alarm_of_the_table_has_a_case_here():
    assert {name.split()[0] for name in CASES} == {rule.name.split()[0] for rule in STUDY_RULES}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(name, tmp_path):
    arms, spoil, words = CASES[name]
    folder = built(tmp_path, arms)
    study = load_study(folder)
    before = set(raised(STUDY_RULES, Findings(study, contrasts(study)), "report"))
    spoil(folder)
    study = load_study(folder)
    found = raised(STUDY_RULES, Findings(study, contrasts(study)), "report")
    assert words in found[name]
    as_well = {
        f"{rule} sft-hesitant+grpo" for rule in ("at_the_edge", "reward_without_accuracy")
    }  # nothing is right there
    assert set(found) - before - (as_well if name.startswith("below") else set()) == {name} - before
