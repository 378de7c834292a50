"""Nothing the user gave is written over, by any verb, by any name of it, also with --overwrite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from seethink.cli import VERBS, load, main
from seethink.core.config import Effect, effects
from seethink.core.run import Run
from seethink.core.store import hash_file, write_json, write_jsonl
from tests.test_core import settings

ROW = {"id": "a", "source": "s", "images": ["img/a.png"], "question": "How many?", "gold": "1", "kind": "digit"}
TEXT = "<think>One.</think>\n<answer>1</answer>"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What a user has: rows, a picture, a model folder, a prompt, settings, other data; two of them by more names."""
    monkeypatch.chdir(tmp_path)
    for folder in ("img", "model", "prompts", "elsewhere"):
        Path(folder).mkdir()
    Image.new("RGB", (4, 4)).save("img/a.png")
    more = {"completion": TEXT, "response": TEXT, "think": "One.", "answer": "1"}
    write_jsonl(Path("rows.jsonl"), [{**ROW, **more}])
    write_json(Path("model/config.json"), {"model_type": "qwen2_5_vl"})
    for name in ("model/model.safetensors", "system.txt", "prompts/distill.txt"):
        Path(name).write_text("the user's own")
    Path("settings.toml").write_text("input = 'rows.jsonl'")
    Path("link.jsonl").symlink_to("rows.jsonl")
    os.link("rows.jsonl", "hard.jsonl")
    Path("elsewhere/self").symlink_to(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hash_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


ROWS, MODEL = "rows.jsonl", "--model model --base_url http://127.0.0.1:9"
SPLIT, TRACES, SFT = "split --traces rows.jsonl", "traces rows.jsonl", "sft --model.path model --data rows.jsonl"
REFUSED = [
    *(f"reward {verb} rows.jsonl --out {out}" for verb in ("score", "check", "audit") for out in (ROWS, "./link.jsonl", "hard.jsonl")),
    "reward score link.jsonl --out rows.jsonl",
    "reward score elsewhere/self/rows.jsonl --out rows.jsonl",
    "reward score @settings.toml --out settings.toml",
    "reward audit rows.jsonl --calibration rows.jsonl",
    "reward score rows.jsonl --out img/a.png",
    "reward score rows.jsonl --out img",
    "reward score rows.jsonl --reward.open.path model --out model/config.json",
    *(f"reward {verb} rows.jsonl --out model/config.json" for verb in ("score", "audit", "check")),
    "export --data rows.jsonl --format trl --out model/config.json",
    "pocket build --out .",
    "reward score rows.jsonl --reward.open.cache rows.jsonl --out s.jsonl",
    *(f"export --data rows.jsonl --format {format} --out rows.jsonl" for format in ("trl", "messages", "verl", "sharegpt", "paper")),
    "export --data rows.jsonl --format trl --out img/a.png",
    "export --data rows.jsonl --format trl --system system.txt --out system.txt",
    *(f"{verb} --out {out}" for verb in (SPLIT, TRACES, SFT) for out in (".", ROWS, "elsewhere/self", "./link.jsonl")),
    *(f"{verb} --out {out}" for verb in (SPLIT, TRACES) for out in ("img", "model")),
    *(f"{verb} --overwrite" for verb in (f"{TRACES} --out .", f"{TRACES} --out img", f"{TRACES} --out model", f"{SFT} --out .")),
    *(f"{SFT} --out {out}" for out in ("model", "model --overwrite", "model/new")),
    "traces rows.jsonl --samples link.jsonl --out .",
    *(f"eval {MODEL} --data rows.jsonl --out {out}" for out in (".", "model", "model/run", "img", "model --overwrite")),
    "select --models model --data rows.jsonl --out model --overwrite",
    "grpo --model.path model --data rows.jsonl --out model/new",
    "grpo --model.path model --model.system @system.txt --data rows.jsonl --out .",
    *(f"data --source rows.jsonl --base_url http://127.0.0.1:9 --out {out}" for out in (".", "img", "prompts --prompts prompts")),
    *(f"view rows.jsonl --out {out}" for out in (".", "img", ROWS, "model")),
    "study --base model --data rows.jsonl --out model/study",
    "study --base model --data rows.jsonl --out rows.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_was_given_stays(home, line, capsys):
    before = tree(home)
    assert main(line.split()) == 2
    assert tree(home) == before and not (home / "model" / ".lock").exists()
    said = capsys.readouterr().err
    assert said.startswith("seethink: ") and said.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "reward score rows.jsonl --out s.jsonl",
        "export --data rows.jsonl --format trl --out e.jsonl",
        "view rows.jsonl --out pages",
        f"{SPLIT} --out run",
        f"{TRACES} --out run",
    ],
)
def test_other_places_can_be_written_again(home, line):
    """Twice over what the verb itself wrote; a folder may be empty, or hold notes."""
    (home / "run").mkdir()
    (home / "run" / "log.txt").write_text("started")
    before = tree(home)
    assert main(line.split()) == 0 and main(line.split()) == 0
    assert before.items() <= tree(home).items()


def test_overwrite_empties_a_run_of_the_same_verb_only(tmp_path):
    first, second = settings(tmp_path, name="a"), settings(tmp_path, name="b")
    Run.open(first.out, "sft", first, {}).__exit__()
    for name in ("metrics.jsonl", "notes.md"):
        (first.out / name).write_text("")
    (first.out / "far").symlink_to(tmp_path)
    code = main(["traces", str(tmp_path / "none.jsonl"), "--out", str(first.out), "--overwrite"])
    assert code == 2 and (first.out / "metrics.jsonl").exists()
    Run.open(second.out, "sft", second, {}, overwrite=True).__exit__()
    assert not (first.out / "metrics.jsonl").exists() and (first.out / "notes.md").exists()
    assert tmp_path.exists() and not (first.out / "far").exists()


def test_every_out_is_marked_as_what_is_written():
    """So that a new verb is guarded without a line of its own; `report` writes beside what it reads, `doctor` only looks."""
    for verb, (model, _, _) in VERBS.items():
        marks = effects(load(model))
        if "out" in marks and verb not in ("report", "doctor"):
            assert marks["out"] is Effect.OUTPUT, verb
