"""What leaves a run: metrics to a tracker, adapters for peft, a card, a push to a Hub that is pretended."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel

from seethink.cli import main
from seethink.core.nouns import Example
from seethink.core.run import Run, read_log
from seethink.core.store import load_samples, read_json, save_examples
from seethink.core.tags import compose
from seethink.pocket.build import build
from seethink.train import sft
from seethink.train.config import GRPOConfig, ModelConfig, SFTConfig
from seethink.train.model.policy import make_trainable
from seethink.train.model.saving import save_adapters
from seethink.train.needs import needs
from seethink.train.preflight import Longest
from seethink.train.track import numbers, tracked
from tests.rehearsal import model_config
from tests.test_dist import BASE
from tests.tiny import stock_log_probs, tiny_model, tiny_policy, tiny_prompt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An SFT run of two steps with LoRA, its metrics tracked by a tracker that only remembers."""
    folder = tmp_path_factory.mktemp("run")
    build(folder / "world", seed=3, sft=8, rl=0, board=0, ood=0)
    samples = load_samples(folder / "world" / "sft_pool.jsonl")
    save_examples(folder / "sft.jsonl", [Example(s, compose("let me look .", s.gold)) for s in samples])
    seen = []
    tracker = SimpleNamespace(
        init=lambda **given: seen.append(given),
        log=lambda row, step: seen.append((step, row)),
        finish=lambda: seen.append("finish"),
    )
    model = {"path": BASE, "lora_rank": 2, "dtype": "float32"}
    config = SFTConfig(
        out=folder / "run", data=folder / "sft.jsonl", model=model, batch_size=4, eval_share=0, track="trackio", seed=5
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "trackio", tracker)
        sft.run(config)
    return folder / "run", seen


def test_a_tracker_gets_what_metrics_jsonl_holds(finished):
    run, (opened, *rows, end) = finished
    assert (
        opened["project"] == "seethink"
        and opened["resume"] == "allow"
        and opened["config"]["seed"] == 5
        and end == "finish"
    )
    logged = read_log(run / "metrics.jsonl")
    assert [step for step, _ in rows] == [row["step"] for row in logged] == [1, 2]
    assert all(
        sent == numbers({**row, "step": None}) and sent["loss"] == row["loss"]
        for (_, sent), row in zip(rows, logged, strict=True)
    )


def test_names_are_the_fields_and_only_numbers_are_sent():
    assert numbers({"clip_share": 0.5, "kl": 0.1, "reward/mean": None, "kind": "x", "ok": True}) == {
        "clip_frac": 0.5,
        "kl": 0.1,
    }


@pytest.mark.parametrize("name", ["trackio", "wandb", "tensorboard"])
def test_a_tracker_that_is_missing_is_named(name, tmp_path, monkeypatch, capsys):
    for module in ("trackio", "wandb", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    config = SFTConfig(out=tmp_path, data=tmp_path, model={"path": BASE}, track=name)
    with (
        pytest.raises(Exception, match=f"{name} cannot be loaded .*pip install {name}"),
        tracked(Run(tmp_path, "k"), config, 0, True),
    ):
        pass


def test_only_the_first_rank_speaks(tmp_path):
    config = SFTConfig(out=tmp_path, data=tmp_path, model={"path": BASE}, track="wandb")
    folder = Run(tmp_path, "k", owner=False)
    with tracked(folder, config, 0, first=False):
        assert folder.mirror is None


def test_adapters_are_those_of_peft(tmp_path):
    policy, stock = tiny_policy()
    policy.folder = tmp_path / "base"
    make_trainable(policy, ModelConfig(path=".", lora_rank=4, lora_alpha=8))
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    save_adapters(policy, tmp_path / "adapter")
    plain = stock_log_probs(stock, prompt := tiny_prompt(policy, 5), ids := torch.tensor([5, 6, 7]))
    adapted = PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter")
    merged, _ = tiny_policy()
    from seethink.train.model.lora import full_weights

    expected = tiny_model()
    expected.load_state_dict(dict(full_weights(policy.model)), strict=False)
    with torch.no_grad():
        ours, theirs = stock_log_probs(expected, prompt, ids), stock_log_probs(adapted.base_model.model, prompt, ids)
    assert (ours - theirs).abs().max() < 1e-4 < (ours - plain).abs().max()


def test_without_lora_there_are_no_adapters(tmp_path):
    policy, _ = tiny_policy()
    save_adapters(policy, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_card_says_what_the_run_was(finished):
    run, _ = finished
    text = (run / "card.md").read_text()
    assert (
        text.startswith("---\nlibrary_name: transformers") and "SFT of `base` by seethink" in text and "seed 5" in text
    )
    assert (
        "| `batch_size` | 4 |" in text
        and "| `model.lora_rank` | 2 |" in text
        and "8 prompts in 2 optimiser steps" in text
    )
    loss = read_log(run / "metrics.jsonl")[-1]["loss"]
    assert f"{loss:.4g} |" in text and str(run.parent) not in text
    assert not (run / "model" / "README.md").exists()


def test_push_sends_model_and_card(finished, monkeypatch, capsys):
    run, _ = finished
    calls = []

    class Api:
        create_repo = staticmethod(lambda repo, **given: calls.append(("repo", repo, given)))
        upload_file = staticmethod(lambda **given: calls.append(("file", given)))
        upload_folder = staticmethod(lambda **given: calls.append(("folder", given)))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert main(["push", "--run", str(run), "--repo", "me/own", "--dry-run"]) == 0 and not calls
    assert "model.safetensors" in (said := capsys.readouterr().out) and "to me/own (private)" in said
    assert main(["push", "--run", str(run), "--repo", "me/own"]) == 0
    assert calls[0] == ("repo", "me/own", {"private": True, "exist_ok": True})
    assert (
        calls[1][1]["path_or_fileobj"] == (run / "card.md").read_bytes() and calls[2][1]["folder_path"] == run / "model"
    )
    assert main(["push", "--run", str(run), "--repo", "me/own", "--adapter", "--public"]) == 0
    assert calls[-1][1]["folder_path"] == run / "adapter" and calls[3][2]["private"] is False


def test_push_refuses_what_is_no_run_and_says_what_the_hub_says(finished, tmp_path, monkeypatch, capsys):
    run, _ = finished
    assert main(["push", "--run", str(tmp_path), "--repo", "me/own"]) == 2
    assert main(["push", "--run", str(run), "--repo", "own"]) == 2

    def refuse(*_, **__):
        raise OSError("no such host")

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(create_repo=refuse))
    assert main(["push", "--run", str(run), "--repo", "me/own"]) == 1
    assert "the Hub refuses it (no such host)" in capsys.readouterr().err


def test_a_spike_on_the_last_step_leaves_a_finished_run_with_its_own_evaluation(finished, tmp_path, monkeypatch):
    """The step is skipped, what is saved after it is evaluated, and neither counts as an update."""
    run, _ = finished
    spiked = lambda rows, loss, step, factor: {f"loss_spike_{step}": "too high"} if step == 2 else {}  # noqa: E731
    monkeypatch.setattr("seethink.train.alarms.spiked", spiked)
    model = {"path": BASE, "dtype": "float32"}
    data = run.parent / "sft.jsonl"
    sft.run(SFTConfig(out=tmp_path / "run", data=data, model=model, batch_size=3, eval_share=0.25, optim={"lr": 1e-3}))
    rows = read_log(tmp_path / "run" / "metrics.jsonl")
    assert [("loss" in row, "eval_loss" in row) for row in rows] == [(True, False), (False, True)]
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert summary["optimiser_steps"] == 1 and summary["eval_loss"] == rows[-1]["eval_loss"]


def test_a_dry_run_plans_what_a_run_would_choose_there(tmp_path):
    config = model_config("3B", 36)
    config.dtype = torch.bfloat16
    config.save_pretrained(tmp_path)
    asked = GRPOConfig(out="x", data="x", model={"path": tmp_path}, rollout_prompts=16, gpu_gb=80)
    page = needs(asked, Longest(500, 0, 500), 49, 1000).words
    assert "inputs of layers" in page and "it fits into 80 GB" in page
