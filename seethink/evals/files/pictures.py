"""Pictures of published benchmark files: named, held as bytes or base64, or held by another row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.data.imports.pictures import LONGEST_NAME, OTHER_ROW, decoded, held_name, is_picture


class RecordPictures:
    """Files for what the rows of one published file say of pictures.

    Names are relative to `base`; pictures that the rows hold are written below `folder`, or left out where there is none.
    `rows` reads (where, row) from the file's start: a row of a TSV may show the picture of a later one.
    """

    def __init__(
        self,
        base: Path,
        folder: Path | None,
        rows: Callable[[], Iterable[tuple[str, dict[str, Any]]]],
        names: tuple[str, ...],
    ):
        self.base, self.folder, self.rows, self.names = base, folder, rows, names
        self._held: dict[str, tuple[str, ...]] = {}  # index -> pictures of a row that holds them
        self._all_read = False

    def of(self, columns: list[Any], index: str, where: str) -> tuple[str, ...]:
        """Pictures of a row: of the first column that has any. Raises UserError for a text that is none."""
        found = next(filter(None, (self._column(value, bool(index), where) for value in columns)), ())
        if index and index not in self._held and any(map(_is_long, columns)):
            self._held[index] = found
        return found

    def _column(self, value: Any, indexed: bool, where: str) -> tuple[str, ...]:
        if isinstance(value, str) and value.startswith("[") and value.endswith("]"):  # a list as Python writes it
            value = [part.strip(" '\"\n") for part in value[1:-1].split(",")]
        values = value if isinstance(value, list) else [value]
        return tuple(file for one in values for file in self._files(one, indexed, where))

    def _files(self, value: Any, indexed: bool, where: str) -> tuple[str, ...]:
        if isinstance(value, dict):  # the layout of the datasets library's Image
            data, value = value.get("bytes"), value.get("path")
            if isinstance(data, bytes):
                return self._written(data)
        if isinstance(value, bytes):
            return self._written(value)
        if not isinstance(value, str) or not value.strip():
            return ()
        if not _is_long(value):
            return indexed and self._other_row(value) or self._named(value, where)
        if self.folder is None and len(value) > LONGEST_NAME:
            return ()
        data = decoded(value)
        if data is None or len(value) <= LONGEST_NAME and not is_picture(data):
            return self._named(value, where)
        return self._written(data)

    def _named(self, name: str, where: str) -> tuple[str, ...]:
        if len(name) > LONGEST_NAME or "\0" in name:
            raise UserError("its picture is neither base64 nor a file", where=where, remedy="Download the file again")
        return (str(self.base / name),)

    def _other_row(self, index: str) -> tuple[str, ...]:
        """Pictures of the row with this index, which may come later; () where it names no row that holds any."""
        if self.folder and index not in self._held and not self._all_read and not (self.base / index).is_file():
            self._all_read = True
            for where, row in self.rows():
                columns = [row.get(name) for name in self.names]
                if any(map(_is_long, columns)):
                    self.of(columns, str(row.get("index", "")), where)
        return self._held.get(index, ())

    def _written(self, data: bytes) -> tuple[str, ...]:
        if self.folder is None:
            return ()
        file = self.folder / held_name(data)
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            os.replace(temporary, file)  # a killed run leaves no half of a picture
        return (str(file),)


def _is_long(value: Any) -> bool:
    """Whether a text is more than the index of another row may be."""
    return isinstance(value, str) and len(value) > OTHER_ROW
