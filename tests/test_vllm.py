"""vLLM as the sampler: its log-probabilities are the policy's, after every push; a stale engine is caught.

Runs in an environment of its own (`make test-vllm`): minutes, most of them starts of vLLM.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.work import Case, prepare
from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.run import read_log
from seethink.core.store import write_json
from seethink.train import grpo
from seethink.train.config import GRPOConfig, ModelConfig
from seethink.train.model.policy import encode_prompt, make_trainable
from seethink.train.model.rescore import rescore
from seethink.train.model.saving import save_policy
from seethink.train.rollout import vllm_weights
from seethink.train.rollout.engine import EngineSampler, PlainWeights, make_sampler
from seethink.train.rollout.sampler import LocalSampler
from seethink.train.rollout.vllm import engine_settings
from seethink.train.rollout.vllm_launch import LaunchedEngine, VllmProcess, flags
from seethink.train.rollout.vllm_server import VllmServer
from seethink.train.rollout.vllm_weights import IpcTransfer, NcclTransfer, no_nccl
from tests import cpu_transfer
from tests.tiny import plain_policy

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
CPU = torch.device("cpu")
PARITY = 1e-4

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(autouse=True, scope="module")
def vllm():
    return pytest.importorskip("vllm", reason="vLLM is not in this environment: make test-vllm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, vllm) -> Path:
    """A random Qwen2.5-VL with grouped key-value heads and weights far from zero, so that errors would show."""
    out = tmp_path_factory.mktemp("qwen")
    prepare(out, Case("tiny", image_tokens=64, group=1, prompts=1, length=0, vocabulary=600), steps=1)
    policy = plain_policy(out)
    shake(policy, 2.0)
    save_policy(policy, out)
    return out


@pytest.fixture(scope="module")
def config(folder) -> GRPOConfig:
    model = {"path": folder, "dtype": "float32", "max_prompt_tokens": 1024}
    sampler = {"engine": "vllm", "tolerance": PARITY}
    return GRPOConfig(out=folder / "run", data=folder, model=model, max_tokens=24, temperature=0.8, sampler=sampler)


@pytest.fixture(scope="module")
def prompts(folder) -> list:
    """One image, two images, none; odd sizes, which both engines must shrink to the same pixels."""
    policy = plain_policy(folder, "look .")
    noise = torch.randint(0, 256, (9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()
    paths = [str(folder / f"{i}.png") for i in range(3)]
    for path, size in zip(paths, [(451, 340), (150, 97), (60, 203)], strict=True):
        Image.fromarray(noise).resize(size).save(path)
    question = "how many red objects are in the image ?"
    samples = [Sample(str(i), "s", tuple(p), question, "3", "digit") for i, p in enumerate((paths[:1], paths[1:], []))]
    return [encode_prompt(policy, s) for s in samples]


@pytest.fixture(scope="module")
def engine(folder, config):
    sampler = make_sampler(plain_policy(folder, "look ."), config, 0)
    yield sampler.engine
    sampler.close()


@pytest.fixture
def sampler(engine, folder, config) -> EngineSampler:
    """A fresh policy, and the engine with its weights."""
    sampler = EngineSampler(plain_policy(folder, "look ."), engine, config)
    sampler.push(0)
    return sampler


@torch.no_grad()
def shake(policy, size: float, only: str = "") -> None:
    """Other weights: noise of `size` standard deviations on every matrix, or on those whose name holds `only`."""
    torch.manual_seed(7)
    for name, weight in policy.model.named_parameters():
        if only in name and weight.ndim > 1:
            weight += size * (weight.std() or 0.02) * torch.randn_like(weight)
    policy.features.clear()


def gap(sampler: EngineSampler, prompts: list, temperature: float = 0.8) -> float:
    """Largest difference between recorded and recomputed log-probabilities."""
    groups = sampler.sample(prompts, 3 if temperature else 1, 24, temperature, seed=1)
    ids = [[c.ids for c in g] for g in groups]
    ours = rescore(sampler.policy, prompts, ids, temperature or 1.0, 4096)
    return float((torch.cat([c.log_probs for g in groups for c in g]) - torch.cat(ours)).abs().max())


@pytest.mark.parametrize("temperature", [0.8, 1.3, 0.0])
def test_log_probs_are_the_policys(sampler, prompts, temperature):
    found = gap(sampler, prompts * 12, temperature)  # more tokens than the engine takes in one step
    print(f"\n|dlogp| {found:.1e} at temperature {temperature}")
    assert found <= PARITY


def test_greedy_completions_are_those_of_the_local_sampler(sampler, prompts):
    ours, theirs = sampler.rollout(prompts, 1, 24, 0.0, 0), LocalSampler(sampler.policy).rollout(prompts, 1, 24, 0.0, 0)
    for (a,), (b,) in zip(ours, theirs, strict=True):
        assert a.ids.tolist() == b.ids.tolist() and a.stop == b.stop


def test_seeds_repeat_and_prompts_draw_apart(sampler, prompts):
    def draw(seed):
        groups = sampler.rollout([prompts[0], prompts[0]], 2, 24, 1.0, seed)
        return [c.ids.tolist() for g in groups for c in g]

    assert draw(1) == draw(1) != draw(2)
    assert len({tuple(ids) for ids in draw(1)}) == 4


def test_banned_tokens_are_never_sampled(sampler, prompts):
    with torch.no_grad():
        embeddings = sampler.policy.model.get_input_embeddings().weight
        embeddings[sampler.policy.banned] *= 20  # tied with the head: the model wants them badly
    sampler.push(1)
    groups = sampler.rollout(prompts, 4, 24, 1.0, 0)
    drawn = torch.cat([c.ids for g in groups for c in g])
    assert not torch.isin(drawn, sampler.policy.banned).any() and gap(sampler, prompts) <= PARITY


def test_new_weights_need_a_push(sampler, prompts):
    sampler.rollout(prompts, 1, 8, 0.8, 0)
    shake(sampler.policy, 0.3)
    with pytest.raises(UserError, match=r"policy of 0 steps: log-probability -\d+\.\d+ against -\d+\.\d+") as caught:
        sampler.compare()
    print(f"\nstale: {caught.value}")
    sampler.push(1)
    found = gap(sampler, prompts)
    print(f"after the push: |dlogp| {found:.1e}")
    assert found <= PARITY and sampler.version == 1


def test_a_kept_prefix_cache_is_caught(sampler, prompts, monkeypatch):
    sampler.rollout(prompts, 1, 8, 0.8, 0)
    shake(sampler.policy, 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(sampler.engine.llm, "reset_prefix_cache", lambda: True)
        with pytest.raises(UserError, match="the sampler is not the policy of 1 steps"):
            sampler.push(1)
    sampler.push(1)


def test_adapters_arrive_merged(engine, folder, config, prompts):
    policy = plain_policy(folder, "look .")
    make_trainable(policy, ModelConfig(path=folder, lora_rank=4))
    sampler = EngineSampler(policy, engine, config)
    sampler.push(0)
    shake(policy, 1.0, only="lora_B")
    assert gap(sampler, prompts) > 100 * PARITY
    sampler.push(1)
    assert gap(sampler, prompts) <= PARITY


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    from seethink.pocket.build import build

    out = tmp_path_factory.mktemp("world")
    build(out, seed=7, sft=0, rl=18, board=0, ood=0)  # three rounds of six: no picture twice
    return out


def write_settings(world: Path, out: Path, sampler: dict) -> str:
    """Three rounds of two updates each."""
    settings = {
        "out": str(out), "data": str(world / "rl_pool.jsonl"), "model": {"path": str(BASE), "dtype": "float32"},
        "rounds": 3, "prompts": 6, "update_prompts": 3, "group": 4, "max_tokens": 24, "temperature": 1.0,
        "save_every": 1, "optim": {"lr": 1e-4}, "reward": {"open": {"scorer": "lexical"}}, "sampler": sampler,
    }  # fmt: skip
    write_json(out.with_suffix(".json"), settings)
    return f"@{out.with_suffix('.json')}"


def test_grpo_with_vllm_rollouts_resumes_bit_identical(world, tmp_path, monkeypatch):
    whole, cut = (write_settings(world, tmp_path / name, {"engine": "vllm"}) for name in ("whole", "cut"))
    assert main(["grpo", whole]) == 0
    save = grpo.save_checkpoint

    def save_and_stop(folder, step, state, ranks):
        save(folder, step, state, ranks)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grpo, "save_checkpoint", save_and_stop)
        assert main(["grpo", cut]) != 0
    assert main(["grpo", cut]) == 0
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("cut", "whole"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    rows = read_log(tmp_path / "cut" / "metrics.jsonl")
    assert [r["round"] for r in rows] == [1, 2, 3] and all(r["tokens/trained"] for r in rows)
    print(f"\ngrpo: |dlogp| {max(r['sampler/log_prob_gap_max'] for r in rows):.1e} at most")
    assert max(r["sampler/log_prob_gap_max"] for r in rows) <= PARITY
    assert {r["sampler/capped_share"] for r in rows} == {0.0}


def test_grpo_with_vllm_beside_it(world, tmp_path):
    """A server of our own on a CPU, where weights go through a folder; nothing of it is left."""
    settings = write_settings(world, tmp_path / "run", {"engine": "vllm", "python": sys.executable})
    assert main(["grpo", settings]) == 0
    rows = read_log(tmp_path / "run" / "metrics.jsonl")
    print(f"\nbeside: |dlogp| {max(r['sampler/log_prob_gap_max'] for r in rows):.1e} at most")
    assert len(rows) == 3 and max(r["sampler/log_prob_gap_max"] for r in rows) <= PARITY
    assert "POST /inference/v1/generate" in (tmp_path / "run" / "vllm-0.log").read_text()
    assert not list((tmp_path / "run").glob("pushed*"))


@pytest.fixture(scope="module")
def url(tmp_path_factory, vllm):
    """A vLLM server of the pocket base on loopback."""
    settings = engine_settings(BASE, False, torch.float32, 1024, 0.5) | {"enable_scale_out": True}
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    process = VllmProcess(Path(sys.executable), flags(settings), environment, tmp_path_factory.mktemp("server") / "log")
    yield process.server.url
    process.close()


def test_grpo_with_a_vllm_server(url, world, tmp_path):
    assert main(["grpo", write_settings(world, tmp_path / "run", {"engine": "vllm-server", "url": url})]) == 0
    rows = read_log(tmp_path / "run" / "metrics.jsonl")
    print(f"\nserved: |dlogp| {max(r['sampler/log_prob_gap_max'] for r in rows):.1e} at most")
    assert len(rows) == 3 and max(r["sampler/log_prob_gap_max"] for r in rows) <= PARITY
    assert not (tmp_path / "run" / "pushed").exists()


def test_a_server_with_other_weights_is_caught(url, world, tmp_path):
    policy = plain_policy(BASE, "look .")
    config = GRPOConfig(
        out=tmp_path, data=tmp_path, model={"path": BASE, "dtype": "float32"}, sampler={"engine": "vllm-server", "url": url}
    )  # fmt: skip
    sampler = make_sampler(policy, config, 0)
    sample = Sample("1", "s", (), "how many red objects are in the image ?", "3", "digit")
    sampler.rollout([encode_prompt(policy, sample)], 2, 8, 1.0, 0)
    shake(policy, 0.3)
    with pytest.raises(UserError, match="the sampler is not the policy"):
        sampler.compare()
    sampler.close()


@pytest.fixture(scope="module", params=["nccl", "ipc"])
def native(request, folder, tmp_path_factory, vllm):
    """A server that takes weights natively, but for the wire; its engine, and the name of the transfer."""
    transfer = {
        "weight_transfer_config": {"backend": request.param},
        "worker_extension_cls": "tests.cpu_worker.CpuTransfer",
    }
    settings = engine_settings(folder, False, torch.float32, 2048, 0.5) | transfer
    with pytest.MonkeyPatch.context() as patch:
        cpu_transfer.without_gpu(patch.setattr)
        patch.setattr(vllm_weights, "shared_handle", cpu_transfer.share)
        patch.setattr(vllm_weights, "BUFFER", 2**18)  # less than the weights: several chunks
        patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        engine = LaunchedEngine(settings, CPU, Path(sys.executable), tmp_path_factory.mktemp(request.param), 0)
        server = engine.servers[0]
        engine.choose = lambda: NcclTransfer([server]) if request.param == "nccl" else IpcTransfer(server, CPU)
        yield engine, request.param
        engine.close()


def test_native_pushes_bring_the_policy(native, folder, config, prompts):
    """vLLM's own steps, packing and loading of weights, push after push; the probe of each push compares the two."""
    engine, _ = native
    sampler = EngineSampler(plain_policy(folder, "look ."), engine, config)
    found = []
    for step in range(3):
        if step:
            shake(sampler.policy, 0.3)
            assert gap(sampler, prompts) > 100 * PARITY
        sampler.push(step)
        found.append(gap(sampler, prompts))
    print(f"\nnative: |dlogp| {max(found):.1e} at most")
    assert max(found) <= PARITY
    assert engine.servers[0].get("/weight_info")["weight_version"] == engine.transfer.routes.version


def test_a_server_says_how_it_takes_weights(native, url, monkeypatch):
    engine, backend = native
    cuda = torch.device("cuda")
    fault = no_nccl([engine.servers[0]], cuda)
    assert fault is None if backend == "nccl" else "its weight transfer: ipc" in str(fault)
    assert "its weight transfer: none" in str(no_nccl([VllmServer(url)], cuda))
    with pytest.raises(UserError, match="Weight transfer not configured"):
        vllm_weights.WeightRoutes([VllmServer(url)]).start_weight_update()


def test_what_servers_are_told_is_what_vllm_reads(folder, monkeypatch):
    """Fields of vLLM's own request classes, with the names that its model of the family loads."""
    ipc = importlib.import_module("vllm.distributed.weight_transfer.ipc_engine")
    nccl = importlib.import_module("vllm.distributed.weight_transfer.nccl_engine")
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    weights = PlainWeights(plain_policy(folder))
    chunks = list(vllm_weights.packed(weights, torch.empty(2**30, dtype=torch.uint8)))
    handle = cpu_transfer.share(torch.empty(1, dtype=torch.uint8))
    (told,) = [ipc.IPCWeightTransferUpdateInfo(**chunk, ipc_handles_pickled=handle) for chunk in chunks]
    assert list(told.ipc_handles) == ["cpu"] and ipc.IPCWeightTransferInitInfo(packed=True).packed
    stream = vllm_weights.WeightStream()
    stream.weights = weights
    declared = [(m.name, m.dtype, m.shape) for m in stream.metadata()]
    assert (
        declared
        == [(n, w.dtype, tuple(w.shape)) for n, w in weights]
        == [(n, w.dtype, tuple(w.shape)) for n, w in stream]
    )
    assert told.names == [name for name, _, _ in declared] and "lm_head.weight" in told.names
    fields = {"master_address", "master_port", "rank_offset", "world_size", "packed"}
    assert fields <= set(nccl.NCCLWeightTransferInitInfo.__dataclass_fields__)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_vllm_beside_the_policy_sleeps_and_takes_weights_by_cuda_ipc(folder, prompts, tmp_path):
    config = GRPOConfig(out=tmp_path, data=folder, model={"path": folder}, sampler={"engine": "vllm"})
    sampler = make_sampler(plain_policy(folder, "look ."), config, 0)
    sampler.rollout(prompts, 2, 24, 0.8, 0)
    awake = torch.cuda.mem_get_info()[0]
    sampler.sleep()
    assert torch.cuda.mem_get_info()[0] > awake
    shake(sampler.policy, 0.3)
    sampler.push(1)  # and its probe
    sampler.rollout(prompts, 2, 24, 0.8, 0)
    sampler.close()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs a second CUDA device, for the server")
def test_weights_go_over_nccl(folder, prompts, tmp_path, capsys):
    settings = engine_settings(folder, True, torch.bfloat16, 2048, 0.4) | {"enable_scale_out": True}
    settings |= {"weight_transfer_config": {"backend": "nccl"}}
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "CUDA_VISIBLE_DEVICES": "1"}
    process = VllmProcess(Path(sys.executable), flags(settings), environment, tmp_path / "log")
    served = {"engine": "vllm-server", "url": process.server.url, "transfer": "native"}
    config = GRPOConfig(out=tmp_path, data=folder, model={"path": folder}, sampler=served)
    try:
        sampler = make_sampler(plain_policy(folder, "look ."), config, 0)
        sampler.rollout(prompts, 2, 24, 0.8, 0)
        shake(sampler.policy, 0.3)
        sampler.push(1)  # and its probe
        sampler.close()
    finally:
        process.close()
    assert "over NCCL" in capsys.readouterr().out
