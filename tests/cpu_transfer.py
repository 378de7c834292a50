"""vLLM's weight transfer without a GPU: all of it is vLLM's own but the wire.

In the place of CUDA memory that two processes see: main memory that two processes see. In the place of NCCL: vLLM's own store.
"""

from __future__ import annotations

import base64
import importlib
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch


class StoreBroadcast:
    """What the two sides ask of an NCCL communicator, over the TCP store where NCCL's members would meet."""

    disabled = False

    def __init__(self, address: str, port: int, rank: int, world: int) -> None:
        group: Any = importlib.import_module("vllm.distributed.utils").StatelessProcessGroup
        self.rank, self.group = rank, group.create(address, port, rank, world, store_timeout=60)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: object = None) -> None:
        data = self.group.broadcast_obj(tensor.numpy().tobytes() if self.rank == src else None, src)
        if self.rank != src:
            tensor.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def destroy(self) -> None:
        """The store ends with the process."""


def share(buffer: torch.Tensor) -> str:
    """As vllm_weights.shared_handle does for CUDA memory: the buffer moves to where others see it."""
    manager, handle, size = buffer.untyped_storage()._share_filename_cpu_()
    return base64.b64encode(pickle.dumps({"cpu": (manager, handle, size, *[None] * 5)})).decode()


def see(_: object, arguments: list) -> torch.Tensor:
    storage: Any = torch.UntypedStorage._new_shared_filename_cpu(*arguments[:3])
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def without_gpu(change: Callable[[Any, str, Any], None]) -> None:
    """Take CUDA out of vLLM's transfer by `change(object, name, value)`, in this process."""
    nccl, packed = (
        importlib.import_module(f"vllm.distributed.weight_transfer.{m}") for m in ("nccl_engine", "packed_tensor")
    )

    def join(init: Any, parallel: Any) -> StoreBroadcast:
        return StoreBroadcast(init.master_address, init.master_port, init.rank_offset + parallel.rank, init.world_size)

    change(nccl, "worker_init_process_group", join)
    change(nccl, "open_trainer_endpoint", lambda i: StoreBroadcast(i.master_address, i.master_port, 0, i.world_size))
    change(packed, "_get_streams", lambda device, count: (SimpleNamespace(synchronize=lambda: None),) * count)
    change(packed.PackedBufferImporter, "rebuild", see)
    change(torch.cuda, "stream", lambda _: nullcontext())
    change(torch.cuda, "synchronize", lambda *_: None)
    change(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="cpu"))
    change(torch.accelerator, "current_device_index", lambda: 0)
    change(torch.accelerator, "synchronize", lambda *_: None)
