"""docs/first-hour.md: its study is a plan that holds, and all of it can be followed word for word."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from seethink import cli
from seethink.core.store import read_json
from seethink.core.tables import read_table

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")


@pytest.fixture
def follow():
    spec = spec_from_file_location("follow", ROOT / "docs" / "follow.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder in which the page can be followed without its first section, which installs."""
    (tmp_path / "runs" / "first-hour").mkdir(parents=True)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program = tmp_path / "bin" / "seethink"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m seethink "$@"\n')
    program.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_a_section_that_fails_ends_it_with_its_code(follow, tmp_path):
    text = (
        "## one\n```sh\nsleep 30 &\necho a > a\n```\nand\n```sh\nexit 7\n```\n## words\n## two\n```sh\ntouch b\n```\n"
    )
    assert [name for name, _ in follow.sections(text)] == ["one", "two"]
    code, took = follow.follow(follow.sections(text), 20, tmp_path)
    assert code == 7 and list(took) == ["one"] and took["one"] < 10, "what runs in the background is not waited for"
    assert (tmp_path / "a").is_file() and not (tmp_path / "b").exists()


def test_what_takes_too_long_is_ended(follow, tmp_path):
    code, took = follow.follow([("slow", "sleep 30")], 0.5, tmp_path)
    assert code != 0 and sum(took.values()) < 10


def test_its_study_is_a_plan_that_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = ("--rl=8", "--board=8", "--sft=8", "--unseen=0", "--ood=0", "--old=0")
    assert cli.main(["pocket", "build", "--out", "world", *sizes]) == 0
    for name, made in {"train": "rl_pool", "test": "board", "runs/data/sft": "sft-pocket-r1-concise"}.items():
        (tmp_path / f"{name}.jsonl").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_text((tmp_path / "world" / f"{made}.jsonl").read_text())
    (plan,) = re.findall(r"(?sm)<<'TOML'\n(.*?)^TOML$", PAGE)
    (tmp_path / "mine.toml").write_text(plan)
    assert cli.main(["study", "@mine.toml", "--out", "runs/mine", "--dry-run"]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_the_page_can_be_followed(follow, checkout):
    code, took = follow.follow(follow.sections(PAGE)[1:], 1500, checkout)
    assert code == 0 and len(took) == 7
    runs = checkout / "runs" / "first-hour" / "runs"
    assert read_json(runs / "mine" / "study.json")["arms"] and (runs / "mine" / "report.html").is_file()
    rows = [row for row in read_table(runs / "base" / "scores.parquet")]
    boxes = [row for row in rows if row["kind"] == "box"]
    assert len(rows) == 160 and boxes and all(row["status"] in ("right", "wrong") for row in boxes), "in their frame"
    assert read_json(runs / "sft-grpo" / "compare.json")
