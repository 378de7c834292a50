"""A policy as a folder on disk: a plain model that transformers and vLLM load, and its adapters as peft loads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from seethink.core.errors import UserError
from seethink.core.store import write_text
from seethink.train.model.lora import adapter_config, adapter_weights, full_weights
from seethink.train.model.parts import save_pixels
from seethink.train.model.policy import Policy

SIDE_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def save_policy(policy: Policy, folder: Path) -> None:
    """Plain Hugging Face folder that transformers and vLLM load: weights, config, tokenizer, processor, template.

    Every rank calls it, the first one writes.
    """
    weights = {}
    for name, weight in full_weights(policy.model):
        if policy.ranks.first:
            weights[name] = weight.cpu().float()  # frozen ones may be held in another
    with policy.ranks.together():
        if policy.ranks.first:
            write_policy(policy, weights, folder)


def save_adapters(policy: Policy, folder: Path) -> None:
    """LoRA adapters alone, as peft and vLLM load them onto the model that they were trained on; nothing without LoRA.

    Every rank calls it, the first one writes.
    """
    weights = adapter_weights(policy.model)
    layer = next((m for m in policy.model.modules() if isinstance(m, BaseTunerLayer)), None)
    if layer is None or not policy.ranks.first:
        return
    of: Any = layer
    folder.mkdir(exist_ok=True)
    adapter_config(of.r["default"], of.lora_alpha["default"], str(policy.folder)).save_pretrained(str(folder))
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})


def write_policy(policy: Policy, weights: dict[str, Tensor], folder: Path) -> None:
    temporary = Path(folder).with_name(Path(folder).name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        policy.model.save_pretrained(temporary, state_dict=weights)
        policy.tokenizer.save_pretrained(temporary)
        for name in SIDE_FILES:
            if (policy.folder / name).is_file() and not (temporary / name).exists():
                shutil.copyfile(policy.folder / name, temporary / name)
        if policy.image_processor and any((temporary / name).is_file() for name in SIDE_FILES[:2]):
            save_pixels(temporary, policy.image_processor)
        if policy.system:  # whoever asks the model later asks it as it was trained
            write_text(temporary / "system.txt", policy.system)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except SafetensorError as error:  # hides the cause of a failed write
        raise UserError(
            f"cannot write the model ({error})",
            where=folder,
            remedy="Free some space; the same command then continues",
            code=1,
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
