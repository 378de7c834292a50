"""The same numbers on a GPU as on the CPU, by the same code that a run uses there; skipped where there is none."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from kills import build_world, settings

from seethink.train import dist
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.loss import token_log_probs
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import image_features
from seethink.train.model.prefix import continued_states, prefill
from seethink.train.rollout.sampler import LocalSampler
from tests.test_pack import RAGGED, completions
from tests.tiny import IMAGE, tiny_policy, tiny_prompt

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

SHAPES = [((5, 1), (9, 2), (3, 0), (4, 1)), ((150, 2), (9, 0), (301, 1), (4, 1))]
"""(tokens of text, images) of each prompt: all in one block of the mask, and more than one."""


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """torch lets convolutions, as that of image patches, compute fp32 in 19 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def both(family: str) -> list:
    """The same policy on the CPU and on the GPU."""
    cpu, gpu = (tiny_policy(family)[0] for _ in range(2))
    gpu.model.cuda()
    return [cpu, gpu]


def gradients(policy, prompts, groups, way: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(log-probabilities, gradients of their weighted sum)"""
    packed, features = pack(prompts, groups, IMAGE).to(policy.device), image_features(policy, prompts)
    if way == "pack":
        states = hidden_states(policy.model, packed, features)
    else:
        alone = pack(prompts, [[]] * len(prompts), IMAGE).to(policy.device)
        there = [[ids.to(policy.device) for ids in group] for group in groups]
        states = continued_states(policy.model, prefill(policy.model, alone, features), there)
    found = token_log_probs(states, policy.model.lm_head.weight, packed.targets, policy.banned)
    (found * torch.linspace(-1, 1, len(found), device=found.device)).sum().backward()
    return found.detach().cpu(), {n: p.grad.cpu() for n, p in policy.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
@pytest.mark.parametrize("way", ["pack", "prefix"])
@pytest.mark.parametrize("shape", SHAPES, ids=["short", "blocks"])
def test_log_probs_and_gradients_equal_the_cpu(family, way, shape):
    cpu, gpu = both(family)
    prompts = [tiny_prompt(cpu, *size) for size in shape]
    groups = completions(RAGGED if shape is SHAPES[0] else [[140, 3], [130, 1, 20], [5], []])
    (plain, wanted), (found, ours) = (gradients(policy, prompts, groups, way) for policy in (cpu, gpu))
    assert (found - plain).abs().max() < 1e-4
    assert wanted.keys() == ours.keys()
    for name, g in wanted.items():
        assert (ours[name] - g).norm() <= 1e-3 * g.norm() + 1e-6, name


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
def test_greedy_rollouts_equal_the_cpu(family):
    cpu, gpu = both(family)
    prompts = [tiny_prompt(cpu, *size) for size in SHAPES[0]]
    ours, theirs = (LocalSampler(p).rollout(prompts, 2, 100, 0.0, seed=0) for p in (gpu, cpu))
    assert [[c.ids.tolist() for c in g] for g in ours] == [[c.ids.tolist() for c in g] for g in theirs]
    for a, b in zip((c for g in ours for c in g), (c for g in theirs for c in g), strict=True):
        assert (a.log_probs - b.log_probs).abs().max() < 1e-4


def test_waiting_prompts_enter_and_rows_leave_as_on_the_cpu():
    cpu, gpu = both("2.5")
    prompts = [tiny_prompt(cpu, 4 + n, n % 3) for n in range(7)]
    ours, theirs = (LocalSampler(p, capacity=9).rollout(prompts, 3, 90, 0.7, seed=3) for p in (gpu, cpu))
    assert [[c.ids.tolist() for c in g] for g in ours] == [[c.ids.tolist() for c in g] for g in theirs]


@pytest.mark.parametrize(
    "changes", [{}, {"reuse_prefill": False, "rollout_prompts": 2}, {"model": {"lora_rank": 8}}], ids=str
)
def test_a_grpo_run_learns_what_it_learns_on_the_cpu(tmp_path, monkeypatch, changes):
    rows = run_on_both("grpo", GRPOConfig, tmp_path, monkeypatch, {"rounds": 2, **changes})
    same = ("loss", "kl", "grad_norm", "reward/mean", "completion/length")
    for ours, theirs in zip(*rows, strict=True):
        assert {n: ours[n] for n in same} == pytest.approx({n: theirs[n] for n in same}, rel=5e-3, abs=1e-5)


def test_an_sft_run_learns_what_it_learns_on_the_cpu(tmp_path, monkeypatch):
    for ours, theirs in zip(*run_on_both("sft", SFTConfig, tmp_path, monkeypatch, {"epochs": 1}), strict=True):
        same = [n for n in ("loss", "eval_loss", "grad_norm") if n in theirs]
        assert {n: ours[n] for n in same} == pytest.approx({n: theirs[n] for n in same}, rel=5e-3, abs=1e-5)


def test_in_half_precision_a_kept_prefill_trains_as_one_computed_again(tmp_path, monkeypatch):
    """Autocast keeps casts of weights while a rollout lasts; a kept graph must go back through them."""
    found = []
    for reuse in (True, False):
        changes = {"rounds": 2, "reuse_prefill": reuse, "model": {"dtype": "bfloat16"}}
        found.append(run_on_both("grpo", GRPOConfig, tmp_path / str(reuse), monkeypatch, changes)[0])
    for kept, again in zip(*found, strict=True):
        assert kept["tokens/reused"] and not again["tokens/reused"]
        assert kept["reward/mean"] == again["reward/mean"]
        assert kept["grad_norm"] == pytest.approx(again["grad_norm"], rel=0.03)


def run_on_both(verb: str, kind: type, folder: Path, monkeypatch, changes: dict) -> list[list[dict]]:
    """Rows of metrics.jsonl of the same run on the GPU and on the CPU."""
    world, rows = build_world(folder / "world"), []
    for device in ("cuda", "cpu"):
        monkeypatch.setattr(dist, "best_device", lambda device=device: torch.device(device))
        config = settings(verb, world, folder / device)
        model = {**config["model"], **changes.get("model", {})}
        importlib.import_module(f"seethink.train.{verb}").run(kind(**{**config, **changes, "model": model}))
        rows.append([json.loads(line) for line in (folder / device / "metrics.jsonl").read_text().splitlines()])
    return rows
