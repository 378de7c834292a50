"""Items of a board that stand in training data: the same question, pictures and gold, whatever their ids and files are called."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from seethink.core.images import open_image
from seethink.core.nouns import Sample
from seethink.core.store import load_samples


def overlap(board: Sequence[Sample], data: Path) -> list[str]:
    """Ids of the board's items that `data` holds. Raises UserError for data that cannot be read."""
    asked = {words for sample in board for words in _words(sample)}
    close = [sample for sample in load_samples(data) if asked & _words(sample)]  # only their pictures are opened
    trained = {(words, _pictures(sample)) for sample in close for words in _words(sample)}
    known = {words for words, _ in trained}
    return [s.id for s in board if any((words, _pictures(s)) in trained for words in _words(s) & known)]


def _words(sample: Sample) -> set[tuple[str, str]]:
    """Question with each gold, without regard to case, spacing, full-width forms and marks of pictures; a letter by its option."""
    found = set()
    for written in sample.golds:
        gold = written.strip().strip("()").upper()
        place = ord(gold) - ord("A") if len(gold) == 1 else -1
        option = sample.choices[place] if 0 <= place < len(sample.choices) else written
        found.add((_folded(re.sub(r"<image>", " ", sample.question)), _folded(option)))
    return found


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .?!:")


def _pictures(sample: Sample) -> tuple[str, ...]:
    return tuple(_picture(path) for path in sample.images)


@lru_cache(maxsize=100_000)
def _picture(path: str) -> str:
    """Hash of what a picture shows: another format without loss shows the same."""
    image = open_image(path)
    return hashlib.blake2b(repr(image.size).encode() + image.tobytes(), digest_size=8).hexdigest()
