"""What a model is asked: the question of a sample with its images in their places and its options, one way for all readers.

Training, evaluation, endpoints and exports take their prompts from here, so no model sees another question than the rest.
"""

from __future__ import annotations

import re
import string
from typing import Any

from seethink.core.fields import with_marks
from seethink.core.nouns import Sample

Part = dict[str, Any]


def prompt_text(sample: Sample, mark: str = "") -> str:
    """Question and options as text; `mark` stands for every image (before the question, where it names no places)."""
    first = mark * len(sample.images) if not sample.places else ""
    return first + with_marks(sample.question, sample.places, mark) + options_text(sample)


def prompt_parts(sample: Sample) -> list[Part]:
    """The same as parts of a chat message: {"type": "image", "path": file} and {"type": "text", "text": text}."""
    images = [{"type": "image", "path": path} for path in sample.images]
    text = sample.question + options_text(sample)
    if not sample.places:
        return [*images, {"type": "text", "text": text}]
    cuts = [0, *sample.places, len(text)]
    texts = [{"type": "text", "text": text[a:b]} for a, b in zip(cuts, cuts[1:], strict=False)]
    mixed = [part for pair in zip(texts, images, strict=False) for part in pair] + texts[-1:]
    return [part for part in mixed if part.get("text") != ""]


def options_text(sample: Sample) -> str:
    """Lettered options, a line each, where the question does not list them itself; else empty."""
    options = list(zip(string.ascii_uppercase, sample.choices, strict=False))
    bare = all(choice == letter for letter, choice in options)  # the options stand in the image
    if bare or all(_listed(sample.question, *option) for option in options):
        return ""
    return "".join(f"\n{letter}. {choice}" for letter, choice in options)


def _listed(question: str, letter: str, choice: str) -> bool:
    """Whether a question names an option by its letter and text, however it is set apart."""
    if question.isascii() and any(word.isascii() and word.lower() not in question.lower() for word in choice.split()):
        return False  # a pattern of its own costs more than all the rest of a row
    words = r"\s+".join(map(re.escape, choice.split()))
    return bool(re.search(rf"(?i)(?<!\w){letter}\W{{1,6}}{words}(?!\w)", question))
