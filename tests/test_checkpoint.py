"""Checkpoints that a full disk, a kill or a copy has damaged are named, never used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import save_examples
from seethink.core.tags import compose
from seethink.train import sft
from seethink.train.checkpoint import load_checkpoint

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: content[:200_000] + bytes(10_000) + content[210_000:],
        lambda content: b"\x80\x04N.",
    ],
    ids=["half", "nearly whole", "empty", "a block of zeros", "another pickle"],
)
def test_a_damaged_checkpoint_is_named(damage, tmp_path, capsys, monkeypatch):
    samples = [Sample(str(i), "s", (), f"how many red things ? {i}", "2", "digit") for i in range(4)]
    save_examples(tmp_path / "rows.jsonl", [Example(s, compose("so", s.gold)) for s in samples])

    def killed(*_):
        raise KeyboardInterrupt

    arguments = [
        "--model.path",
        BASE,
        "--batch_size",
        2,
        "--save_every",
        1,
        "--eval_share",
        0,
        "--data",
        tmp_path / "rows.jsonl",
    ]
    arguments = ["sft", "--out", str(tmp_path / "run"), *map(str, arguments)]
    with monkeypatch.context() as patched:
        patched.setattr(sft, "finish", killed)
        assert main(arguments) == 130
    (checkpoint,) = (tmp_path / "run" / "checkpoint").iterdir()
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"seethink: {checkpoint}: the checkpoint is cut or damaged" in line and "Remove it; the same command" in line
    checkpoint.unlink()
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: None, ""),
        (lambda folder: next(folder.glob("*.distcp")).unlink(), "No such file"),
        (lambda folder: next(folder.glob("*.distcp")).write_bytes(b"PK"), ".distcp is cut"),
        (lambda folder: (folder / ".metadata").unlink(), "No such file"),
        (lambda folder: (folder / ".metadata").write_bytes(b""), "cut or damaged"),
    ],
    ids=["whole", "a shard gone", "a shard cut", "no list of shards", "an empty list"],
)
def test_a_damaged_folder_of_shards_is_named(damage, message, tmp_path, capfd):
    state = {"weights": {"w": torch.arange(9.0)}}
    save(state, checkpoint_id=tmp_path / "checkpoint-3", no_dist=True)
    damage(tmp_path / "checkpoint-3")
    blank = lambda: {"weights": {"w": torch.zeros(9)}}  # noqa: E731
    capfd.readouterr()
    if not message:
        found = load_checkpoint(tmp_path, blank)
        assert found and found[0] == 3 and found[1]["weights"]["w"].equal(state["weights"]["w"])
        return
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(tmp_path, blank)
    assert caught.value.where == str(tmp_path / "checkpoint-3") and "Remove it" in caught.value.remedy
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "name", ["checkpoint-9.pt.bak", "checkpoint-9 (1).pt", "checkpoint-best.pt", "checkpoint-9.json"]
)
def test_copies_that_people_keep_beside_a_checkpoint_are_not_read(name, tmp_path):
    torch.save({"x": 1}, tmp_path / "checkpoint-3.pt")
    (tmp_path / name).write_text("mine")
    assert load_checkpoint(tmp_path, dict) == (3, {"x": 1})
