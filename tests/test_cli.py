"""What a person sees: help, suggestions, one clear line for bad input, exit codes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from seethink import cli
from seethink.core.config import describe, resolve
from seethink.core.shipped import SHIPPED

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"


def call(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_usage_lists_every_verb(capsys):
    code, text = call(capsys)
    assert code == 0 and all(verb in text for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["grppo"], 2, "unknown verb 'grppo'. Did you mean grpo?"),
        (
            ["grpo", "--out", "x", "--data", "y", "--model.path", "z", "--lr", "1"],
            2,
            "unknown config key 'lr'. Did you mean optim.lr?",
        ),
        (["grpo", "--out", "x"], 2, "data is required"),
        (["sft", "--out", "x", "--data", "missing.jsonl", "--model.path", "z"], 2, "missing.jsonl: file not found"),
        (["pocket", "biuld"], 2, "seethink pocket needs one of"),
    ],
)
def test_bad_calls(capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    actual, text = call(capsys, *arguments)
    assert actual == code and message in text
    assert list(tmp_path.iterdir()) == []


def test_bad_model_folder(capsys, tmp_path):
    row = {"id": "1", "question": "q", "gold": "1", "kind": "digit", "completion": "x"}
    (tmp_path / "s.jsonl").write_text(json.dumps(row))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    arguments = ["sft", "--out", str(tmp_path / "o"), "--data", str(tmp_path / "s.jsonl"), "--eval_share", "0"]
    code, text = call(capsys, *arguments, "--model.path", str(tmp_path / "model"))
    assert code == 2 and "model folder has no tokenizer_config.json" in text


def test_full_disk_is_one_line_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

    monkeypatch.setattr(os, "fsync", full)
    row = {"id": "1", "question": "q", "gold": "1", "kind": "digit", "completion": "x"}
    (tmp_path / "s.jsonl").write_text(json.dumps(row))
    arguments = ["sft", "--out", str(tmp_path / "o"), "--data", str(tmp_path / "s.jsonl"), "--eval_share", "0"]
    code, text = call(capsys, *arguments, "--model.path", str(BASE))
    assert code == 1 and text.endswith("seethink: metrics.jsonl: No space left on device\n")
    assert [p.name for p in (tmp_path / "o").iterdir()] == [".lock"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(capsys, tmp_path):
    tmp_path.chmod(0o500)
    row = {"id": "1", "question": "q", "gold": "1", "kind": "digit", "completion": "x"}
    (tmp_path.parent / "s.jsonl").write_text(json.dumps(row))
    code, text = call(
        capsys,
        "sft",
        "--out",
        str(tmp_path / "o"),
        "--data",
        str(tmp_path.parent / "s.jsonl"),
        "--model.path",
        str(BASE),
    )
    assert code == 2 and "cannot create the folder" in text


def test_shipped_settings_resolve():
    for path in sorted(p for p in SHIPPED.rglob("*.toml") if "studies" not in p.parts):
        verb = path.stem.split("-")[0]
        if verb not in cli.VERBS:
            assert verb == "model", f"{path} is no settings of a verb"  # what sft and grpo include
            continue
        config_class = cli.load(cli.VERBS[verb][0])
        required = [
            a for k, (_, default, _) in describe(config_class) if default == "required" for a in (f"--{k}", "x")
        ]
        resolve(config_class, [*required, f"@{path}"])
