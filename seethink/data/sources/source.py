"""What a source of the paper declares, and what its file may use to read a published record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.fields import as_text
from seethink.core.nouns import Kind

Fields = dict[str, Any]
"""One record as published; a row of ours on its way."""


class Unusable(Exception):
    """The row leaves here: `reason` is a word of the funnel, `detail` helps to look it up."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Counts(NamedTuple):
    """Rows in the paper (arXiv 2504.11468): as it began, after its pipeline, in its two sets. None: it does not say."""

    original: int | None
    kept: int | None
    sft: int | None
    rl: int


class Picture(NamedTuple):
    """The picture of a record, and what the source's other file says of it."""

    path: Path
    context: str = ""

    def size(self) -> tuple[int, int]:
        """Width and height. Raises Unusable for what is no picture."""
        from seethink.core.images import image_size  # here: help reads the declarations alone

        try:
            return image_size(str(self.path))
        except UserError as fault:
            raise Unusable("image", fault.what) from None


def whole(record: Fields) -> list[Fields]:
    """A record that is one question."""
    return [record]


def named(record: Fields) -> str:
    """The picture of a record that calls it `image`."""
    return as_text(record["image"], "image", "")


@dataclass(frozen=True)
class Source:
    """One of the nine: what it is, where its rows are, and how a record becomes a row of ours."""

    name: str
    """As rows have it in `source`, and --format."""
    title: str
    published: str
    licence: str
    """As its card says; of the annotations, where pictures have another."""
    closed: str = field(default="", kw_only=True)
    """Why nobody may pass its rows on as things stand; empty: its licence lets them."""
    kind: Kind
    counts: Counts
    files: tuple[str, ...]
    """Patterns of the file of rows below the folder; the first that is there counts."""
    row: Callable[[Fields, Picture], Fields]
    """question, gold and what else a row has; `given` is the published gold. Raises Unusable, KeyError for a missing key."""
    key: str = ""
    """Where the list of records stands in a JSON object."""
    id_key: str = ""
    """The key of ids that are unique in the file; none: rows are numbered."""
    questions: Callable[[Fields], list[Fields]] = whole
    """The questions of a record, none where it belongs to another source."""
    image: Callable[[Fields], str] = named
    pictures: tuple[str, ...] = ("", "images")
    """Folders below the folder that may hold the pictures."""
    context_files: tuple[str, ...] = ()
    """Patterns of a second file that tells what is in the pictures; it may be missing."""
    context_key: str = ""
    context: Callable[[Fields], tuple[str, str]] | None = None
    """(picture, text) of a record of that file."""
    frame: str = ""
    """In what boxes are published: norm1, or square: fractions of the picture padded to a square, itself in the middle."""
    rl_only: bool = False
    prefix: str = ""
    """How ids begin in the paper's own files, where that is not the name."""


def turns(record: Fields) -> list[Fields]:
    """A conversation as questions: the record once for each human turn, with `question` and the `answer` that follows."""
    said = record["conversations"]
    if not isinstance(said, list) or not all(isinstance(turn, dict) for turn in said):
        raise Unusable("malformed", "conversations are not a list of turns")
    pairs = [(a, b) for a, b in zip(said, said[1:], strict=False) if (a.get("from"), b.get("from")) == ("human", "gpt")]
    if not pairs:
        raise Unusable("malformed", "no question with an answer in conversations")
    return [record | {"question": a["value"], "answer": b["value"]} for a, b in pairs]


def find_image(name: str, roots: list[Path], where: str) -> Path | None:
    """The file below one of the roots; leading folders of the name that do not exist there are dropped one by one.

    Raises UserError for a name that leads out of its folder.
    """
    parts = PurePosixPath(name.lstrip("/")).parts
    if ".." in parts:
        raise UserError(f"image {name!r} leads out of its folder", where=where, remedy="Repair or remove the record")
    for root in roots:
        for start in range(len(parts)):
            candidate = root.joinpath(*parts[start:])
            if os.path.isfile(candidate):  # False also for a name that no file can have
                return candidate.resolve()
    return None
