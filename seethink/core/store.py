"""Files: text, JSON and JSON lines, written whole or not at all; samples in them; hashes of what was read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, sample_from_row, sample_to_row


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary sibling that replaces `path` on success and is removed on any failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """Raises UserError for a missing file."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError("file not found", where=path, remedy="Check the path") from None


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError for a missing or malformed file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("file not found", where=path, remedy="Check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not valid JSON ({error})", where=path, remedy="Repair or remove the file") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, object) of every non-empty line. Raises UserError naming file and row."""
    try:
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(
                        f"not valid JSON ({error.msg} at column {error.colno})",
                        where=f"{path}:{number}",
                        remedy="Repair or remove the row",
                    ) from None
                if not isinstance(row, dict):
                    raise UserError(
                        "row is not a JSON object", where=f"{path}:{number}", remedy="Write one object per line"
                    )
                yield number, row
    except FileNotFoundError:
        raise UserError("file not found", where=path, remedy="Check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 ({error.reason})", where=path, remedy="Convert the file to UTF-8") from None


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Number of rows written."""
    count = 0
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def load_samples(path: Path) -> list[Sample]:
    """Samples of a JSONL file, image paths made absolute. Raises UserError naming file and row."""
    return [sample for _, sample, _ in _sample_rows(path)]


def load_examples(path: Path) -> list[Example]:
    """SFT examples: sample rows with a `completion`. Raises UserError naming file and row."""
    examples = []
    for where, sample, row in _sample_rows(path):
        if not isinstance(row.get("completion"), str) or not row["completion"].strip():
            raise UserError("row has no completion", where=where, remedy="SFT rows need a non-empty completion text")
        examples.append(Example(sample, row["completion"]))
    return examples


def save_samples(path: Path, samples: Iterable[Sample]) -> int:
    return write_jsonl(path, (relative_images(sample_to_row(s), path) for s in samples))


def save_examples(path: Path, examples: Iterable[Example]) -> int:
    rows = ({**relative_images(sample_to_row(e.sample), path), "completion": e.completion} for e in examples)
    return write_jsonl(path, rows)


def _sample_rows(path: Path) -> Iterator[tuple[str, Sample, dict[str, Any]]]:
    """(file:row, sample, raw row), with duplicate ids and missing images refused."""
    base, seen = Path(path).resolve().parent, {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        sample = sample_from_row(row, where)
        if sample.id in seen:
            raise UserError(
                f"id {sample.id!r} was already used in row {seen[sample.id]}", where=where, remedy="Ids must be unique"
            )
        seen[sample.id] = number
        images = tuple(str(base / i) for i in sample.images)
        for image in images:
            if not os.path.isfile(image):
                raise UserError(f"image {image} does not exist", where=where, remedy="Fix the path or drop the row")
        yield where, dataclasses.replace(sample, images=images), row


def relative_images(row: dict[str, Any], path: Path) -> dict[str, Any]:
    """Image paths relative to the file, so that a folder of data can move."""
    base = Path(path).resolve().parent
    return {**row, "images": [os.path.relpath(Path(i).resolve(), base) for i in row["images"]]}


def hash_text(*parts: str) -> str:
    """Short stable content hash (blake2b, 16 hex digits)."""
    h = hashlib.blake2b(digest_size=8)
    for part in parts:
        h.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return h.hexdigest()


def hash_json(value: Any) -> str:
    return hash_text(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def hash_file(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


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
