"""LoRA on the language model: small trainable matrices beside frozen weights; switched off, the policy is its reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from seethink.train.dist import like, whole

TARGETS = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj"


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Adapters on every projection of the language layers, in place; everything else is frozen.

    Names and structure of the model stay, so packing, sampling and FSDP see what they saw before.
    """
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=cast(int, alpha), target_modules=TARGETS), model)
    layers: list[Any] = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False  # up to the adapters' precision, only for autocast to cast back
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def _adapted(model: nn.Module) -> list[BaseTunerLayer]:
    return [m for m in model.modules() if isinstance(m, BaseTunerLayer)]


def has_lora(model: nn.Module) -> bool:
    return bool(_adapted(model))


@torch.no_grad()
def begin_adapters(model: nn.Module, seed: int) -> None:
    """Adapters that change nothing yet, A drawn as peft draws it, B zero: the same on every rank and after a restart."""
    generator = torch.Generator().manual_seed(seed)
    for layer in _adapted(model):
        a, b = (getattr(layer, f"lora_{x}")["default"].weight for x in "AB")
        if not a.is_meta:  # else their memory is still to come
            drawn = nn.init.kaiming_uniform_(torch.empty(a.shape), a=math.sqrt(5), generator=generator)
            a.copy_(like(drawn, a))
            b.zero_()


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """The model as it was before training, without a second copy of its weights."""
    layers = _adapted(model)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def full_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and values of a plain model's weights, adapters merged in; the model itself is left as it was.

    Sharded weights come whole, one at a time; every rank must iterate. Tied weights come once, as the embedding.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if "lora_" in name:
            continue
        weight = whole(parameter.detach())
        if name.endswith(".base_layer.weight"):
            projection = name.removesuffix(".base_layer.weight")
            a, b = (whole(parameters[f"{projection}.lora_{x}.default.weight"].detach()) for x in "AB")
            adapted: Any = model.get_submodule(projection)
            weight = weight + (b @ a) * adapted.scaling["default"]  # in fp32
        yield name.replace(".base_layer", ""), weight


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """The adapters by the names that peft gives them, on the CPU; empty without any. Every rank must ask."""
    found = {n: whole(p.detach()) for n, p in model.named_parameters() if "lora_" in n}
    return {f"base_model.model.{n.replace('.default', '')}": w.cpu().contiguous() for n, w in found.items()}


def adapter_config(rank: int, alpha: float, base: str) -> LoraConfig:
    """What peft reads beside them."""
    return LoraConfig(
        r=rank, lora_alpha=cast(int, alpha), target_modules=TARGETS, base_model_name_or_path=base, inference_mode=True
    )
