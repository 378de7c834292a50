"""The parts of a model folder as transformers makes them: tokenizer with its chat template, image processor, ends.

Each is checked against the others before it is used: no id beyond the embedding, no template that leaves out images or
the system prompt. Whatever transformers raises about a folder becomes one line that names it.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from PIL import Image
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoTokenizer, Qwen2VLImageProcessorPil
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from seethink.core.errors import UserError
from seethink.core.store import read_json, read_text, write_json
from seethink.train.config import ModelConfig, system_prompt
from seethink.train.model.folder import FETCH, MODELS, check_folder, image_settings, pixel_budget

transformers_logging.disable_progress_bar()  # ours says what takes time
transformers_logging.set_verbosity_error()  # what it warns of is refused here

TEMPLATE_REMEDY = "Give one: --model.chat_template FILE (eval: --chat_template FILE)"
STOP_REMEDY = "Name one of its tokens: --model.stop TOKEN (eval: --stop TOKEN)"
PROCESSORS = {f"Qwen2{name}" for name in ("VLImageProcessor", "VLImageProcessorFast", "_5_VLImageProcessor")}
"""image_processor_type of what is one processor under several names."""
CHECKED = ("patch_size", "temporal_patch_size", "merge_size")
FAULTS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError,
    EOFError, UnpicklingError, BadZipFile, SafetensorError, StrictDataclassError, TemplateError, CheckpointException,
)  # fmt: skip
"""What libraries raise about a folder whose files do not fit together."""


class reading:  # noqa: N801 - reads as the statement it makes
    """Turns what a library says about a damaged part into one line."""

    def __init__(self, what: str, where: Path, remedy: str = FETCH):
        self.what, self.where, self.remedy = what, where, remedy

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is None or issubclass(kind, torch.OutOfMemoryError):
            return
        if kind is Exception or issubclass(kind, FAULTS):  # tokenizers raises Exception itself
            reason = " ".join(str(error).split())[:200] or kind.__name__
            raise UserError(f"{self.what} ({reason})", where=self.where, remedy=self.remedy) from None


class Tools(NamedTuple):
    """What turns a sample into token ids: a model folder without its weights."""

    config: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase
    image_processor: Any
    """A Qwen image processor of transformers."""
    system: str


def load_tools(settings: ModelConfig, weights: bool = True) -> Tools:
    """Raises UserError naming what is wrong with the folder, its files against each other included.

    `weights` False: they need not be there yet.
    """
    config, system = check_folder(settings.path, weights), system_prompt(settings)
    tokenizer = load_tokenizer(settings, config)
    check_template(tokenizer, system, config["image_token_id"], settings.chat_template or settings.path)
    budget = settings.min_pixels, settings.max_pixels
    return Tools(config, tokenizer, load_processor(settings.path, config["vision_config"], budget), system)


def load_tokenizer(settings: ModelConfig, config: dict[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer with its chat template. Raises UserError for one without, or with ids beyond the embedding."""
    folder, template = settings.path, settings.path / "chat_template.json"
    with reading("the tokenizer cannot be read", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        words = tokenizer.get_vocab()
    size = config.get("text_config", config)["vocab_size"]
    if beyond := sorted((i, word) for word, i in words.items() if i >= size):
        what = f"token {beyond[0][1]!r} has id {beyond[0][0]}, but the embedding has {size} rows"
        remedy = "Call resize_token_embeddings(len(tokenizer)) of transformers and save model and tokenizer"
        raise UserError(what, where=folder, remedy=remedy)
    if settings.chat_template:
        tokenizer.chat_template = read_template(settings.chat_template)
    elif template.is_file():  # the text template of tokenizer_config.json knows no images
        tokenizer.chat_template = read_template(template)
    if not tokenizer.chat_template:
        what = "no chat template: this is a base model, or a file is missing"
        raise UserError(what, where=folder, remedy=TEMPLATE_REMEDY)
    return tokenizer


def read_template(path: Path) -> str:
    """A Jinja template, in a file of its own or under `chat_template` in JSON."""
    text = read_json(path) if path.suffix == ".json" else {"chat_template": read_text(path)}
    if not isinstance(text, dict) or not isinstance(text.get("chat_template"), str):
        raise UserError("holds no chat_template", where=path, remedy=TEMPLATE_REMEDY)
    return text["chat_template"]


def render(tokenizer: PreTrainedTokenizerBase, system: str, content: list[dict[str, Any]]) -> str:
    """The text of a prompt, from the system prompt to where the model begins."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": content})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def check_template(tokenizer: PreTrainedTokenizerBase, system: str, image_token: int, where: Path) -> None:
    """Raises UserError for a template that fails, or does not show one image, the question and the system prompt."""
    question = "How many?"
    with reading("the chat template fails", where, TEMPLATE_REMEDY):
        text = render(tokenizer, system, [{"type": "image"}, {"type": "text", "text": question}])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    shown = {
        "the image as one token": ids.count(image_token) == 1,
        "the question": text.count(question) == 1 and "{'type'" not in text,
        "the system prompt": system in text,
    }
    if lost := [name for name, kept in shown.items() if not kept]:
        raise UserError(f"the chat template does not show {lost[0]}", where=where, remedy=TEMPLATE_REMEDY)


def load_processor(folder: Path, vision: dict[str, Any], budget: tuple[int | None, int | None] = (None, None)) -> Any:
    """The image processor, wherever and under whichever of its names it was saved; torchvision is not needed.

    `budget` are the fewest and the most pixels of a picture, in place of the folder's own.
    """
    path, settings = image_settings(folder)
    if any(budget):
        settings = {**settings, **dict(zip(("min_pixels", "max_pixels"), pixel_budget(folder, *budget), strict=True))}
    kind = settings.get("image_processor_type", "Qwen2VLImageProcessor")
    if kind not in PROCESSORS:
        raise UserError(f"image processor {kind!r} is not supported", where=path, remedy=f"Use {MODELS}")
    lacking = [key for key in CHECKED if key not in settings]
    if not lacking and not {"size", "max_pixels"} & set(settings):
        lacking = ["size"]
    if lacking:
        raise UserError(f"the image processor has no {lacking[0]}", where=path, remedy=FETCH)
    with reading("the image processor cannot be read", path), np.errstate(all="ignore"):
        processor: Any = Qwen2VLImageProcessorPil.from_dict(settings)
        pixels = processor(images=[Image.new("RGB", (56, 56))], return_tensors="pt")["pixel_values"]
        if not pixels.isfinite().all():
            raise ValueError("its pixels are not finite")
    for ours, theirs in zip(CHECKED, ("patch_size", "temporal_patch_size", "spatial_merge_size"), strict=True):
        if theirs in vision and vision[theirs] != getattr(processor, ours):
            what = f"the image processor has {ours} {getattr(processor, ours)}, the model {theirs} {vision[theirs]}"
            raise UserError(what, where=path, remedy=FETCH)
    return processor


def save_pixels(folder: Path, processor: Any) -> None:
    """Writes the pixel budget of a processor into a saved folder, where the folder's own is another."""
    path, settings = image_settings(folder)
    least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
    if pixel_budget(folder) == (least, most):
        return
    edges = {"shortest_edge": least, "longest_edge": most}
    settings = {**settings, "size": edges, "min_pixels": least, "max_pixels": most}
    whole = read_json(path)
    write_json(path, {**whole, "image_processor": settings} if "image_processor" in whole else settings)


def set_stops(model: Any, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...], folder: Path) -> None:
    """Adds the tokens of `stop` to those that end a completion; they travel with the model when it is saved."""
    found = model.generation_config.eos_token_id
    ends = [] if found is None else found if isinstance(found, list) else [found]
    words = tokenizer.get_vocab()
    if unknown := [text for text in stop if text not in words]:
        raise UserError(f"{unknown[0]!r} is no token of this model", where=folder, remedy=STOP_REMEDY)
    if stop:
        tokenizer.eos_token = stop[0]
        model.generation_config.eos_token_id = sorted({*ends, *(words[text] for text in stop)})
    elif tokenizer.eos_token_id is None:
        raise UserError("no token ends a completion of this model", where=folder, remedy=STOP_REMEDY)
    elif not all(type(i) is int for i in ends):
        raise UserError(f"eos_token_id {found!r}", where=folder / "generation_config.json", remedy=FETCH)
