"""What a model was trained under travels with it: the system prompt, from the base to whoever asks the model later."""

from __future__ import annotations

from pathlib import Path

import pytest

from seethink.cli import main
from seethink.core.nouns import Example, Sample
from seethink.core.store import read_json, save_examples, write_text
from seethink.core.tags import compose

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
OURS, OTHER = "Think first, then answer.", "Look at the image."


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    samples = [Sample(str(i), "s", (), f"how many red things ? {i}", "2", "digit") for i in range(4)]
    save_examples(path, [Example(s, compose("so", s.gold)) for s in samples])
    return path


def call(verb: str, data: Path, out: Path, *more: str) -> Path:
    own = {
        "sft": ["--data", data, "--batch_size", "4", "--eval_share", "0", "--model.dtype", "float32"],
        "grpo": ["--data", data, "--rounds", "1", "--prompts", "2", "--group", "2", "--update_prompts", "2", "--max_tokens", "4", "--model.dtype", "float32"],
        "eval": ["--data", data, "--max_tokens", "4", "--dtype", "float32"],
    }[verb]  # fmt: skip
    assert main([verb, "--out", str(out), *map(str, own), *more]) == 0
    return out


def asked_under(run: Path) -> str:
    inputs = read_json(run / "manifest.json")["inputs"]
    return inputs.get("model.system", inputs.get("system"))


@pytest.mark.parametrize("verb", ["sft", "grpo"])
@pytest.mark.parametrize("lora", [[], ["--model.lora_rank", "2"]])
def test_a_trained_model_is_evaluated_as_it_was_trained(verb, lora, data, tmp_path, capsys):
    model = call(verb, data, tmp_path / "run", "--model.path", str(BASE), "--model.system", OURS, *lora) / "model"
    assert (model / "system.txt").read_text() == OURS
    evaluated = call("eval", data, tmp_path / "eval", "--model", str(model))
    assert asked_under(evaluated) == OURS
    assert f"eval: system prompt of the model: {OURS!r}" in capsys.readouterr().out
    again = call("grpo", data, tmp_path / "again", "--model.path", str(model))
    assert asked_under(again) == OURS and (again / "model" / "system.txt").read_text() == OURS


def test_what_the_user_says_wins(data, tmp_path, capsys):
    write_text(tmp_path / "other.txt", OTHER + "\n")
    evaluated = call("eval", data, tmp_path / "file", "--model", str(BASE), "--system", f"@{tmp_path / 'other.txt'}")
    assert asked_under(evaluated) == OTHER and f"eval: system prompt: {OTHER!r}" in capsys.readouterr().out
    evaluated = call("eval", data, tmp_path / "none", "--model", str(BASE), "--system", "")
    assert asked_under(evaluated) == "" and "eval: no system prompt" in capsys.readouterr().out
    model = call("sft", data, tmp_path / "sft", "--model.path", str(BASE), "--model.system", "") / "model"
    assert not (model / "system.txt").exists(), "trained without one, asked without one"
    assert asked_under(call("eval", data, tmp_path / "eval", "--model", str(model))) == ""


def test_a_dry_run_says_it(data, tmp_path, capsys):
    call("eval", data, tmp_path / "eval", "--model", str(BASE), "--dry-run")
    assert "system prompt of the model: 'Look at the image, think, then answer.'" in capsys.readouterr().out
    call("sft", data, tmp_path / "sft", "--model.path", str(BASE), "--model.lora_rank", "2", "--dry-run")
    assert "learning rate 0.0001 of LoRA, rank 2" in capsys.readouterr().out
    call("grpo", data, tmp_path / "grpo", "--model.path", str(BASE), "--dry-run")
    assert "learning rate 1e-06" in capsys.readouterr().out
