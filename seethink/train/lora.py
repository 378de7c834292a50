"""LoRA on the language model: small trainable matrices beside frozen weights; switched off, the policy is its reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

TARGETS = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj"


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Adapters on every projection of the language layers, in place; everything else is frozen.

    Names and structure of the model stay, so packing, sampling and FSDP see what they saw before.
    """
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def has_lora(model: nn.Module) -> bool:
    return any(isinstance(m, BaseTunerLayer) for m in model.modules())


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """The model as it was before training, without a second copy of its weights."""
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """State dict of the plain model with the adapters merged in; the model itself is left as it was."""
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.merge()
    weights = {
        n.replace(".base_layer", ""): w.detach().clone() for n, w in model.state_dict().items() if "lora_" not in n
    }
    for layer in layers:
        layer.unmerge()
    return weights
