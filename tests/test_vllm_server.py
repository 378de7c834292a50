"""vLLM's servers without vLLM: how weights reach them, step by step, and what stops it; servers that are started here.

A stand-in (tests/fake_vllm.py) takes the calls in the order in which vLLM does. The real one is asked in test_vllm.py.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from seethink.core.errors import UserError
from seethink.train.config import SamplerConfig
from seethink.train.rollout import vllm_launch, vllm_server, vllm_weights
from seethink.train.rollout.vllm import Request, engine_settings
from seethink.train.rollout.vllm_launch import LaunchedEngine, VllmProcess, flags, visible_device
from seethink.train.rollout.vllm_server import ServerEngine, VllmServer
from seethink.train.rollout.vllm_weights import DiskTransfer, IpcTransfer, NcclTransfer, choose_transfer
from tests.fake_vllm import FakeVllm
from tests.raw_api import RawApi

FRESH = ["/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"]
UPDATE = ["/start_weight_update", "/update_weights", "/finish_weight_update"]
PUSH = ["/pause?mode=abort", *UPDATE, *FRESH, "/resume"]
JOIN = ["/shutdown_weight_transfer_engine", "/get_world_size", "/init_weight_transfer_engine"]
WEIGHTS = [(f"layer.{i}", torch.arange(6.0).view(2, 3).bfloat16() + i) for i in range(5)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(vllm_server, "PAUSE", 0.05)
    monkeypatch.setattr(vllm_server, "ANSWERING", 0.5)
    monkeypatch.setattr(vllm_launch, "POLLING", 0.05)


@pytest.fixture
def servers():
    """Two servers, of two GPUs and of one."""
    with FakeVllm(workers=2) as first, FakeVllm(workers=1) as second:
        yield [first, second]


class Trainer:
    """In the place of vLLM's trainer side, with its steps in its order; the broadcast lasts until it is aborted or all took part."""

    def __init__(self, routes, source, broadcast: float = 0.0) -> None:
        self.routes, self.source, self.broadcast = routes, source, broadcast
        self.sent, self.aborted = [], threading.Event()
        self.routes.init_weight_transfer_engine({"rank_offset": 1, "world_size": 1 + sum(routes.workers)})

    def send_weights(self) -> None:
        self.routes.start_weight_update()
        failed = []

        def ask() -> None:
            try:
                self.routes.update_weights({"names": [name for name, _ in self.source]})
            except UserError as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        if self.broadcast:
            assert self.aborted.wait(self.broadcast), "the broadcast waits for ever"
        asking.join()
        if failed:
            raise failed[0]
        self.sent.append([name for name, _ in self.source])
        self.routes.finish_weight_update()

    def shutdown(self) -> None:
        self.aborted.set()


@pytest.fixture
def nccl(servers, monkeypatch):
    """An engine over both servers whose bytes go nowhere; its trainer side."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(vllm_weights, "join_servers", Trainer)
    known = [VllmServer(server.url) for server in servers]
    return ServerEngine(known, lambda: NcclTransfer(known))


def test_a_native_push_is_paused_updated_forgotten_and_resumed(nccl, servers):
    nccl.load(WEIGHTS)
    nccl.load(WEIGHTS)
    again = [PUSH[0], "/weight_info", *PUSH[1:]]
    for server, offset in zip(servers, (1, 3), strict=True):
        assert server.calls == [PUSH[0], *JOIN, *PUSH[1:], *again] and not server.paused
        bodies = dict(server.bodies)
        assert bodies["/init_weight_transfer_engine"] == {"init_info": {"rank_offset": offset, "world_size": 4}}
        assert bodies["/update_weights"] == {"update_info": {"names": [name for name, _ in WEIGHTS]}}
    assert servers[0].version == servers[1].version != "default"
    assert nccl.transfer.trainer.sent == [[name for name, _ in WEIGHTS]] * 2, "the source is read again at every push"
    nccl.close()
    assert servers[1].calls[-1] == "/shutdown_weight_transfer_engine" and nccl.transfer.trainer.aborted.is_set()


def test_a_server_that_was_restarted_is_found_before_the_broadcast_waits_for_it(nccl, servers):
    nccl.load(WEIGHTS)
    servers[1].version = "default"
    with pytest.raises(UserError, match="holds weights 'default', not '.*-1': it was restarted") as error:
        nccl.load(WEIGHTS)
    assert error.value.where == servers[1].url and servers[0].calls[-1] == "/weight_info" and servers[0].paused


@pytest.mark.parametrize(
    ("path", "fault", "match"),
    [
        (
            "/pause",
            (404, "Not Found"),
            r"/pause.* answers 404.*VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out",
        ),
        ("/get_world_size", b"{}", "none of vLLM's"),
        ("/init_weight_transfer_engine", (500, "no route to host"), "no route to host"),
        ("/start_weight_update", (500, "called while a weight update is already active"), "already active"),
        ("/update_weights", (500, "shape mismatch"), "/update_weights answers 500.*shape mismatch"),
        ("/update_weights", 5.0, "no answer to /update_weights in 0.5 seconds"),
        ("/finish_weight_update", (500, "out of memory"), "out of memory"),
        ("/reset_prefix_cache", b'{"success": false}', "did not reset its prefix cache"),
    ],
)
def test_one_server_that_fails_ends_the_push(nccl, servers, path, fault, match, monkeypatch):
    """At once, though the other one waits in the broadcast; and both stay paused, for half of the weights are new."""
    monkeypatch.setattr(
        vllm_weights, "join_servers", lambda *given: Trainer(*given, broadcast=20.0 * ("update_w" in path))
    )
    servers[1].faults[path] = fault
    if path == "/update_weights":
        servers[0].faults[path] = 9.0  # as a server does whose broadcast does not come
        monkeypatch.setattr(vllm_server, "ANSWERING", 0.5 if isinstance(fault, float) else 60.0)
    began = time.monotonic()
    with pytest.raises(UserError, match=match) as error:
        nccl.load(WEIGHTS)
    assert error.value.code == 3 and time.monotonic() - began < 4
    assert path == "/pause" or error.value.where in (servers[0].url, servers[1].url) and servers[0].paused
    nccl.close()


def test_a_failed_broadcast_says_what_to_do(nccl, monkeypatch):
    monkeypatch.setattr(
        Trainer, "send_weights", lambda self: (_ for _ in ()).throw(RuntimeError("Duplicate GPU detected"))
    )
    with pytest.raises(
        UserError, match=r"over NCCL \(Duplicate GPU detected\).*GPUs of its own.*--sampler.transfer disk"
    ):
        nccl.load(WEIGHTS)


def test_weights_through_a_folder(servers, tmp_path):
    known = [VllmServer(server.url) for server in servers]
    engine = ServerEngine(known, lambda: DiskTransfer(known, tmp_path / "pushed"))
    engine.load(iter(WEIGHTS))
    for server in servers:
        assert server.calls == ["/pause?mode=abort", "/collective_rpc", *FRESH, "/resume"]
        assert server.bodies[0][1] == {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "pushed")}}
    found = load_file(tmp_path / "pushed" / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in WEIGHTS) and len(found) == len(WEIGHTS)
    engine.close()
    assert not (tmp_path / "pushed").exists()


@pytest.mark.parametrize(
    ("how", "device", "installed", "backend", "said"),
    [
        ("auto", "cuda", True, "nccl", "weights reach the vLLM servers over NCCL"),
        ("native", "cuda", True, "nccl", "weights reach the vLLM servers over NCCL"),
        ("disk", "cuda", True, "nccl", "weights reach the vLLM servers through"),
        ("auto", "cpu", True, "nccl", "training is on a CPU"),
        ("auto", "cuda", False, "nccl", "not in the environment that trains"),
        ("auto", "cuda", True, "ipc", "its weight transfer: ipc"),
        ("auto", "cuda", True, "", """--weight-transfer-config '{"backend": "nccl"}'"""),
    ],
)
def test_weights_go_natively_where_they_can(how, device, installed, backend, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vllm_weights.importlib.util, "find_spec", lambda name: installed or None)
    with FakeVllm() as good, FakeVllm(backend) as server:
        asked = [VllmServer(good.url), VllmServer(server.url)], tmp_path, torch.device(device)
        chosen = choose_transfer(how, *asked)
        out = capsys.readouterr().out
        assert said in out and isinstance(chosen, NcclTransfer) == ("over NCCL" in said and how != "disk")
        if "over NCCL" not in out:
            assert str(tmp_path) in out and "transfer disk" not in out
        if how == "auto" and "over NCCL" not in said:
            with pytest.raises(UserError, match="[Uu]se --sampler.transfer disk"):
                choose_transfer("native", *asked)


def test_requests_go_to_the_servers_in_turn(servers):
    engine = ServerEngine([VllmServer(server.url) for server in servers], lambda: pytest.fail("no weights"))
    answers = engine.generate([Request([i], [], {}) for i in range(5)])
    assert [answer.prompt for answer in answers] == [[i] for i in range(5)]
    assert [len(server.calls) for server in servers] == [3, 2]
    engine.close()


def test_a_server_that_comes_late_is_asked_again(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    late = VllmServer(f"http://127.0.0.1:{port}")
    with pytest.raises(UserError, match="cannot be reached") as error:
        late.forget()
    assert error.value.code == 3 and "\n" not in str(error.value)
    monkeypatch.setattr(vllm_server.time, "sleep", lambda _: started.enter_context(FakeVllm(port=port)))
    with ExitStack() as started:
        late.post("/resume")
    with pytest.raises(UserError, match="cannot be reached"), ExitStack() as started:
        late.post("/start_weight_update", once=True)


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b"{}", b"null", b'{"prompt_token_ids": [], "choices": [{"index": 0}]}']
)
def test_another_server_is_one_line(answer):
    with RawApi(answer) as api:
        other = VllmServer(f"http://{api.address}")
        with pytest.raises(UserError, match="none of vLLM's") as error:
            other.generate(Request([1], [], {}))
        with pytest.raises(UserError):
            other.forget()
    assert error.value.code == 3


def test_settings_that_cannot_be_meant():
    for wrong in (
        {"transfer": "disk"},
        {"python": "p"},
        {"engine": "vllm-server", "transfer": "native", "weights": "w"},
    ):
        with pytest.raises(ValidationError, match="leave"):
            SamplerConfig(**wrong)


# ------------------------------------------------------------------------------------------------------ beside this process


@pytest.fixture
def python(tmp_path) -> Path:
    """A Python whose vLLM is the stand-in."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("fake_vllm.py")}" "$@"\n')
    program.chmod(0o755)
    return program


def test_weights_in_one_buffer_come_out_as_they_went_in():
    """Three of five weights of 12 bytes fit into 40; what vLLM is told cuts the buffer where it was filled."""
    buffer, found = torch.zeros(40, dtype=torch.uint8), {}
    sizes = []
    for chunk in vllm_weights.packed(WEIGHTS, buffer):
        parts = buffer[: sum(chunk["tensor_sizes"])].clone().split(chunk["tensor_sizes"])
        sizes.append(len(parts))
        for name, shape, dtype, part in zip(chunk["names"], chunk["shapes"], chunk["dtype_names"], parts, strict=True):
            found[name] = part.view(getattr(torch, dtype)).view(shape)
    assert sizes == [3, 2] and list(found) == [name for name, _ in WEIGHTS]
    assert all(torch.equal(found[name], weight) for name, weight in WEIGHTS)


@pytest.fixture
def beside(python, tmp_path, monkeypatch):
    """An engine as on the second GPU, with its buffer in main memory."""
    monkeypatch.setattr(vllm_launch, "IpcTransfer", lambda server, device: IpcTransfer(server, torch.device("cpu")))
    monkeypatch.setattr(vllm_weights, "BUFFER", 40)
    monkeypatch.setattr(vllm_weights, "shared_handle", lambda b: base64.b64encode(pickle.dumps(b.numel())).decode())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("RANK", "1")
    settings = engine_settings(tmp_path, True, torch.bfloat16, 512, 0.4)
    engine = LaunchedEngine(settings, torch.device("cuda", 1), python, tmp_path, rank=1)
    yield engine
    engine.close()


def test_vllm_beside_the_policy_sleeps_while_it_is_updated(beside, tmp_path):
    beside.load(WEIGHTS)
    beside.generate([Request([1], [], {})])
    beside.sleep()
    beside.sleep()
    with pytest.raises(UserError, match="paused"):
        beside.generate([Request([1], [], {})])
    beside.load(WEIGHTS)
    beside.generate([Request([1], [], {})])
    first, *calls = (tmp_path / "vllm-1.log").read_text().splitlines()
    update = ["/start_weight_update", *["/update_weights"] * 2, "/finish_weight_update"]
    generated = "/inference/v1/generate"
    assert calls == [
        "/pause?mode=abort", "/init_weight_transfer_engine", *update, *FRESH, "/resume", generated,
        "/sleep?level=2&mode=abort", generated,
        "/wake_up?tags=weights", "/weight_info", *update, "/wake_up?tags=kv_cache", *FRESH, generated,
    ]  # fmt: skip
    given = json.loads(first)
    assert {"CUDA_VISIBLE_DEVICES": "7", "VLLM_SERVER_DEV_MODE": "1"}.items() <= given["environment"].items()
    assert "RANK" not in given["environment"], "vLLM is one process, whatever it was started from"
    pairs = list(zip(given["arguments"], given["arguments"][1:], strict=False))
    assert ("--host", "127.0.0.1") in pairs and ("--gpu-memory-utilization", "0.4") in pairs
    assert ("--weight-transfer-config", '{"backend": "ipc"}') in pairs and "--enable-sleep-mode" in given["arguments"]


def test_the_arguments_of_a_server_are_those_of_the_engine():
    found = flags({"max_model_len": 5, "enforce_eager": True, "enable_chunked_prefill": False, "limit": {"video": 0}})
    assert found == [
        "--max-model-len",
        "5",
        "--enforce-eager",
        "--no-enable-chunked-prefill",
        "--limit",
        '{"video": 0}',
    ]


def test_a_gpu_is_named_as_it_was_given(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_device(torch.device("cuda", 3)) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert visible_device(torch.device("cuda", 1)) == "GPU-b"


def test_a_server_that_does_not_start_shows_its_log(python, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"ended with code 1 before it answered \(.*OSError: no such model\)") as error:
        (tmp_path / "log").write_text("MemoryError: of an earlier start\n")
        VllmProcess(python, ["--refuse"], dict(os.environ), tmp_path / "log")
    assert error.value.where == str(tmp_path / "log")
    with pytest.raises(UserError, match="cannot be started"):
        VllmProcess(tmp_path / "none", [], dict(os.environ), tmp_path / "log")
    python.write_text("#!/bin/sh\necho $$ > pid\nsleep 60\n")
    monkeypatch.setattr(vllm_launch, "STARTING", 0.3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not answer 0.3 seconds after its start"):
        VllmProcess(python, [], dict(os.environ), tmp_path / "log")
    assert ended(int((tmp_path / "pid").read_text()))


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for its exit code to be read, within seconds."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_closing_ends_what_the_server_has_started(python, tmp_path, monkeypatch):
    text = python.read_text().replace("exec", "trap '' TERM; sleep 60 & echo $! > worker\nexec")
    python.write_text(text.replace("> worker", f"> {tmp_path / 'worker'}"))
    process = VllmProcess(python, [], dict(os.environ), tmp_path / "log")
    worker = int((tmp_path / "worker").read_text())
    monkeypatch.setattr(vllm_launch, "ENDING", 1.0)
    process.close()
    assert ended(process.process.pid) and ended(worker)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not end children with their parents")
def test_a_server_does_not_outlive_a_killed_run(python, tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from seethink.train.rollout.vllm_launch import VllmProcess\n"
        f"p = VllmProcess(Path({str(python)!r}), [], dict(os.environ), Path({str(tmp_path / 'log')!r}))\n"
        "print(p.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        pid = int(run.stdout.readline())
        assert not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
        run.send_signal(signal.SIGKILL)
    assert ended(pid)
