"""Pictures of a row: named, or held as bytes, base64 or a data URL; what is held becomes a file named by its hash."""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.images import check_image
from seethink.data.sources.paper import image_below

SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
}
INSIDE = ("path", "image", "image_url", "url", "file_name")
"""Where an object that is a picture may name it."""
LONGEST_NAME = 1024
OTHER_ROW = 64
"""A TSV's picture of at most so many characters may be the index of the row that holds it."""


def is_picture(data: bytes) -> bool:
    """Whether bytes begin as pictures do."""
    return data.startswith(tuple(SUFFIXES))


def held_name(data: bytes) -> str:
    """The file for a picture that a row holds: its hash, and how such pictures end."""
    suffix = next((suffix for start, suffix in SUFFIXES.items() if data.startswith(start)), ".img")
    return hashlib.blake2b(data, digest_size=12).hexdigest() + suffix


def decoded(text: str) -> bytes | None:
    """What a text in base64, or a data URL, holds; None for any other text."""
    try:
        return base64.b64decode(text.rpartition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError):  # the latter for characters beyond ASCII
        return None


class PictureFile(NamedTuple):
    file: str
    held: bytes | None
    """None: the file is there already."""


class PictureFolder:
    """Where the pictures of a source are, and where those that it holds go."""

    def __init__(self, folder: Path, roots: list[Path], write: bool = True):
        """`folder` is made with the first picture; names are looked up below `roots`. Without `write` all is only looked at."""
        self.folder, self.roots, self.write = folder, roots, write
        self.written: list[str] = []
        self._sound: set[str] = set()
        self._names: dict[str, tuple[str, ...]] = {}
        self._rows: dict[str, list[PictureFile]] = {}

    def of(self, value: Any, where: str) -> list[PictureFile]:
        """Pictures of a cell. Raises UserError for what is neither there nor a picture."""
        if isinstance(value, str) and value.startswith("[") and value.endswith("]"):  # a list, as a table holds it
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise UserError("its list of pictures cannot be read", where=where, remedy="Write a list") from None
        return list(self._each(value, where))

    def of_table(self, value: Any, index: str, where: str) -> list[PictureFile]:
        """The same for a row with an index: VLMEvalKit names by it the earlier row that holds the picture."""
        if isinstance(value, str) and len(value) <= OTHER_ROW and value in self._rows:
            return self._rows[value]
        found = self.of(value, where)
        if found and all(picture.held for picture in found):
            self._rows[index] = [picture._replace(held=None) for picture in found]
        return found

    def keep(self, pictures: list[PictureFile], where: str) -> None:
        """Look at every picture to its last pixel and write those that are held, whole or not at all; each once.

        Raises UserError for the first that no model could take; then none of them is written.
        """
        waiting: dict[str, Path] = {}
        try:
            for number, (file, held) in enumerate(pictures, 1):
                if file in self._sound or file in waiting:
                    continue
                if held is None:
                    check_image(file, where)
                    self._sound.add(file)
                    continue
                folder = self.folder.parent if self.write else Path(tempfile.gettempdir())
                temporary = folder / f".{Path(file).name}.{os.getpid()}.tmp"
                waiting[file] = temporary
                temporary.write_bytes(held)
                try:
                    check_image(str(temporary), where)
                except UserError as fault:
                    what = fault.what.replace(f"image {str(temporary)[-300:]}", f"picture {number} of the row")
                    raise UserError(what, where=where, remedy="Repair the source, or drop the row") from None
            for file, temporary in waiting.items():
                if self.write and not os.path.exists(file):
                    self.folder.mkdir(exist_ok=True)
                    os.replace(temporary, file)
                    self.written.append(file)
                self._sound.add(file)
        finally:
            for temporary in waiting.values():
                temporary.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what was written, where nothing will name it."""
        for file in self.written:
            os.unlink(file)
        if self.written and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _each(self, value: Any, where: str) -> Iterator[PictureFile]:
        if isinstance(value, list | tuple):
            for one in value:
                yield from self._each(one, where)
        elif isinstance(value, dict):  # of `datasets`, or a part of a message
            inner = value.get("bytes") or next((value[key] for key in INSIDE if value.get(key)), None)
            if inner is None:
                raise UserError("a picture without bytes and path", where=where, remedy="Drop the row")
            yield from self._each(inner, where)
        elif isinstance(value, bytes):
            yield self._held(value)
        elif isinstance(value, str) and value.strip():
            yield self._named(value, where)
        elif value not in (None, ""):
            what = f"a picture is {type(value).__name__} {str(value)[:40]!r}"
            raise UserError(what, where=where, remedy="Give names of files, bytes or base64")

    def _held(self, data: bytes) -> PictureFile:
        return PictureFile(str(self.folder / held_name(data)), data)

    def _named(self, text: str, where: str) -> PictureFile:
        """A file, or base64: what is long, says so, or begins as pictures do."""
        if text.startswith(("http://", "https://")):
            raise UserError(f"picture {text[:80]} is an address", where=where, remedy="Download it and give its path")
        long = len(text) > LONGEST_NAME or text.startswith("data:")
        data = decoded(text)
        if data is None and long:
            what = "its picture is broken base64"
            raise UserError(what, where=where, remedy="Write the source again, or drop the row")
        if data is not None and (long or is_picture(data)):
            return self._held(data)
        name = text.removeprefix("file://")
        file = name if os.path.isabs(name) and os.path.isfile(name) else str(image_below(name, self.roots, where))
        if self._names.setdefault(file, parts := PurePosixPath(name).parts) != parts:
            what = f"pictures {'/'.join(self._names[file])!r} and {name!r} lead to the same file {file}"
            raise UserError(what, where=where, remedy="Give --images the folder that holds the folders they name")
        return PictureFile(file, None)
