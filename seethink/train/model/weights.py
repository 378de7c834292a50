"""The weights of a model folder: the model is built without any, then filled from the files, one tensor at a time.

A process of several holds its shards from the beginning and reads only their rows, so none ever holds the whole model.
transformers gives the model, its names of old and of now; the files are read here, where nothing is filled up with random
numbers: what is missing, unknown, misshapen or not finite is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from seethink.core.errors import UserError
from seethink.train.dist import part_of, rows_of
from seethink.train.model.folder import FETCH, INDEX, read_part, weight_files
from seethink.train.model.pack import ATTENTION
from seethink.train.model.parts import reading

PRECISIONS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
GENERATION = "generation_config.json"


def empty_model(folder: Path, dtype: torch.dtype) -> Any:
    """The model in this precision, its parameters without memory (meta), its buffers whole: no file holds them.

    Raises UserError for a config that describes no model.
    """
    attention = {"": "sdpa", "text_config": ATTENTION, "vision_config": "sdpa"}
    with reading("the model cannot be read", folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with init_empty_weights(include_buffers=False):
            model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=attention)
        model.tie_weights()  # each parameter was made anew on its way to meta
        if (folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    text = model.config.text_config
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    section = (text.rope_parameters or {}).get("mrope_section") or []
    if 2 * sum(section) != size:
        what = f"mrope_section {section} does not fit heads of {size} values"
        raise UserError(what, where=folder / "config.json", remedy=FETCH)
    return model


class StoredTensor(NamedTuple):
    """A tensor of a file, before it is read."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def stored_tensors(folder: Path) -> Iterator[StoredTensor]:
    """All that the files of a folder hold, by their headers."""
    index = folder / INDEX
    for path in weight_files(folder, read_part(index) if index.is_file() else None):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_slice(key)
                yield StoredTensor(path, key, tuple(tensor.get_shape()), PRECISIONS[tensor.get_dtype()])


def stored_precision(folder: Path) -> torch.dtype | None:
    """The precision of all tensors of a folder; None where they differ."""
    found = {tensor.dtype for tensor in stored_tensors(folder)}
    return found.pop() if len(found) == 1 else None


@torch.no_grad()
def read_weights(model: Any, folder: Path) -> None:
    """Fill the parameters of a model that `empty_model` made, adapters aside; of a sharded one this rank's rows.

    Raises UserError where a tensor is missing, unknown, misshapen, not finite, or differs from one that it is tied to.
    """
    named = model.named_parameters(remove_duplicate=False)  # tied ones under both names: a file may have either
    parameters = {n.replace(".base_layer", ""): p for n, p in named if "lora_" not in n}
    with reading("the model cannot be read", folder):
        stored = _by_name(model, parameters, folder)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    found = {id(parameters[name]) for name in stored if name in parameters}
    faults = {
        "are missing": [name for name, parameter in parameters.items() if id(parameter) not in found],
        "are unknown": [name for name in stored if name not in shapes],
        "have another shape": [
            name for name, tensor in stored.items() if shapes.get(name, tensor.shape) != tensor.shape
        ],
    }
    for what, names in faults.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"weights {what}: {', '.join(sorted(names)[:3])}{more}", where=folder, remedy=FETCH)
    filled: dict[int, str] = {}
    for file in sorted({tensor.file for tensor in stored.values()}):
        with safe_open(file, framework="pt") as tensors:
            for name, tensor in stored.items():
                if tensor.file == file:
                    rows = tensors.get_slice(tensor.key)[rows_of(parameters[name])]
                    _fill(parameters[name], rows, name, filled, folder)


def _fill(parameter: Tensor, rows: Tensor, name: str, filled: dict[int, str], folder: Path) -> None:
    """This rank's part of a parameter; `filled`: those that have been, {id: name}."""
    part = part_of(parameter)
    if tied := filled.get(id(parameter)):
        if not torch.equal(part, rows.to(part)):
            what = f"{name} and {tied} are tied by config.json, and differ"
            raise UserError(what, where=folder, remedy="Set tie_word_embeddings of config.json to false")
        return
    part.copy_(rows)
    if not torch.isfinite(part).all():
        what = f"weights are not finite (NaN or infinity): {name}"
        raise UserError(what, where=folder, remedy="Take a checkpoint from before they diverged")
    filled[id(parameter)] = name


def _by_name(model: Any, parameters: dict[str, Tensor], folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a folder by the names that the model has for them, which may be younger than the files.

    The model remembers how, and is saved under the old ones.
    """
    renamings = [t for t in get_model_conversion_mapping(model) if isinstance(t, WeightRenaming)]
    stored = {}
    for tensor in stored_tensors(folder):
        name, _ = rename_source_key(tensor.key, renamings, [], model.base_model_prefix, parameters)
        stored[tensor.key if name not in parameters and tensor.key in parameters else name] = tensor
    model._weight_conversions = [t for t in renamings if t.was_used()]  # where save_pretrained looks for them
    return stored
