"""Files: text, JSON and JSON lines, written whole or not at all; samples in them; hashes of what was read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from seethink.core.errors import UserError
from seethink.core.fields import MAX_SHOWN, refuse_stray, refuse_tokens
from seethink.core.filetype import NEEDED, import_line, refuse_other_text, unreadable
from seethink.core.nouns import KEYS, Example, Sample, sample_from_row, sample_to_row

MAX_PATH = 300  # characters of a path in a message; its end tells more
HASHED_AT_ONCE = 1 << 18  # bytes
NAMES = {
    str: "a text", bool: "true or false", int: "a whole number", float: "a number", dict: "an object", list: "a list",
}  # fmt: skip


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary sibling that replaces `path` on success and is removed on any failure."""
    path = Path(path)
    if path.is_dir():
        raise UserError("this is a folder", where=path, remedy="Name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError("this is a file, not a folder", where=path.parent, remedy="Choose another --out") from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_text(path: Path, mode: Literal["w", "a"] = "w") -> TextIO:
    """A file for text we write. A lone surrogate, which UTF-8 cannot hold, becomes its JSON escape, and reads back equal."""
    return open(path, mode, encoding="utf-8", errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary, open_text(temporary) as f:
        f.write(text)


def read_text(path: Path) -> str:
    """Trimmed text of a UTF-8 file, with or without a byte order mark. Raises UserError where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def well_formed(value: Any) -> Any:
    """A JSON value whose texts UTF-8 and a tokenizer can hold: every lone surrogate in them is now U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {well_formed(key): well_formed(part) for key, part in value.items()}
    return [well_formed(part) for part in value] if isinstance(value, list | tuple) else value


def typed(row: dict[str, Any], key: str, kind: type, where: object) -> Any:
    """The value of a key: a str, bool, int, float or dict, or None where it is missing. Raises UserError for another."""
    value = row.get(key)
    if isinstance(value, float) and kind in (int, float):
        value = None if math.isnan(value) else int(value) if kind is int and value.is_integer() else value
    fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    fits = fits and not (isinstance(value, int) and abs(value) >= 1 << 63)  # more than a table can hold
    if value is not None and not fits:
        found = NAMES.get(type(value), type(value).__name__)
        raise UserError(f"{key!r} is {found}, not {NAMES[kind]}", where=where, remedy="Repair or remove the row")
    return value


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_json_list(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """The file that `write_json` makes of a list, row by row. Number of rows written."""
    count = 0
    with atomic(path) as temporary, open_text(temporary) as f:
        for count, row in enumerate(rows, 1):
            text = json.dumps(row, indent=2, ensure_ascii=False, default=str)
            f.write(("[\n  " if count == 1 else ",\n  ") + text.replace("\n", "\n  "))
        f.write("\n]\n" if count else "[]\n")
    return count


def read_json(path: Path) -> Any:
    """Raises UserError for a missing or malformed file."""
    try:
        return _parse(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    except UserError as fault:
        raise UserError(fault.what, where=path, remedy="Repair or remove the file") from None


def read_record(path: Path) -> Any:
    """What `write_json` wrote, for programs: half a character, which the name of a file may hold, reads back equal.

    Raises UserError for a missing or malformed file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise UserError("not valid JSON", where=path, remedy="Repair or remove the file") from None


def read_jsonl(path: Path, repair: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, object) of every non-empty line. Raises UserError naming file and row.

    `repair` is for what models wrote: half a character is U+FFFD there, and no fault.
    """
    for number, row in read_lines(path, repair):
        if isinstance(row, UserError):
            raise row
        yield number, row


def read_lines(path: Path, repair: bool = False) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """The same with what is wrong in the place of a row that is none. Raises UserError for a file of another kind."""
    try:
        with open(path, encoding="utf-8-sig") as f:
            first = True
            for number, line in enumerate(f, 1):
                if line.isspace():
                    continue
                where = f"{path}:{number}"
                try:
                    row = _parse(line, repair)
                    if not isinstance(row, dict):
                        row = UserError("row is not a JSON object", where=where, remedy="Write one object per line")
                except UserError as fault:
                    row = UserError(fault.what, where=where, remedy="Repair or remove the row")
                if first and isinstance(row, UserError):
                    refuse_other_text(line, where)
                first = False
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def _parse(text: str, repair: bool = False) -> Any:
    """JSON whose texts can be written again. Raises UserError that names no file yet."""
    try:
        value = json.loads(text)
        if "\\u" in text:  # the only way to half of a surrogate pair
            if repair:
                value = well_formed(value)
            else:
                json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON ({error.msg} at column {error.colno})") from None
    except UnicodeEncodeError as error:
        what = f"a text holds half a character (\\u{ord(error.object[error.start]):04x}, a lone surrogate)"
        raise UserError(what) from None
    except RecursionError:
        raise UserError("not valid JSON (nested too deeply)") from None
    except ValueError as error:  # an integer of thousands of digits
        raise UserError(f"not valid JSON ({str(error).partition(';')[0]})") from None
    return value


@contextmanager
def jsonl_writer(path: Path) -> Iterator[Callable[[dict[str, Any]], object]]:
    """A function that adds a row to a JSONL file, which stands there when the block has ended well."""
    line = json.JSONEncoder(ensure_ascii=False).encode
    with atomic(path) as temporary, open_text(temporary) as f:
        yield lambda row: f.write(line(row) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Number of rows written."""
    count = 0
    with jsonl_writer(path) as write:
        for row in rows:
            write(row)
            count += 1
    return count


def load_samples(path: Path) -> list[Sample]:
    """Samples of a JSONL file, image paths made absolute. Raises UserError naming file and row."""
    return [_sound(row.read).sample for row in read_examples(path)]


def load_examples(path: Path) -> list[Example]:
    """SFT examples: sample rows with a `completion`. Raises UserError naming file and row."""
    return [_sound(row.read) for row in read_examples(path, completions=True)]


def _sound(read: Example | UserError) -> Example:
    if isinstance(read, UserError):
        raise read
    return read


def save_samples(path: Path, samples: Iterable[Sample]) -> int:
    """Write a data file that every verb reads, image paths relative to it. Number of rows."""
    return write_jsonl(path, (sample_row(sample, path) for sample in samples))


def save_examples(path: Path, examples: Iterable[Example]) -> int:
    return write_jsonl(path, (example_row(example, path) for example in examples))


def sample_row(sample: Sample, path: Path) -> dict[str, Any]:
    """The row of a sample in this file."""
    return relative_images(sample_to_row(sample), path)


def example_row(example: Example, path: Path) -> dict[str, Any]:
    """The row of an SFT example in this file."""
    return {**sample_row(example.sample, path), "completion": example.completion}


class DataRow(NamedTuple):
    """A line of a data file, and what was read from it: an example, or what is wrong with it."""

    where: str
    """file:row"""
    id: str
    read: Example | UserError

    @property
    def place(self) -> str:
        """Where it is, with its id."""
        return f"{self.where} ({self.id!r})" if self.id else self.where


def read_examples(path: Path, completions: bool = False) -> Iterator[DataRow]:
    """Every row of a data file; without `completions` they may lack one, which is then empty.

    Raises UserError for a file that holds no rows at all.
    """
    return (row for row, _ in read_rows(path, completions))


def read_rows(path: Path, completions: bool = False) -> Iterator[tuple[DataRow, dict[str, Any]]]:
    """The same, each with the JSON object it was read from; empty where there is none."""
    base, seen, number = Path(path).resolve().parent, {}, 0
    for number, row in read_lines(path):
        where, name, given = f"{path}:{number}", "", {}
        try:
            if isinstance(row, UserError):
                raise row
            name, given = str(row.get("id", ""))[:MAX_SHOWN], row
            example = _example(row, where, base, completions)
            if (first := seen.setdefault(example.sample.id, number)) != number:
                what = f"id {name!r} was already used in row {first}"
                raise UserError(what, where=where, remedy="Ids must be unique")
            yield DataRow(where, name, example), given
        except UserError as fault:
            if number == 1 and given and {*NEEDED} - given.keys():
                remedy = f"{fault.remedy}; to make such rows: {import_line(path, given)}"
                fault = UserError(fault.what, where=where, remedy=remedy)
            yield DataRow(where, name, fault), given
    if not number:
        raise UserError("no samples", where=path, remedy="Give a file with at least one row")


def _example(row: dict[str, Any], where: str, base: Path, completions: bool) -> Example:
    """A row whose texts a model may read and whose images are files. Raises UserError for any other."""
    example = example_from_row(row, where, completions)
    images = tuple(_below(base, image) for image in example.sample.images)
    for image in images:
        if not os.path.isfile(image):
            what = f"image {image[-MAX_PATH:]} {'is no file' if os.path.exists(image) else 'does not exist'}"
            raise UserError(what, where=where, remedy="Fix the path or drop the row")
    return (
        dataclasses.replace(example, sample=dataclasses.replace(example.sample, images=images)) if images else example
    )


def _below(base: Path, image: str) -> str:
    """base / image as text; making a Path takes longer than looking at the file."""
    parts = image.split("/")
    return str(base / image) if "" in parts or "." in parts or base == base.parent else f"{base}/{image}"


def example_from_row(row: dict[str, Any], where: str, completions: bool = False) -> Example:
    """A row whose texts a model may read, wherever its images are. Raises UserError for any other."""
    sample = sample_from_row(row, where)
    for name in ("id", "question", "gold"):
        if not getattr(sample, name).strip() or name == "gold" and not all(map(str.strip, sample.golds)):
            raise UserError(f"{name} is empty", where=where, remedy="Every sample needs id, question, gold and kind")
    completion = "" if row.get("completion") is None else row["completion"]
    if not isinstance(completion, str) or completions and not completion.strip():
        what = "row has no completion" if isinstance(completion, str) else "completion is not a text"
        raise UserError(what, where=where, remedy="SFT rows need a non-empty completion text")
    refuse_tokens((completion,), where)
    refuse_unread(row, sample, where)
    return Example(sample, completion)


def refuse_unread(row: dict[str, Any], sample: Sample, where: str) -> None:
    """Raises UserError where a row has pictures, options or texts for a model that none would see, or tokens that are none."""
    refuse_tokens((sample.question, sample.context, *sample.choices), where)
    others = {key: value for key, value in row.items() if key not in KEYS}
    has_options = sample.kind != "choice" or bool(sample.choices)
    refuse_stray(others, sample.question, bool(sample.images), has_options, where)


def relative_images(row: dict[str, Any], path: Path) -> dict[str, Any]:
    """Image paths relative to the file, so that a folder of data can move."""
    base = os.path.abspath(os.path.dirname(path))
    return {**row, "images": [_relative(os.path.join(os.getcwd(), image), base) for image in row["images"]]}


def _relative(image: str, base: str) -> str:
    """Path from a folder to an image, both absolute; links are followed."""
    folder, name = os.path.split(image)
    if name in ("", ".", "..") or os.path.islink(image):
        return os.path.relpath(os.path.realpath(image), os.path.realpath(base))
    return os.path.join(_way(folder, base), name)


@lru_cache(1024)
def _way(folder: str, base: str) -> str:
    """From folder to folder. Many pictures lie in few of them, and every part of a path is looked up."""
    way = os.path.relpath(os.path.realpath(folder), os.path.realpath(base))
    return "" if way == "." else way


def hash_text(*parts: str) -> str:
    """Short stable content hash (blake2b, 16 hex digits)."""
    h = hashlib.blake2b(digest_size=8)
    for part in parts:
        h.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return h.hexdigest()


def hash_json(value: Any) -> str:
    return hash_text(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def hash_file(path: Path | str) -> str:
    """Of most files, which are small, opening them is the larger part."""
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb", buffering=0) as f:
        while part := f.read(HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def hash_path(path: Path) -> str:
    """Content hash of a file or of a folder. Raises UserError where there is neither."""
    if not Path(path).exists():
        raise UserError("file not found", where=path, remedy="Check the path")
    return hash_folder(path) if Path(path).is_dir() else hash_file(path)


def hash_folder(path: Path) -> str:
    """Hash of names and contents of all plain files below a folder (a model, a board)."""
    files = sorted(p for p in Path(path).rglob("*") if p.is_file())
    if not files:
        raise UserError("folder is missing or empty", where=path, remedy="Check the path")
    return hash_text(*(f"{p.relative_to(path)} {hash_file(p)}" for p in files))
