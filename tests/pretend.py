"""A device that is none: tensors hold values on the CPU and claim to lie elsewhere. What would fail or wait on a GPU shows.

An operation that mixes them with tensors of the CPU raises; every moment in which a program must wait for its device is counted.
Device and hooks are torch's own for backends in Python; they stay for the life of a process, so this runs in one of its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
_setup_privateuseone_for_python_backend("pretend")
torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(.., device=) goes through dispatch too
DEVICE = torch.device("pretend:0")
WAITS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.is_nonzero.default, aten.equal.default,
    aten.masked_select.default, aten._unique2.default,
}  # fmt: skip
MAY_MIX = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor}
waits: Counter = Counter()
"""Place in our code -> how often it waited."""


class Pretend(torch.Tensor):
    """A CPU tensor that says it lies on DEVICE."""

    own: torch.Tensor

    @staticmethod
    def __new__(cls, own: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls, own.size(), strides=own.stride(), storage_offset=own.storage_offset(), dtype=own.dtype, device=DEVICE
        )
        made.own = own
        return made

    def __repr__(self) -> str:
        return f"Pretend({self.own})"

    def tolist(self):
        wait()
        return self.own.tolist()

    def numpy(self, **_):
        raise TypeError("a tensor of a device has no numpy view")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """Sees operations without a tensor of the device too: those that make one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def wait() -> None:
    frame = sys._getframe(1)
    while frame and "/seethink/" not in frame.f_code.co_filename:
        frame = frame.f_back
    waits[f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame else "elsewhere"] += 1


def compute(func, args: tuple, kwargs: dict[str, Any]):
    """The operation on the values, its result where the operands are."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    here = [x for x in tensors if isinstance(x, Pretend)]
    there = [x for x in tensors if not isinstance(x, Pretend) and x.dim()]
    if here and there and func not in MAY_MIX:
        raise RuntimeError(
            f"{func} mixes tensors of the CPU {[tuple(x.shape) for x in there]} with those of the device"
        )
    masks = func is aten.index.Tensor and any(x is not None and x.dtype == torch.bool for x in args[1])
    if here and (func in WAITS or masks):
        wait()
    asked = kwargs.get("device")
    plain = {**kwargs, **({"device": torch.device("cpu")} if asked is not None else {})}
    plain.pop("pin_memory", None)
    out = func(*tree_map_only(Pretend, lambda x: x.own, args), **tree_map_only(Pretend, lambda x: x.own, plain))
    if func is aten.copy_.default:
        return args[0]
    to_device = bool(here) if asked is None else torch.device(asked).type == DEVICE.type
    if func is aten._to_copy.default and here and not to_device:
        wait()
    if func._schema.is_mutable:
        return args[0] if isinstance(args[0], Pretend) else out
    return tree_map_only(torch.Tensor, Pretend, out) if to_device else out


def move(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`nn.Module.to`, for weights that become tensors of another class."""
    asked = [x for x in (*args, *kwargs.values()) if isinstance(x, str | torch.device)]
    if not asked or torch.device(asked[0]).type != DEVICE.type:
        return self
    moved: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in self.modules():
        for name, weight in module._parameters.items():
            if weight is not None and not isinstance(weight.data, Pretend):
                if id(weight) not in moved:
                    moved[id(weight)] = nn.Parameter(Pretend(weight.detach()), requires_grad=weight.requires_grad)
                module._parameters[name] = moved[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None and not isinstance(buffer, Pretend):
                module._buffers[name] = Pretend(buffer)
    return self
