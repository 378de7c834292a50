"""Weights that every rank reads for itself, on the device or on the host, in one copy or several: all is as in one process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from seethink.core.errors import UserError
from seethink.train.checkpoint import load_checkpoint, save_checkpoint
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig, SFTConfig
from seethink.train.dist import Ranks, is_sharded, join, make_mesh, part_of, whole
from seethink.train.model.lora import full_weights
from seethink.train.model.policy import Policy, distribute, load_policy, make_trainable
from seethink.train.optimiser import Optimiser
from seethink.train.sft import Encoded, backward
from seethink.train.update import reference_model
from tests.rehearsal import Live
from tests.test_dist import BASE, ENVIRONMENT, PATIENCE, ROOT, check_gradients, check_one_to_many, check_weights
from tests.tiny import tiny_prompt

PROCESSES = 4
SETTINGS = {
    "plain": (1, False),
    "offload": (1, True),
    "hsdp": (2, False),
    "hsdp offload": (2, True),
    "copies": (4, False),
}
"""(replicas, offload)"""
LAYERS = 8
READ = {  # folder, what trains
    "all": ("untied", dict(dtype="float32", freeze_vision=False, freeze_projector=False)),
    "vision frozen": ("tied", dict(dtype="bfloat16")),
    "lora": ("tied", dict(dtype="bfloat16", lora_rank=4)),
    "lora, fp32 files": ("untied", dict(dtype="bfloat16", lora_rank=4)),
}


def make_folders(out: Path) -> None:
    """The pocket model with more layers and other weights: `tied` in bf16, as models are published, `untied` in fp32."""
    for name, dtype in (("tied", torch.bfloat16), ("untied", torch.float32)):
        folder = Path(shutil.copytree(BASE, out / name))
        config = AutoConfig.from_pretrained(BASE)
        text, config.tie_word_embeddings = config.text_config, name == "tied"
        text.num_hidden_layers, text.layer_types = LAYERS, LAYERS * ["full_attention"]
        text.tie_word_embeddings = config.tie_word_embeddings
        torch.manual_seed(5)
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)  # biases begin as 0
        model.save_pretrained(folder)


def read(folder: Path, ranks: Ranks, model: dict) -> tuple[Policy, torch.nn.Module]:
    """(policy, reference) as a run makes them."""
    config = ModelConfig(path=folder, **model)
    policy = load_policy(config, ranks)
    make_trainable(policy, config, seed=3)
    reference = reference_model(policy)
    distribute(policy, reference, seed=3)
    return policy, reference


class LiveHere(Live):
    """Bytes of tensors with memory, those that a file gave included."""

    def add(self, tensor) -> None:
        if not tensor.is_meta:
            super().add(tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default:
            self.add(args[1])
        return super().__torch_dispatch__(func, types, args, kwargs)


def check_read(ranks: Ranks, folders: Path, mode: str) -> None:
    """Values, precisions, buffers, ties and adapters of policy and reference are those of one process."""
    name, model = READ[mode]
    ours, theirs = (read(folders / name, r, model) for r in (ranks, Ranks(device=ranks.device)))
    for here, alone in zip(ours, theirs, strict=True):
        here, alone = (m.model if isinstance(m, Policy) else m for m in (here, alone))
        parameters, expected = dict(here.named_parameters()), dict(alone.named_parameters())
        assert parameters.keys() == expected.keys()
        for n, p in parameters.items():
            assert p.dtype == expected[n].dtype and p.requires_grad == expected[n].requires_grad, f"{mode} {n}"
            assert torch.equal(whole(p), expected[n]), f"{mode} {n}"
            assert is_sharded(p) or ".visual." in n
        buffers = dict(here.named_buffers())
        assert buffers and all(torch.equal(buffers[n], b) for n, b in alone.named_buffers())
        assert (here.lm_head.weight is here.get_input_embeddings().weight) is (name == "tied")
    if "lora" not in mode:
        assert not any(p.requires_grad for p in ours[1].parameters())
    assert ours[0].stop_ids.tolist() == theirs[0].stop_ids.tolist()


def check_memory(ranks: Ranks, folders: Path, mode: str) -> None:
    """While weights are read no rank has more of them than its shards, the root's gathered ones and one tensor of a file."""
    name, model = READ[mode]
    with LiveHere() as live:
        policy, reference = read(folders / name, ranks, {**model, "dtype": "float32"})
    weights = dict.fromkeys((*policy.model.parameters(), *reference.parameters()))
    own = sum(4 * part_of(p).numel() for p in weights)
    root = sum(4 * p.numel() for n, p in policy.model.named_parameters() if ".layers." not in n and is_sharded(p))
    largest = max(4 * p.numel() for p in weights)
    assert own < live.peak < 1.1 * own + 2 * root + largest, (mode, own, root, largest, live.peak)
    everything = sum(4 * p.numel() for p in weights)
    assert live.peak < 0.7 * everything, (mode, live.peak, everything)


def train(policy: Policy, optimiser: Optimiser, steps: int) -> list[float]:
    """Gradient norms."""
    norms = []
    for _ in range(steps):
        backward(policy, policy.ranks.share(text_examples(policy)), budget=1)
        norms.append(optimiser.update()[0])
    return norms


def text_examples(policy: Policy) -> list[Encoded]:
    g = torch.Generator().manual_seed(1)
    return [Encoded(tiny_prompt(policy, 4 + n, 0), torch.randint(8, 100, (3 + n,), generator=g)) for n in range(5)]


def state_of(policy: Policy, optimiser: Optimiser) -> dict[str, torch.Tensor]:
    """Weights and moments, whole."""
    moments = {
        f"{i} {k}": whole(v) for i, s in optimiser.state()["adam"]["state"].items() for k, v in s.items() if k != "step"
    }
    return {n: w.clone() for n, w in full_weights(policy.model)} | moments


def check_resumed(settings: dict[str, Ranks], folders: Path, out: Path) -> None:
    """A checkpoint of one setting goes on under each other; under its own bit for bit."""
    model, optim = READ["vision frozen"][1] | {"dtype": "float32"}, OptimConfig(lr=1e-3, max_grad_norm=0.1)
    policy, _ = read(folders / "tied", settings["hsdp offload"], model)
    optimiser = Optimiser(policy, optim, 4)
    train(policy, optimiser, 2)
    saved = state_of(policy, optimiser)
    save_checkpoint(out, 2, optimiser.state(), policy.ranks)
    norms = train(policy, optimiser, 2)
    ended = state_of(policy, optimiser)
    for name, ranks in settings.items():
        policy, reference = read(folders / "tied", ranks, model)
        optimiser = Optimiser(policy, optim, 4)
        found = load_checkpoint(out, optimiser.blank)
        assert found
        optimiser.restore(found[1])
        before = state_of(policy, optimiser)
        assert before.keys() == saved.keys() and all(torch.equal(saved[n], x) for n, x in before.items()), name
        untrained = dict(read(folders / "tied", Ranks(device=ranks.device), model)[0].model.named_parameters())
        assert all(torch.equal(whole(p), untrained[n]) for n, p in reference.named_parameters()), name
        assert train(policy, optimiser, 2) == pytest.approx(norms, rel=1e-5), name
        within = 0.0 if name == "hsdp offload" else 1e-4
        after = state_of(policy, optimiser)
        assert all((after[n] - x).norm() <= within * x.norm() for n, x in ended.items()), name


def check_fault(ranks: Ranks, folders: Path) -> None:
    """A value that is not finite in one rank's rows ends all, and is said once."""
    folder = folders / "broken"
    if ranks.first:
        shutil.copytree(folders / "tied", folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["model.embed_tokens.weight"][-1, 0] = float("nan")
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    ranks.gather([None])
    with pytest.raises(UserError if ranks.first else SystemExit) as caught:
        read(folder, ranks, {"dtype": "float32"})
    assert not ranks.first or "not finite (NaN or infinity): model.language_model.embed_tokens" in str(caught.value)


def worker() -> None:
    """What each process runs."""
    torch.set_num_threads(1)
    with join("cpu") as ranks, TemporaryDirectory() as own:
        folders = Path(ranks.of_first(own))
        if ranks.first:
            make_folders(folders)
        ranks.gather([None])
        settings = {
            name: replace(ranks, mesh=make_mesh("cpu", ranks.world, replicas), offload=offload, roots={})
            for name, (replicas, offload) in SETTINGS.items()
        }
        for mode in READ:
            check_read(settings["hsdp offload" if "lora" in mode else "plain"], folders, mode)
        check_memory(settings["plain"], folders, "all")
        check_memory(settings["offload"], folders, "lora")
        check_fault(settings["plain"], folders)
        check_resumed(settings, folders, folders / "checkpoint")
        for name in ("hsdp", "copies", "hsdp offload"):
            check_gradients(settings[name], "lora" if name == "copies" else "full")
        check_weights(settings["hsdp offload"], "full")
        check_one_to_many(settings["hsdp offload"], "lora")
        if ranks.first:
            print("equal")


@pytest.mark.slow
def test_one_process_offloads_too():
    with join("cpu", offload=True) as ranks:
        check_gradients(ranks, "lora")


def test_replicas_must_divide_the_processes():
    with pytest.raises(UserError, match="2 replicas do not divide 1 process"), join("cpu", replicas=2):
        pass
    with pytest.raises(ValueError, match="replicas 3 does not divide gpus 4"):
        SFTConfig(out="x", data="x", model={"path": "."}, gpus=4, replicas=3)
    with pytest.raises(ValueError, match="offload does not go with sampler.engine vllm"):
        GRPOConfig(out="x", data="x", model={"path": "."}, offload=True, sampler={"engine": "vllm"})


@pytest.mark.slow
@pytest.mark.long
def test_four_processes_in_every_setting_equal_one():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    done = subprocess.run(
        [*command, "-m", "tests.test_sharding"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0 and done.stdout.strip() == "equal", done.stderr


if __name__ == "__main__":
    worker()
