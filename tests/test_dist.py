"""Two processes through torchrun (gloo) give the gradients of one, resume bit for bit and leave a plain model behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from seethink.core.errors import UserError
from seethink.core.nouns import Example
from seethink.core.store import load_samples, save_examples, write_json
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.train.advantage import Group
from seethink.train.batches import data_order
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig
from seethink.train.dist import Ranks, join, whole
from seethink.train.grpo import reference_model, update
from seethink.train.launch import launch
from seethink.train.model.lora import full_weights
from seethink.train.model.policy import Policy, make_trainable
from seethink.train.optimiser import Optimiser
from seethink.train.rollout import engine as engine_sampler
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.engine import EngineSampler, make_sampler
from seethink.train.rollout.sampler import LocalSampler
from seethink.train.sft import Encoded, backward
from seethink.train.teacher import teach
from tests.test_engine_sampler import CopyEngine
from tests.tiny import Given, tiny_group, tiny_learner, tiny_policy, tiny_prompt

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
IMAGES = (2, 1, 0, 0, 1, 0, 0, 0)  # per prompt: the second rank has only text, and less work
MODES = {
    "full": ModelConfig(path=".", dtype="float32", freeze_vision=False, freeze_projector=False),
    "projector": ModelConfig(path=".", dtype="float32", freeze_projector=False),
    "frozen": ModelConfig(path=".", dtype="float32"),
    "lora": ModelConfig(path=".", dtype="float32", lora_rank=4),
    "again": ModelConfig(
        path=".", dtype="float32", freeze_vision=False, freeze_projector=False, checkpoint_layers=True
    ),
    "bf16": ModelConfig(path=".", dtype="bfloat16", freeze_vision=False, freeze_projector=False),
    "lora bf16": ModelConfig(path=".", dtype="bfloat16", lora_rank=4),
}
UPDATE = 4  # prompts per optimiser step
LONGEST_PASS = 27  # tokens that ranks compute at once
PATIENCE = 1200  # seconds until something hangs, on any machine


class Recorder:
    """In the optimiser's place: keeps the gradients of every optimiser step, changes nothing."""

    def __init__(self, policy: Policy):
        self.policy, self.seen = policy, []

    def update(self) -> tuple[float, float]:
        named = self.policy.model.named_parameters()
        self.seen.append({n: whole(p.grad) for n, p in named if p.grad is not None})
        self.policy.model.zero_grad()
        return 0.0, 0.0


def make_policy(mode: str, ranks: Ranks):
    """(policy, reference) with weights that differ a little; the same on every rank."""
    policy, _ = tiny_policy()
    policy.ranks, policy.dtype = ranks, torch.bfloat16 if MODES[mode].dtype == "bfloat16" else torch.float32
    with torch.no_grad():
        for parameter in policy.model.parameters() if mode == "lora bf16" else ():
            parameter.copy_(parameter.bfloat16())  # as a checkpoint has them, so that frozen ones are held in bf16
    make_trainable(policy, MODES[mode])
    reference = reference_model(policy)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn_like(parameter)
    if ranks.mesh is None:
        policy.model.to(ranks.device)
        reference.to(ranks.device)
    ranks.shard(policy.dtype, policy.model, reference)
    return policy, reference


def make_groups(policy: Policy) -> list[Group]:
    """Ragged groups; one without spread, so that a rank has nothing to do in a turn."""
    g = torch.Generator().manual_seed(3)
    groups = []
    for place, images in enumerate(IMAGES):
        ids = [torch.randint(3, 100, (n,), generator=g) for n in (5, 1, 3 + place)]
        completions = [Completion(x, -3 * torch.rand(len(x), generator=g), torch.zeros(len(x)), "stop") for x in ids]
        advantages = [None] * 3 if place in (2, 6, 7) else [1.0, -0.3, 0.5]
        groups.append(tiny_group(tiny_prompt(policy, 4 + place, images), completions, advantages, place))
    return groups


def grpo_step(policy: Policy, reference, groups: list[Group], mode: str, budget: int = 1) -> tuple[Recorder, dict]:
    config = GRPOConfig(out=".", data=".", model=MODES[mode], update_prompts=UPDATE, group=3, micro_tokens=budget)
    recorder = Recorder(policy)
    return recorder, update(tiny_learner(policy, config, reference, recorder, beta=0.1), groups)


def compare(ours: dict, theirs: dict, within: float, what: str) -> None:
    assert set(ours) == set(theirs), what
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).norm() <= within * theirs[name].norm(), f"{what} {name}"


def check_gradients(ranks: Ranks, mode: str) -> None:
    """GRPO: two optimiser steps of a round, and SFT: one step, here and in one process.

    One process has every group in one pass. Here the longer ones are computed in turns, while the other rank has shorter ones.
    """
    (policy, reference), (alone, its_reference) = (
        make_policy(mode, ranks),
        make_policy(mode, Ranks(device=ranks.device)),
    )
    groups, within = make_groups(alone), 1e-6 if ranks.device.type == "cpu" else 1e-4
    sizes = sorted(g.tokens for g in groups if g.trained)
    assert sizes[0] < LONGEST_PASS < sizes[-1]
    ours, metrics = grpo_step(policy, reference, ranks.share_of_each(groups, UPDATE), mode, LONGEST_PASS)
    theirs, expected = grpo_step(alone, its_reference, groups, mode, budget=1000)
    for step, (a, b) in enumerate(zip(ours.seen, theirs.seen, strict=True)):
        compare(a, b, 10 * within, f"{mode} grpo step {step}")
    assert metrics == pytest.approx(expected, rel=10 * within, abs=1e-9), mode
    examples = [Encoded(g.prompt, g.rollouts[2].completion.ids) for g in groups[:5]]
    losses = backward(policy, ranks.share(examples), budget=1), backward(alone, examples, budget=1)
    assert losses[0] == pytest.approx(losses[1], rel=within)
    gradients = [
        {n: whole(p.grad) for n, p in x.model.named_parameters() if p.grad is not None} for x in (policy, alone)
    ]
    compare(*gradients, within, f"{mode} sft")


def make_teacher(ranks: Ranks) -> Policy:
    """Frozen, with weights of its own; the same on every rank."""
    teacher, _ = tiny_policy()
    teacher.ranks = ranks
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    teacher.model.requires_grad_(False)
    if ranks.mesh is None:
        teacher.model.to(ranks.device)
    ranks.shard(teacher.dtype, teacher.model)
    return teacher


def check_demos_and_teacher(ranks: Ranks, mode: str) -> None:
    """A teacher's advantages, and two optimiser steps with demonstrations (fewer than ranks in one) and one apart."""
    seen, metrics, advantages = [], [], []
    for here in (ranks, Ranks(device=ranks.device)):
        (policy, reference), teacher = make_policy(mode, here), make_teacher(here)
        groups, recorder = here.share_of_each(make_groups(policy), UPDATE), Recorder(policy)
        examples = [Encoded(g.prompt, g.rollouts[2].completion.ids) for g in make_groups(policy)[:6]]
        parts = examples[:5], examples[5:]
        for apart in (False, True):
            demos = {"data": ".", **({"apart": True} if apart else {"weight": 0.5})}
            config = GRPOConfig(
                out=".", data=".", model=MODES[mode], update_prompts=UPDATE, group=3, micro_tokens=1, demos=demos
            )
            learner = tiny_learner(policy, config, reference, recorder, beta=0.1)
            learner.teacher = teacher
            teach(policy, teacher, groups, config, exact=True)
            metrics.append(update(learner, groups, [here.share(part) for part in parts[: 1 if apart else 2]]))
        advantages.append(here.gather([(g.place, r.by_token) for g in groups for r in g.rollouts]))
        seen.append(recorder.seen)
    assert metrics[0] == pytest.approx(metrics[2], rel=1e-4) and metrics[1] == pytest.approx(metrics[3], rel=1e-4), mode
    ours, theirs = (sorted(found, key=lambda pair: pair[0]) for found in advantages)
    assert all(torch.allclose(a, b, atol=1e-5) for (_, a), (_, b) in zip(ours, theirs, strict=True)), mode
    assert len(seen[0]) == 5
    for step, gradients in enumerate(zip(*seen, strict=True)):
        compare(*gradients, 1e-4, f"{mode} demonstrations step {step}")


def check_bf16(ranks: Ranks, mode: str) -> None:
    """Layers are gathered in bf16, autocast does the rest: off by no more than bf16 is off fp32 in a model this small."""
    (policy, reference), (alone, its_reference) = (
        make_policy(mode, ranks),
        make_policy(mode, Ranks(device=ranks.device)),
    )
    layer = policy.model.model.language_model.layers[0]
    policy.ranks.gather_weights(policy.model)
    assert layer.mlp.up_proj.weight.dtype == torch.bfloat16 and policy.model.lm_head.weight.dtype == torch.float32
    policy.ranks.release_weights(policy.model)
    groups = make_groups(alone)
    ours, _ = grpo_step(policy, reference, ranks.share_of_each(groups, UPDATE), mode)
    theirs, _ = grpo_step(alone, its_reference, groups, mode)
    for gradients in zip(ours.seen, theirs.seen, strict=True):
        a, b = (torch.cat([g[name].flatten().float() for name in sorted(g)]) for g in gradients)
        assert (a - b).norm() <= 0.25 * b.norm()  # 0.06 to 0.09, as the processor and the weights have it


def check_weights(ranks: Ranks, mode: str) -> None:
    """Gathered for sampling and gathered for saving, the weights are those of one process."""
    (policy, _), (alone, _) = make_policy(mode, ranks), make_policy(mode, Ranks(device=ranks.device))
    prompts = [tiny_prompt(alone, 5, 1), tiny_prompt(alone, 9, 0)]
    sampler = LocalSampler(policy)
    for length in (6 + 10 * ranks.rank, 8):  # ranks need not decode equally long
        ours = sampler.rollout(prompts, 3, length, 1.0, seed=4)
        theirs = LocalSampler(alone).rollout(prompts, 3, length, 1.0, seed=4)
        assert all(
            torch.equal(a.ids, b.ids) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
        )
    sampler.close()
    expected = dict(full_weights(alone.model))
    found = dict(full_weights(policy.model))
    assert set(found) == set(expected) and all(torch.equal(found[n], w) for n, w in expected.items())


def check_one_to_many(ranks: Ranks, mode: str) -> None:
    """The state of one process goes on in several: the next update is the same."""
    policies = [make_policy(mode, r)[0] for r in (ranks, Ranks(device=ranks.device))]
    ours, theirs = (Optimiser(p, OptimConfig(lr=1e-2), 4) for p in policies)
    examples = [Encoded(g.prompt, g.rollouts[2].completion.ids) for g in make_groups(policies[1])[:5]]
    backward(policies[1], examples, budget=1)
    theirs.update()
    ours.restore(theirs.state_copy())
    for policy, part in zip(policies, (ranks.share(examples), examples), strict=True):
        backward(policy, part, budget=1)
    assert ours.update() == pytest.approx(theirs.update(), rel=1e-4)
    expected = dict(full_weights(policies[1].model))
    for name, weight in full_weights(policies[0].model):
        assert (weight - expected[name]).abs().max() < 1e-4, f"{mode} {name}"


class FolderEngine(CopyEngine):
    """A server for all ranks: what one of them loads, all sample from. It misjudges every rank's tokens otherwise."""

    shared = True

    def __init__(self, prompts: list, folder: Path, rank: int) -> None:
        super().__init__(tiny_policy()[0], prompts, bias=-0.3 - 0.6 * rank)
        self.file = folder / "model.safetensors"

    def load(self, weights) -> None:
        save_file({name: weight.cpu().clone() for name, weight in weights}, self.file)

    def generate(self, requests):
        super().load(load_file(self.file))
        return super().generate(requests)

    def sleep(self) -> None:
        """It takes no memory from the policy."""

    close = sleep


def explore(sampler: EngineSampler, config: GRPOConfig, groups: list[Group], seed: int) -> list[Group]:
    """The groups with completions from the sampler."""
    with sampler.policy.ranks.together():
        found = sampler.rollout([g.prompt for g in groups], 3, 8, config.temperature, seed)
    advantages = [[r.advantage for r in g.rollouts] for g in groups]
    return [tiny_group(g.prompt, c, a, g.place) for g, c, a in zip(groups, found, advantages, strict=True)]


def check_engine(ranks: Ranks, mode: str, folder: Path) -> None:
    """Rollouts from a server: a round's two updates are those of one process, pushes arrive, a stale server ends all."""
    (policy, reference), (alone, its_reference) = (
        make_policy(mode, ranks),
        make_policy(mode, Ranks(device=ranks.device)),
    )
    groups = make_groups(alone)
    tolerant = {"engine": "vllm-server", "tolerance": 1.0}
    config = GRPOConfig(
        out=folder, data=folder, model=MODES[mode], sampler=tolerant, update_prompts=UPDATE, group=3, micro_tokens=1
    )
    engine = FolderEngine([g.prompt for g in groups], folder, ranks.rank)
    sampler = EngineSampler(policy, engine, config)
    sampler.push(0)
    here = explore(sampler, config, ranks.share_of_each(groups, UPDATE), seed=ranks.rank)
    together = sorted(ranks.gather(here), key=lambda g: g.place)
    sampler.sleep()
    metrics = []
    for p, r, part in ((policy, reference, here), (alone, its_reference, together)):
        optimiser = Optimiser(p, OptimConfig(lr=1e-2, warmup=0), 2)
        metrics.append(update(tiny_learner(p, config, r, optimiser, Given(exact=False), beta=0.1), part))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3), mode
    assert metrics[0]["sampler/log_prob_gap_max"] == pytest.approx(0.9, abs=1e-3)
    assert 0 < metrics[0]["sampler/capped_share"] < 1, "only the second rank's tokens are capped"

    engine.bias, sampler.tolerance = 0.0, 1e-3
    current, stale = engine.file, folder / "stale.safetensors"
    if ranks.first:
        shutil.copyfile(current, stale)
    else:
        engine.file = stale  # this rank's server alone does not take the weights
    with pytest.raises(UserError if ranks.first else SystemExit) as ended:
        sampler.push(2)
    assert not ranks.first or "the sampler is not the policy of 2 steps" in str(ended.value)
    engine.file = current
    sampler.push(2)
    explore(sampler, config, here, seed=2)
    sampler.close()
    assert ranks.gather([sampler.version]) == [2] * ranks.world


def check_launched_engine(ranks: Ranks, folder: Path) -> None:
    """Every rank starts a vLLM of its own. Where that fails on one of them all end, and those that run are closed."""
    sampler = {"engine": "vllm", "python": folder / ("python" if ranks.first else "none")}
    config = GRPOConfig(out=folder, data=folder, model=MODES["full"], sampler=sampler)
    if ranks.first:
        stand_in = Path(__file__).with_name("fake_vllm.py")
        sampler["python"].write_text(f'#!/bin/sh\necho $$ > {folder}/pid\nexec "{sys.executable}" "{stand_in}" "$@"\n')
        sampler["python"].chmod(0o755)
    ranks.gather([None])
    with pytest.raises(UserError if ranks.first else SystemExit) as ended:
        make_sampler(replace(tiny_policy()[0], ranks=ranks), config, 0)
    if ranks.first:
        assert "vLLM cannot be started" in str(ended.value)
        with pytest.raises(ProcessLookupError):
            os.kill(int((folder / "pid").read_text()), 0)


def worker() -> None:
    """What each process of `equal_one` runs."""
    torch.set_num_threads(1)
    engine_sampler.sized_images = lambda prompt, policy: []  # prompts here have pixels without files
    with join(sys.argv[1]) as ranks, TemporaryDirectory() as folder:
        folder = Path(ranks.of_first(folder))
        check_launched_engine(ranks, folder)
        for mode in MODES:
            if "bf16" in mode:
                check_bf16(ranks, mode)
            else:
                check_gradients(ranks, mode)
                check_weights(ranks, mode)
                check_one_to_many(ranks, mode)
            if mode in ("full", "lora"):
                check_demos_and_teacher(ranks, mode)
                check_engine(ranks, mode, folder)
        assert ranks.gather([ranks.rank]) == list(range(ranks.world)) and ranks.of_first(ranks.rank) == 0
        if ranks.first:
            print("equal", *MODES)


def check_equal_one(processes: int, device: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "tests.test_dist", device]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and done.stdout.strip() == " ".join(["equal", *MODES]), done.stderr


def test_two_processes_equal_one():
    check_equal_one(2, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_all_gpus_equal_one_process():
    check_equal_one(torch.cuda.device_count(), "auto")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    from seethink.pocket.build import build

    out = tmp_path_factory.mktemp("world")
    build(out, seed=7, sft=24, rl=40, board=0, ood=0)
    samples = load_samples(out / "sft_pool.jsonl")
    save_examples(out / "sft.jsonl", [Example(s, compose("let me look .", s.gold)) for s in samples])
    return out


def start(verb: str, world: Path, out: Path, gpus: int) -> subprocess.Popen:
    shared = {"model": {"path": str(BASE), "dtype": "float32"}, "save_every": 2, "device": "cpu", "gpus": gpus}
    sft = {"data": str(world / "sft.jsonl"), "epochs": 2, "batch_size": 6, "optim": {"lr": 5e-4}, "eval_share": 0.1}
    grpo = {"data": str(world / "rl_pool.jsonl"), "rounds": 4, "prompts": 6, "update_prompts": 3, "group": 4}
    grpo |= {"max_tokens": 24, "temperature": 1.0, "optim": {"lr": 1e-4}, "reward": {"open": {"scorer": "lexical"}}}
    file = out.with_suffix(".json")
    write_json(file, {**shared, **{"sft": sft, "grpo": grpo}[verb], "out": str(out)})
    command = [sys.executable, "-m", "seethink", verb, f"@{file}"]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(verb: str, world: Path, out: Path, gpus: int) -> str:
    child = start(verb, world, out, gpus)
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 0, output
    return output


def kill_after_checkpoint(verb: str, world: Path, out: Path) -> None:
    """kill -9 of the launcher of two processes, once a checkpoint is there; its processes end with it.

    Again from nothing where a machine was quicker than the kill.
    """
    for _ in range(10):
        child = start(verb, world, out, 2)
        deadline = time.monotonic() + PATIENCE
        while child.poll() is None and not list(out.glob("checkpoint/checkpoint-*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
        output = child.communicate()[0]
        assert child.returncode in (0, -signal.SIGKILL), output
        with open(out / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "done.json").exists():
            return
        shutil.rmtree(out)
    raise AssertionError("always finished before the kill")


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def logged(out: Path) -> list[dict]:
    from kills import logged  # pytest finds benchmarks/, torchrun's children do not

    return logged(out)


@pytest.mark.slow
@pytest.mark.long
def test_grpo_on_two_processes_is_killed_and_ends_bit_identical(world, tmp_path):
    output = finish("grpo", world, tmp_path / "whole", 2)
    assert "-m torch.distributed.run --standalone --nproc-per-node 2 -m seethink grpo" in output
    assert output.count("grpo:") == 1, "only the first rank speaks"
    kill_after_checkpoint("grpo", world, tmp_path / "killed")
    finish("grpo", world, tmp_path / "killed", 2)
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")
    rows = read_table(tmp_path / "whole" / "rollouts.parquet")
    order = [s.id for s in load_samples(world / "rl_pool.jsonl")]
    drawn = [order[i] for i in data_order(order, 24, 0)]
    assert [r["sample_id"] for r in rows] == [s for s in drawn for _ in range(4)], "rounds keep their order"
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )
    assert set(theirs) == set(load_file(BASE / "model.safetensors"))
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole" / "model").state_dict()
    saved = {name: "model." + name.replace("model.", "language_model.") for name in theirs}
    assert all(torch.equal(plain[saved[name]], weight) for name, weight in theirs.items())


@pytest.mark.slow
def test_sft_goes_on_in_one_process_as_if_it_had_always_been_one(world, tmp_path):
    finish("sft", world, tmp_path / "one", 1)
    kill_after_checkpoint("sft", world, tmp_path / "two")
    finish("sft", world, tmp_path / "two", 1)
    for ours, theirs in zip(logged(tmp_path / "two"), logged(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert all((ours[n] - w).norm() <= 1e-3 * w.norm() for n, w in theirs.items())


def test_an_error_of_one_rank_ends_all_and_is_said_once(world, tmp_path):
    rows = [json.loads(line) for line in (world / "rl_pool.jsonl").read_text().splitlines()]
    shutil.copytree(world, tmp_path / "world")
    broken = next((tmp_path / "world").rglob("*.png"))
    for row in rows:
        row["images"] = [str(broken)]
    (tmp_path / "world" / "rl_pool.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    broken.write_bytes(b"no image")
    child = start("grpo", tmp_path / "world", tmp_path / "run", 2)
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 2 and "Traceback" not in output
    assert sum(line.startswith("seethink:") for line in output.splitlines()) == 1, output


def test_more_gpus_than_there_are_is_refused():
    with pytest.raises(UserError, match="1024 GPUs asked for"):
        launch(["grpo"], 1024, "auto")


if __name__ == "__main__":
    worker()
