"""The memory plan against what torch tracks of a step at the size of a real model, without its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from seethink.cli import main
from seethink.core.shipped import SHIPPED
from seethink.train import loss, memory
from seethink.train.config import GRPOConfig, ModelConfig, SFTConfig
from seethink.train.dist import Ranks, make_mesh
from seethink.train.loss import LossParts, head_loss
from seethink.train.memory import KEPT, memory_plan, shapes_of
from seethink.train.model.policy import EncodedPrompt, Policy, make_trainable
from seethink.train.model.turns import Turns
from seethink.train.needs import CHANGES, needs
from seethink.train.preflight import Longest
from seethink.train.rollout.decoding import Cohort, grown
from seethink.train.rollout.sampler import LocalSampler
from tests.rehearsal import SIZES, Live, make_model, model_config, rehearse, without_memory
from tests.tiny import tiny_policy, tiny_prompt

LAYERS = 4
P, T, G, PROMPTS = 500, 250, 4, 4
TOKENS = PROMPTS * (P + G * T)


LONGEST = Longest(P, T, P + T)


def settings(gpus: int, replicas: int = 1, **model) -> GRPOConfig:
    return GRPOConfig(
        out="x", data="x", model={"path": ".", **model}, group=G, max_tokens=T, micro_tokens=TOKENS, prompts=PROMPTS,
        update_prompts=PROMPTS, kl=0, gpus=gpus, replicas=replicas,
    )  # fmt: skip


def tracked(size: str, config: GRPOConfig, ranks: Ranks, gradients: Callable[[Policy], None]) -> float:
    """Bytes at the peak of two optimiser steps on one of the GPUs, of two micro-batches each, by torch's own tracker."""
    wide = mock.patch.object(loss, "chunk_rows", lambda _: loss.GPU_ROWS)
    still = mock.patch.object(nn.Module, "to", lambda self, *_, **__: self)  # everything is where it belongs already
    with without_memory(), wide:
        model = make_model(model_config(size, LAYERS))
        policy = Policy(model, None, None, Path(), dtype=torch.bfloat16, ranks=ranks)
        with still:
            with mock.patch.object(Policy, "fits", lambda *_: True):
                make_trainable(policy, config.model)
            ranks.shard(torch.bfloat16, model)
        adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)
        with Live(model) as live:
            for _ in range(2):  # the first has no moments yet
                for _ in range(2):  # the second has gradients already
                    gradients(policy)
                adam.step()
                adam.zero_grad()
        return live.peak


def in_turns(prompts: int, group: int, budget: int) -> Callable[[Policy], None]:
    """Gradients of a micro-batch that large, as an update computes them."""
    encoded = EncodedPrompt(torch.full((P,), 5), torch.arange(P).expand(3, -1), None, None)
    asked = SimpleNamespace(ranks=Ranks(), device=torch.device("cpu"), image_token=151_655)
    turns = Turns.of(asked, [encoded] * prompts, [[torch.full((T,), 7)] * group] * prompts, budget)
    of_tokens = lambda log_probs, _: LossParts(log_probs.sum(), {})  # noqa: E731

    def gradients(policy: Policy) -> None:
        head, banned = policy.model.lm_head, torch.tensor([151_655])
        loss_of = lambda turn, states: head_loss(states, head.weight, turn.targets, banned, 0.8, of_tokens)  # noqa: E731
        turns.backward(policy, lambda: None, None, loss_of)

    return gradients


@pytest.fixture
def eight():
    """This process as the first of eight whose others are pretended."""
    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    yield Ranks(0, 8, torch.device("cpu"), init_device_mesh("cpu", (8,)))
    dist.destroy_process_group()


def compared(size: str, gpus: int, ranks: Ranks, replicas: int = 1, **model) -> tuple[float, float]:
    """Bytes while updating: planned, and tracked."""
    config, of_checkpoint = settings(gpus, replicas, **model), model_config(size, LAYERS)
    of_checkpoint.dtype = torch.bfloat16
    plan = memory_plan(config, shapes_of(of_checkpoint, config.model, "bfloat16"), LONGEST, "bfloat16")
    assert plan.tokens == TOKENS
    return plan.phase("updating"), tracked(size, config, ranks, in_turns(PROMPTS, G, TOKENS))


@pytest.mark.parametrize("size", ["3B", "7B"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("rank", [0, 64], ids=["full", "lora"])
def test_the_plan_is_within_ten_percent_of_what_torch_tracks(size, again, rank):
    alone = Ranks(device=torch.device("cpu"))
    planned, found = compared(size, 1, alone, checkpoint_layers=again, lora_rank=rank)
    assert planned == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("size", ["3B", "7B"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("rank", [0, 64], ids=["full", "lora"])
def test_so_it_is_on_eight_gpus(size, again, rank, eight):
    planned, found = compared(size, 8, eight, checkpoint_layers=again, lora_rank=rank)
    assert planned == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize(("gpus", "rank", "again"), [(1, 0, False), (1, 64, True), (8, 0, True), (8, 64, False)])
def test_a_group_in_turns_takes_what_the_plan_says(gpus, rank, again, request):
    """16 completions of 250 tokens, eight at a time."""
    ranks = request.getfixturevalue("eight") if gpus > 1 else Ranks(device=torch.device("cpu"))
    config = settings(gpus, checkpoint_layers=again, lora_rank=rank)
    config, of_checkpoint = (
        config.model_copy(update={"group": 16, "micro_tokens": P + 8 * T}),
        model_config("3B", LAYERS),
    )
    of_checkpoint.dtype = torch.bfloat16
    of = shapes_of(of_checkpoint, config.model, "bfloat16")
    plan, whole = (
        memory_plan(c, of, LONGEST, "bfloat16") for c in (config, config.model_copy(update={"micro_tokens": 10**5}))
    )
    assert plan.tokens == P + 8 * T and plan.phase("updating") < whole.phase("updating")
    found = tracked("3B", config, ranks, in_turns(1, 16, config.micro_tokens))
    assert plan.phase("updating") == pytest.approx(found, rel=0.1)


def test_so_it_is_with_two_copies_of_the_weights(eight):
    ranks = replace(eight, mesh=make_mesh("cpu", 8, replicas=2))
    planned, found = compared("3B", 8, ranks, replicas=2, checkpoint_layers=True)
    assert planned == pytest.approx(found, rel=0.1)
    assert planned > 1.1 * compared("3B", 8, eight, checkpoint_layers=True)[0]


@pytest.mark.parametrize("kind", [SFTConfig, GRPOConfig])
def test_what_is_offloaded_has_left_the_gpu_and_is_on_the_host(kind):
    of = shapes_of(model_config("3B", 36), ModelConfig(path="."), "bfloat16")
    ask = lambda **more: kind(out="x", data="x", model={"path": "."}, gpus=4, **more)  # noqa: E731
    plain, moved = (memory_plan(ask(offload=o), of, LONGEST, "bfloat16") for o in (False, True))
    bytes_of = lambda plan: {part.name: part.bytes for part in plan.parts if part.name != "layers gathered"}  # noqa: E731
    assert bytes_of(plain) == bytes_of(moved) and plain.host == 0
    copies = 16 * of.trained + 4 * (of.parameters - of.trained) - of.frozen_vision
    copies += of.reference if kind is GRPOConfig else 12 * of.trained
    assert moved.host == pytest.approx(copies / 4)
    on_gpu = [part.name for part in moved.parts if part.phase == "always"]
    assert on_gpu == ["frozen vision tower"] and moved.needed < plain.needed


def test_what_a_layer_keeps_is_what_the_table_says():
    """Two sizes differ by what the widths between them cost; query heads and rows of the softmax add a little."""
    for widths in ((1024, 2048, 8, 2), (2048, 4096, 16, 4)):
        with mock.patch.dict(SIZES, {"own": (*widths, True)}):
            few, many = (rehearse("own", layers, P=60, T=20, G=2, prompts=2) for layers in (2, 4))
            of = shapes_of(model_config("own", 2), ModelConfig(path="."), "bfloat16")
        found = (many.saved - few.saved) / 2 / few.tokens
        assert of.layer(False, "bfloat16") == pytest.approx(found, rel=0.01)


def test_keys_and_values_are_what_the_sampler_holds():
    policy, _ = tiny_policy()
    sampler = LocalSampler(policy)
    prefix = sampler.prefill([tiny_prompt(policy, 5)] * 3, graph=False)
    cohort = Cohort.enter(prefix, 0, G, T)
    cohort.own_k, cohort.own_v = ([grown(x, T) for x in tensors] for tensors in (cohort.own_k, cohort.own_v))
    held = sum(x.nbytes for x in (*prefix.keys, *prefix.values, *cohort.own_k, *cohort.own_v))
    text = policy.model.config.text_config
    of = shapes_of(policy.model.config, ModelConfig(path="."), "float32")
    assert (of.layers, of.keys) == (text.num_hidden_layers, 16 * text.num_key_value_heads)
    config = settings(1).model_copy(update={"prompts": 3, "rollout_prompts": 128})
    longest = Longest(prefix.keys[0].shape[2], 0, 0)
    assert next(p.bytes for p in memory.sampling(config, of, longest, 0, 4) if p.name.startswith("keys")) == held


@pytest.mark.parametrize(("capacity", "remedy"), [(80, ""), (40, "--gpus 8"), (2, "no setting helps")])
def test_a_page_says_whether_it_fits_and_what_would_make_it_fit(tmp_path, capacity, remedy):
    config = model_config("3B", 36)
    config.dtype = torch.bfloat16
    config.save_pretrained(tmp_path)
    model = {"path": tmp_path, "checkpoint_layers": True}
    run = GRPOConfig(out="x", data="x", model=model, micro_tokens=4096, gpu_gb=capacity, tokens_per_s=1000)
    page = needs(run, Longest(500, 0, 500), 49, 49 * 2048 * 1024).words
    assert (
        f"{shapes_of(config, run.model, 'bfloat16').parameters / 1e9:.2f} billion parameters" in page
        and "28.5 hours at 1000 tokens a second" in page
        and "shared by turns of a group of 4,596 tokens" in page
    )
    assert (f"it fits into {capacity} GB" in page) is (not remedy)
    assert remedy in page


def test_every_change_makes_a_run_smaller_and_only_late_ones_change_results():
    names = [name for name, _ in CHANGES]
    assert names.index("--model.lora_rank 64") == len(names) - 1
    assert all(("qwen2", lora, kind) in KEPT for lora in (False, True) for kind in ("float32", "bfloat16"))


def test_checkpointing_and_micro_tokens_follow_the_memory_unless_they_are_set(tmp_path):
    config = model_config("3B", 36)
    config.dtype = torch.bfloat16
    config.save_pretrained(tmp_path)
    ask = lambda **settings: GRPOConfig(out="x", data="x", rollout_prompts=16, **settings)  # noqa: E731
    longest, seen = Longest(500, 0, 500), {}
    for capacity in (24, 80, 200):
        for rank in (0, 64):
            found = memory.fitted(ask(model={"path": tmp_path, "lora_rank": rank}), longest, capacity * 1e9)
            seen[capacity, rank] = found.model.checkpoint_layers, found.micro_tokens
    assert seen[200, 0] == (False, 16384) and seen[80, 0] == (True, 16384), seen
    assert seen[24, 64] == (True, 16384) and seen[80, 64] == (False, 8192), seen
    own = ask(model={"path": tmp_path, "checkpoint_layers": False}, micro_tokens=1000)
    assert memory.fitted(own, longest, 80e9) is own
    asked = memory.fitted(ask(model={"path": tmp_path}, micro_tokens=6000), longest, 80e9)
    assert asked.micro_tokens == 6000 and asked.model.checkpoint_layers


def test_the_page_of_the_configurations_is_what_the_plan_says():
    path = Path(__file__).parents[1] / "docs" / "memory.py"
    spec = spec_from_file_location("memory_page", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == path.with_suffix(".md").read_text(), "run: python docs/memory.py"
    there = {str(p.relative_to(SHIPPED).with_suffix("")) for p in SHIPPED.glob("*/*.toml")}
    assert there - {"paper/model", "paper/select", "paper/split"} == set(module.FILES)


def test_a_dry_run_that_trains_nothing_says_its_memory_too(tmp_path, capsys):
    base = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
    assert (
        main(["pocket", "build", "--out", str(tmp_path), "--sft", "0", "--rl", "4", "--board", "4", "--ood", "0"]) == 0
    )
    asked = [
        "eval",
        "--model",
        str(base),
        "--data",
        str(tmp_path / "rl_pool.jsonl"),
        "--out",
        str(tmp_path / "o"),
        "--dry-run",
    ]
    assert main(asked) == 0
    assert "memory of a GPU, GB: weights 0.0, keys and values" in capsys.readouterr().out
