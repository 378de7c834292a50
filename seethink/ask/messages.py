"""Chat messages as we write them, as they travel, and as they are told apart.

An image is a part `{"type": "image", "path": file}`. It travels as a data URL; in the key of a call the hash of its
bytes stands for it, so a moved folder costs nothing and a changed picture is a new question.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from seethink.core.images import image_size, portable, portable_hash
from seethink.core.nouns import Sample
from seethink.core.prompt import prompt_parts, prompt_text

Message = dict[str, Any]

IMAGE_TOKENS = (
    1100  # of models whose rule is not below: a high-detail picture of about a megapixel under the usual tile rules
)
TILE_RULES = {"gpt-4o-mini": (2833, 5667), **dict.fromkeys(("gpt-4o", "gpt-4-turbo", "gpt-4.1"), (85, 170))}
"""Tokens of a picture, and of each of its tiles, by model; a name may end in a date."""
TILE, SHORT_SIDE, LONG_SIDE = 512, 768, 2048  # pixels
CHARS_PER_TOKEN = 4
CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def user_message(text: str, images: Sequence[str] = ()) -> list[Message]:
    """One user turn: image files first, then the text."""
    if not images:
        return [{"role": "user", "content": text}]
    parts = [{"type": "image", "path": str(path)} for path in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def sample_message(sample: Sample) -> list[Message]:
    """One user turn: what every model is asked of a sample, its images in their places."""
    return [{"role": "user", "content": prompt_parts(sample) if sample.images else prompt_text(sample)}]


def call_key(model: str, messages: Sequence[Message], params: dict[str, Any], draw: int) -> str:
    """Content address of a call, 32 hex digits. No endpoint, key, time or row number is part of it.

    `draw` tells repeated questions of the same wording apart.
    """
    named = _replace_images(messages, lambda path: {"type": "image", "hash": portable_hash(path)})
    question = {"model": model, "messages": named, "params": params, "draw": draw}
    return hashlib.blake2b(CANONICAL.encode(question).encode(), digest_size=16).hexdigest()


def to_wire(messages: Sequence[Message]) -> list[Message]:
    """Messages in the OpenAI form, image files as data URLs. Raises UserError for an unreadable image."""
    return _replace_images(messages, lambda path: {"type": "image_url", "image_url": {"url": data_url(path)}})


def data_url(path: str) -> str:
    """The pixels that training sees: the file as it is where it shows them to any reader, anything else as PNG."""
    data, suffix = portable(path)
    return f"data:image/{'png' if suffix == '.png' else 'jpeg'};base64,{base64.b64encode(data).decode()}"


def estimate_tokens(messages: Sequence[Message], model: str = "") -> int:
    """Prompt tokens, roughly: four characters a token, and those of its images."""
    texts = [p for p in _parts(messages) if "text" in p]
    return sum(len(p["text"]) // CHARS_PER_TOKEN for p in texts) + image_tokens(messages, model)


def image_tokens(messages: Sequence[Message], model: str) -> int:
    """Prompt tokens of the images: by their sizes where the rule of the model is known, else a flat rate."""
    paths = [p["path"] for p in _parts(messages) if "text" not in p]
    rule = tile_rule(model)
    return sum(_tile_tokens(image_size(path), *rule) if rule else IMAGE_TOKENS for path in paths)


@cache
def tile_rule(model: str) -> tuple[int, int] | None:
    """(tokens of a picture, of each of its tiles) of a model; None where its rule is not known here."""
    return TILE_RULES.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", model))


def _tile_tokens(size: tuple[int, int], picture: int, tile: int) -> int:
    """A picture is made to fit into a square of LONG_SIDE, then its shorter side into SHORT_SIDE; tiles cover what is left."""
    scale = min(1.0, LONG_SIDE / max(size))
    scale = min(scale, SHORT_SIDE / min(size))
    across, down = (math.ceil(round(side * scale) / TILE) for side in size)
    return picture + tile * across * down


def _parts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Texts and images of all messages."""
    contents = [m["content"] for m in messages]
    return [p for c in contents for p in ([{"text": c}] if isinstance(c, str) else c)]


def _replace_images(messages: Sequence[Message], replace: Callable[[str], dict[str, Any]]) -> list[Message]:
    def content(value: Any) -> Any:
        if isinstance(value, str):
            return value
        return [replace(part["path"]) if part["type"] == "image" else part for part in value]

    return [{**message, "content": content(message["content"])} for message in messages]
