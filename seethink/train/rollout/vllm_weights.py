"""How weights reach vLLM's servers: from GPU to GPU by NCCL, within one GPU by CUDA IPC, or through a folder.

The first two are vLLM's own weight transfer: it is told to start an update, which names, types and shapes come, and to finish
it; the bytes travel beside HTTP. The folder serves where a GPU is missing on either side.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import os
import pickle
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

from seethink.core.errors import UserError
from seethink.train.rollout.vllm import Weights
from seethink.train.rollout.vllm_server import COMMAND, Transfer, VllmServer, at_once

NATIVE_COMMAND = COMMAND + ' --weight-transfer-config \'{"backend": "nccl"}\''
BUFFER = 2**29  # bytes of weights that CUDA IPC hands over at once; a larger matrix goes alone
DISK = "--sampler.transfer disk"


def choose_transfer(how: str, servers: list[VllmServer], folder: Path, device: torch.device) -> Transfer:
    """The transfer of `sampler.transfer` ("auto", "native", "disk"), said on standard output.

    Raises UserError where "native" cannot be had.
    """
    fault = None if how == "disk" else no_nccl(servers, device)
    if fault is None and how != "disk":
        print("sampler: weights reach the vLLM servers over NCCL")
        return NcclTransfer(servers)
    if fault is not None and how == "native":
        fault.remedy = f"{fault.remedy}, or use {DISK}" if fault.remedy else f"Use {DISK}"
        raise fault
    reason = "" if fault is None else f" ({fault})"
    print(f"sampler: weights reach the vLLM servers through {folder}{reason}")
    return DiskTransfer(servers, folder)


def no_nccl(servers: list[VllmServer], device: torch.device) -> UserError | None:
    """Why weights cannot go over NCCL, and how they could; None where they can."""
    if device.type != "cuda":
        return UserError("weights go over NCCL from a GPU, and training is on a CPU")
    if importlib.util.find_spec("vllm") is None:
        what = "weights go over NCCL by vLLM, which is not in the environment that trains"
        return UserError(what, remedy="Install it there")
    for server in servers:
        info = server.get("/server_info?config_format=json")
        backend = "none"
        if isinstance(info, dict) and isinstance(info.get("vllm_config"), dict):
            backend = (info["vllm_config"].get("weight_transfer_config") or {}).get("backend", "none")
        if backend != "nccl":
            what = f"the server does not take weights over NCCL (its weight transfer: {backend})"
            return UserError(what, where=server.url, remedy=f"Start it as {NATIVE_COMMAND}", code=3)
    return None


class DiskTransfer:
    """A folder of its own that the servers see: one file, written once, read by each of them; removed at the end."""

    def __init__(self, servers: list[VllmServer], folder: Path) -> None:
        self.servers, self.folder = servers, folder.resolve()

    def send(self, weights: Weights) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        copies = {name: w.detach().cpu().clone() for name, w in weights}  # a file cannot hold tied tensors twice
        save_file(copies, self.folder / "model.safetensors")
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}}
        at_once(self.servers, lambda server: server.post("/collective_rpc", body))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class WeightRoutes:
    """vLLM's steps of a weight update, at all servers at once. vLLM's own trainer side takes it for its client.

    Each update leaves a version of its own in the servers. One that answers with another has been restarted, or has been given
    weights by someone else: then it would not take part in the transfer, which would wait for it.
    """

    def __init__(self, servers: list[VllmServer]) -> None:
        self.servers, self.version, self.updates = servers, "", 0
        self.workers: list[int] = []  # of each server; known from the beginning where ranks are counted
        self.on_error: Callable[[], None] = lambda: None
        self.error: UserError | None = None

    def check(self) -> None:
        """Raises UserError for a server that does not hold the weights of the last update."""
        if not self.version:
            return
        for server, info in zip(self.servers, at_once(self.servers, lambda s: s.get("/weight_info")), strict=True):
            found = info.get("weight_version") if isinstance(info, dict) else None
            if found != self.version:
                what = f"the server holds weights {found!r}, not {self.version!r}: it was restarted, or another run uses it"
                remedy = "Let no one else use it, and start the same command again"
                raise UserError(what, where=server.url, remedy=remedy, code=3)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        bodies, offset = {}, init_info.get("rank_offset")
        for number, server in enumerate(self.servers):
            own = {} if offset is None else {"rank_offset": offset + sum(self.workers[:number])}
            bodies[server] = {"init_info": init_info | own}
        self._all("/init_weight_transfer_engine", bodies.__getitem__)

    def start_weight_update(self) -> None:
        self._all("/start_weight_update", lambda _: {})

    def update_weights(self, update_info: Any) -> None:
        self._all("/update_weights", lambda _: {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.updates += 1
        version = weight_version or f"{secrets.token_hex(4)}-{self.updates}"
        self._all("/finish_weight_update", lambda _: {"weight_version": version})
        self.version = version

    def shutdown(self) -> None:
        """Free the servers for another trainer."""
        self._all("/shutdown_weight_transfer_engine", lambda _: {})

    def _all(self, path: str, body: Callable[[VllmServer], dict[str, Any]]) -> None:
        try:
            at_once(self.servers, lambda server: server.post(path, body(server), once=True))
        except UserError as error:
            self.error = error
            self.on_error()
            raise


class NcclTransfer:
    """One broadcast from this GPU to those of all servers, driven by vLLM's own trainer side."""

    def __init__(self, servers: list[VllmServer]) -> None:
        self.routes, self.source = WeightRoutes(servers), WeightStream()
        self.trainer: Any = None

    def send(self, weights: Weights) -> None:
        self.source.weights = weights
        self.routes.check()
        torch.cuda.synchronize()  # vLLM reads on streams of its own, which do not wait for the update's
        try:
            if self.trainer is None:
                self.routes.shutdown()  # of a trainer that has died
                self.routes.workers = [workers_of(server) for server in self.routes.servers]
                self.trainer = join_servers(self.routes, self.source)
                self.routes.on_error = self.trainer.shutdown  # else the broadcast waits for a server that is gone
            self.trainer.send_weights()
        except (RuntimeError, ImportError) as error:  # of NCCL, of the store where its members meet, of vLLM
            raise self.routes.error or UserError(
                f"weights do not reach the vLLM servers over NCCL ({error})",
                where="sampler",
                remedy=f"Give every server GPUs of its own that reach this one, start them again, or use {DISK}",
                code=3,
            ) from None

    def close(self) -> None:
        if self.trainer is not None:
            self.trainer.shutdown()
            if self.routes.error is None:
                try:
                    self.routes.shutdown()
                except UserError as error:  # the run has what it wanted
                    print(f"sampler: {error}")


class WeightStream:
    """The weights as vLLM's trainer side reads them: what will come, then the weights in that order, push after push."""

    def __init__(self) -> None:
        self.weights: Weights = ()
        self._declared: list[Any] | None = None

    def metadata(self) -> list[Any]:
        if self._declared is None:
            meta: Any = importlib.import_module("vllm.distributed.weight_transfer").ParamMeta
            self._declared = [meta(name, w.dtype, tuple(w.shape)) for name, w in self.weights]
        return self._declared

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.weights)


def join_servers(routes: WeightRoutes, source: WeightStream) -> Any:
    """vLLM's trainer side, in one NCCL group with every worker of the servers. Raises RuntimeError without NCCL."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    transfer: Any = importlib.import_module("vllm.distributed.weight_transfer")
    nccl: Any = importlib.import_module("vllm.distributed.weight_transfer.nccl_engine")
    address = address_towards([server.url for server in routes.servers])
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    init = nccl.NCCLTrainerInitInfo(address, port, 1 + sum(routes.workers), rank=0)
    trainer = transfer.WeightTransferTrainerFactory.trainer_init(init, client=routes, source=source)
    if trainer.model_update_group.disabled:  # vLLM goes on without a word, and would send nothing
        raise RuntimeError("vLLM finds no NCCL library in the environment that trains")
    return trainer


def workers_of(server: VllmServer) -> int:
    """GPUs behind a server."""
    answer = server.get(path := "/get_world_size")
    if not (isinstance(answer, dict) and isinstance(answer.get("world_size"), int)):
        raise server.no_vllm(path, "without world_size")
    return answer["world_size"]


def address_towards(urls: list[str]) -> str:
    """This machine's address as the servers see it: loopback only where all of them are on it."""
    found = []
    for url in urls:
        parts = urlsplit(url)
        family, _, _, _, place = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as towards:  # nothing is sent
            towards.connect(place)
            found.append(towards.getsockname()[0])
    return next((address for address in found if not address.startswith("127.") and address != "::1"), found[0])


class IpcTransfer:
    """A buffer that trainer and server on one GPU both see, filled again and again; the server copies out of it."""

    def __init__(self, server: VllmServer, device: torch.device) -> None:
        self.routes, self.device = WeightRoutes([server]), device
        self.largest = 0  # bytes of a matrix; 0: not known yet

    def send(self, weights: Weights) -> None:
        if not self.largest:
            self.largest = max(weight.nbytes for _, weight in weights)
            self.routes.init_weight_transfer_engine({"packed": True})
        self.routes.check()
        self.routes.start_weight_update()
        buffer = torch.empty(max(BUFFER, self.largest), dtype=torch.uint8, device=self.device)
        handle = shared_handle(buffer)
        for chunk in packed(weights, buffer):
            if buffer.is_cuda:
                torch.cuda.synchronize(buffer.device)
            self.routes.update_weights(chunk | {"ipc_handles_pickled": handle})
        self.routes.finish_weight_update()
        if buffer.is_cuda:
            del buffer
            torch.cuda.ipc_collect()

    def close(self) -> None:
        """The server ends with the run."""


def shared_handle(buffer: Tensor) -> str:
    """What another process needs to see a CUDA tensor, under the name of its GPU, as text that vLLM reads."""
    _, arguments = reduce_tensor(buffer)
    gpu = str(torch.cuda.get_device_properties(buffer.device).uuid)
    return base64.b64encode(pickle.dumps({gpu: arguments})).decode()


def packed(weights: Weights, buffer: Tensor) -> Iterator[dict[str, Any]]:
    """Weights one after another in the buffer [bytes], as many as it holds, and the words for vLLM to find them.

    A chunk must have been read before the next one is asked for.
    """
    chunk: dict[str, list[Any]] = {}
    end = 0
    for name, weight in weights:
        if end and end + weight.nbytes > buffer.numel():
            yield chunk
            chunk, end = {}, 0
        buffer[end : end + weight.nbytes] = weight.detach().contiguous().view(-1).view(torch.uint8)
        end += weight.nbytes
        words = {"names": name, "shapes": list(weight.shape), "tensor_sizes": weight.nbytes}
        words["dtype_names"] = str(weight.dtype).removeprefix("torch.")
        for key, word in words.items():
            chunk.setdefault(key, []).append(word)
    if end:
        yield chunk
