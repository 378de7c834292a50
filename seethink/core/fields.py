"""What may stand in a row of data: every field read in one way, or refused in words."""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from seethink.core.errors import UserError

PLACEHOLDER = "<image>"
MAX_SHOWN = 200  # characters of the user's data in a message

_EXTRA_IMAGE_KEY = re.compile(
    r"(?i)(?:local_?|raw_?|input_?)?(?:im(?:g|age)|pic(?:ture)?|photo|frame|pixel_?value|video|audio)s?"
    r"(?:_?(?:path|file|file_?name|name|url|uri|bytes|base64|b64|data|list|tensor)s?)?(?:_?\d+)?"
)
_PICTURE = re.compile(r"(?i)data:image/|[^\n]{1,1000}\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|heic)\s*\Z")
_OTHER_MARK = re.compile(r"(?i)<[|/]?(?:image|video|audio)[ _-]?(?:\d+|here|placeholder)?\|?\s*/?>")
_OPTION_KEYS = ("options", "option", "candidates", "a")  # in lower case
_TEXT_KEYS = ("hint", "input", "instruction", "passage", "system", "system_prompt", "messages", "conversations")
"""Under which people keep what a model is to read beside the question."""
_CONTROL_TOKEN = re.compile(
    r"<\|(?:image_pad|video_pad|vision_pad|vision_start|vision_end|im_start|im_end|endoftext)\|>|<image>"
)
_LABEL = re.compile(r"[(（]?([A-Za-z])[).:）．：、]\s*(\S.*)", re.DOTALL)
_LINES = r"(?m)^[ \t]*[(（]?({0})[).:）．：、]\s*(\S.*?)[ \t]*$"
_INLINE = r"(?s)(?:^|\s)[(（]?({0})[).:）．：、]\s*(\S.*?)[,;]?(?=\s+[(（]?{0}[).:）．：、]\s|\s*$)"
_LETTERED = [re.compile(layout.format(case)) for case in ("[A-Z]", "[a-z]") for layout in (_LINES, _INLINE)]


def read_text_field(row: dict[str, Any], key: str, where: object) -> str:
    """Text, or a number as text; nothing is empty. Raises UserError for anything else."""
    return "" if row.get(key) is None else as_text(row[key], key, where)


def as_text(value: Any, what: str, where: object) -> str:
    """A text, or a number as text. Raises UserError for anything else."""
    if isinstance(value, str):
        return value
    if _is_number(value):
        return str(value)
    raise UserError(f"{what} is {_named(value)}", where=where, remedy="Write a text or a number")


def read_golds(value: Any, kind: str, where: object) -> tuple[str, ...]:
    """The reference answers, any of which is right. A list is alternatives, but numbers of boxes stay one text.

    Raises UserError for null, NaN, objects and empty lists.
    """
    if not isinstance(value, list):
        return (as_text(value, "gold", where),)
    if kind == "box" and is_box(value):
        return (json.dumps(value),)
    if not value:
        raise UserError("gold is an empty list", where=where, remedy="Write an answer, or a list of right ones")
    texts = [as_text(v, "an answer in the list of golds", where) for v in value]
    if kind == "box" and any(map(_is_number, value)):
        what = f"gold is a list of {len(value)} numbers, not a box"
        raise UserError(what, where=where, remedy="Write four numbers, or a list of such lists")
    return tuple(dict.fromkeys(texts))


@lru_cache(4096)
def names_pictures(key: str) -> bool:
    """Whether a key is one of those under which people keep pictures, and not ours."""
    return key not in ("images", "image") and bool(_EXTRA_IMAGE_KEY.fullmatch(key))


def read_images(row: dict[str, Any], where: object) -> tuple[str, ...]:
    """File paths under `images` or `image`. Raises UserError for pictures in any other place or form."""
    given = {key: value for key in ("images", "image") if (value := row.get(key)) not in (None, [])}
    for key in filter(names_pictures, row):
        if row[key] not in (None, [], ""):
            raise _misplaced(key, "pictures", "images", where)
    lists = [value if isinstance(value, list) else [value] for value in given.values()]
    if len(lists) == 2 and lists[0] != lists[1]:
        raise UserError("'image' and 'images' name different pictures", where=where, remedy="Keep one of them")
    images = lists[0] if lists else []
    for image in images:
        if not isinstance(image, str) or not image.strip() or image.startswith("data:"):
            what = "a data URL" if isinstance(image, str) and image.strip() else _named(image)
            remedy = "Pictures must be files: write each to a file and give its path"
            raise UserError(f"an image is {what}", where=where, remedy=remedy)
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", image):
            remedy = "Pictures must be files: download it and give its path"
            raise UserError(f"image {image[:MAX_SHOWN]} is an address", where=where, remedy=remedy)
    return tuple(images)


def refuse_stray(others: dict[str, Any], question: str, images: bool, options: bool, where: object) -> None:
    """Raises UserError where a row lacks its images or options, but has them under keys that nobody reads (`others`).

    Also for text under such keys that a model was to read, and for marks of images that are not ours, which it would read.
    """
    for key, value in others.items():
        if not images and _is_picture(value):
            raise _misplaced(key, "pictures", "images", where)
        if not options and key.lower() in _OPTION_KEYS and value and not lettered(question):
            raise _misplaced(key, "options", "choices", where)
        if key.lower() in _TEXT_KEYS and value:
            raise _misplaced(key, "text for the model", "question", where)
    if found := _OTHER_MARK.search(question):
        what = f"question holds {found[0]}, which marks no image here"
        raise UserError(what, where=where, remedy=f"Write {PLACEHOLDER} where an image stands, or leave it out")


def read_question(value: Any, images: int, where: object) -> tuple[str, tuple[int, ...]]:
    """The question without placeholders, and where in it each image stands, as offsets; none: all before it.

    Placeholders before all text say what is the rule anyway. Raises UserError where they are not as many as the images.
    """
    if not isinstance(value, str):
        raise UserError(f"question is {_named(value)}", where=where, remedy="Write a text")
    pieces = value.split(PLACEHOLDER)
    if len(pieces) == 1:
        return value, ()
    if len(pieces) - 1 != images:
        what = f"question has {_many(len(pieces) - 1, PLACEHOLDER)} for {_many(images, 'image')}"
        raise UserError(what, where=where, remedy="Write as many as there are images, or none: then images come first")
    if not "".join(pieces[:-1]).strip():
        return pieces[-1].lstrip(), ()
    places, length = [], 0
    for piece in pieces[:-1]:
        length += len(piece)
        places.append(length)
    return "".join(pieces), tuple(places)


def with_marks(question: str, places: tuple[int, ...], mark: str = PLACEHOLDER) -> str:
    """The question with a mark at every place, as `read_question` takes it apart."""
    cuts = [0, *places, len(question)]
    return mark.join(question[a:b] for a, b in zip(cuts, cuts[1:], strict=False))


def read_choices(value: Any, where: object) -> tuple[str, ...]:
    """Option texts in the order of their letters. Raises UserError for what is neither a list nor lettered text."""
    if value in (None, []):
        return ()
    if isinstance(value, str):
        if found := lettered(value):
            return found
        what, remedy = "choices are one text without letters", "Write a list, or letter the options: A. red"
        raise UserError(what, where=where, remedy=remedy)
    if not isinstance(value, list):
        raise UserError(f"choices are {_named(value)}", where=where, remedy="Write a list of option texts")
    texts = [as_text(choice, "an option in choices", where).strip() for choice in value]
    if "" in texts or len(texts) > len(string.ascii_uppercase):
        what = f"{len(texts)} options" if "" not in texts else f"option {texts.index('') + 1} of choices is empty"
        raise UserError(what, where=where, remedy=f"Write up to {len(string.ascii_uppercase)} option texts")
    return _without_labels(texts, where)


def lettered(text: str) -> tuple[str, ...]:
    """Option texts in order, from lines `A) ..`, `A: ..`, `(A) ..`, or from one line that holds them all; or none."""
    for pattern in _LETTERED:
        found = pattern.findall(text)
        if len(found) >= 2 and [letter.upper() for letter, _ in found] == list(string.ascii_uppercase[: len(found)]):
            return tuple(option for _, option in found)
    return ()


def _without_labels(texts: list[str], where: object) -> tuple[str, ...]:
    """`A. red`, `B. blue` as red, blue. Raises UserError for letters in another order."""
    labels = [match.group(1, 2) for text in texts if (match := _LABEL.fullmatch(text))]
    letters, expected = [letter.upper() for letter, _ in labels], list(string.ascii_uppercase[: len(texts)])
    if len(texts) > 1 and letters != expected and sorted(letters) == expected:
        raise UserError("choices are lettered out of order", where=where, remedy="Sort them, or leave the letters out")
    return tuple(text for _, text in labels) if len(texts) > 1 and letters == expected else tuple(texts)


def refuse_tokens(texts: Iterable[str], where: object) -> None:
    """Raises UserError for texts with a model's control tokens: they would be images and turns, not text."""
    for text in texts:
        if found := _CONTROL_TOKEN.search(text):
            remedy = "Remove it: images stand under 'images', and turns are made by the chat template"
            raise UserError(f"a text holds {found[0]}, which is not text to a model", where=where, remedy=remedy)


def is_box(value: list[Any]) -> bool:
    """Four numbers, or several such lists."""
    if value and all(isinstance(v, list) for v in value):
        return all(is_box(v) for v in value)
    return len(value) == 4 and all(map(_is_number, value))


def _is_picture(value: Any) -> bool:
    """The name of a picture file, a data URL, bytes, or what holds one of these."""
    if isinstance(value, str):
        return bool(_PICTURE.match(value))
    if isinstance(value, dict):
        return "bytes" in value or any(map(_is_picture, value.values()))
    return isinstance(value, list) and any(map(_is_picture, value))


def _misplaced(key: str, what: str, ours: str, where: object) -> UserError:
    stand = "stand" if what.endswith("s") else "stands"
    what = f"{key[:MAX_SHOWN]!r} looks like {what}, which {stand} under {ours!r} here"
    return UserError(what, where=where, remedy="Rename the key, or put what is only a note into meta")


def _is_number(value: Any) -> bool:
    """A JSON number, not NaN or infinity."""
    return type(value) is int or type(value) is float and math.isfinite(value)


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 or noun == PLACEHOLDER else 's'}"


def _named(value: Any) -> str:
    """What a value is, in a word or two."""
    if isinstance(value, float) and not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "an empty text" if value == "" else "a text", list: "a list", dict: "an object"}
    return names.get(type(value), f"the number {value}"[:MAX_SHOWN])
