"""What a file is that was not what it should be: told from how it begins, with what to do about it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError

ROWS = "rows are read from JSONL: one JSON object a line"
IMPORT = ""  # the line that makes rows of this very file
NEEDED = ("id", "question", "gold", "kind")
HEAD = 1 << 16  # bytes of a text by which its rows are told
CHATS = {"conversations": "sharegpt", "messages": "messages", "prompt": "trl"}
"""Where a conversation stands -> what to import it as."""
BINARY = (
    (b"PAR1", "a Parquet file", IMPORT),
    (b"ARROW1", "an Arrow file", IMPORT),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it with unzstd"),
    (b"BZh", "compressed with bzip2", "Unpack it with bunzip2"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet", "Unpack it, or save it as JSONL"),
    (b"SQLite format 3", "an SQLite database", "Write it as JSONL"),
    (b"\xff\xfe", "UTF-16 text", "Save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "Save it as UTF-8"),
    (b"\x89PNG", "a picture", "Give a text file"),
    (b"\xff\xd8\xff", "a picture", "Give a text file"),
    (b"%PDF", "a PDF", "Give a text file"),
)  # fmt: skip
"""How a file begins, what it is, what to do."""


def unreadable(path: Path, error: OSError | UnicodeDecodeError) -> UserError:
    """What to say of a file that cannot be opened or is no text."""
    if isinstance(error, FileNotFoundError):
        return UserError("file not found", where=path, remedy="Check the path")
    if Path(path).is_dir() and any(file.suffix in (".parquet", ".arrow") for file in Path(path).rglob("*")):
        return UserError("this is a folder of tables", where=path, remedy=_import(path))
    if isinstance(error, OSError):
        return UserError(f"cannot be read ({error.strerror or error})", where=path, remedy="Give a file")
    with open(path, "rb") as f:
        start = f.read(16)
    for begin, what, remedy in BINARY:
        if start.startswith(begin):
            return UserError(f"this is {what}, not UTF-8 text", where=path, remedy=remedy or _import(path))
    return UserError(
        f"not UTF-8 ({error.reason} at byte {error.start})", where=path, remedy="Convert the file to UTF-8"
    )


def refuse_other_text(line: str, where: str) -> None:
    """Raises UserError where the first line of a data file shows that it is text of another kind."""
    start, path, what, remedy = line.lstrip()[:1], where.rpartition(":")[0], "", "Write its rows as JSON objects"
    if line.startswith("version https://git-lfs"):
        what, remedy = "a pointer of Git LFS", "Run `git lfs pull` in its folder"
    elif start == "[":
        ours = {*NEEDED} <= first_row(path).keys()
        what, remedy = "a JSON array", f"Write each on a line, e.g. jq -c '.[]' {path}" if ours else _import(path)
    elif line.strip() == "{":
        what, remedy = "JSON over several lines", f"Write each object on one line, e.g. jq -c . {path}"
    elif start == "<":
        what, remedy = "a web page or XML", "Download the file itself"
    elif start != "{" and "\t" in line.strip():
        what, remedy = "a table with tabs (TSV)", _import(path)
    elif start != "{" and "," in line:
        what, remedy = "a table with commas (CSV)", _import(path)
    if what:
        raise UserError(f"row is not a JSON object: the file is {what}, and {ROWS}", where=where, remedy=remedy)


def import_line(path: str | Path, row: dict[str, Any]) -> str:
    """The command that makes rows of a file of another program, told by its first row, or by what is known of it."""
    path, format = Path(path), "datasets"
    if not path.is_dir():
        format = suffix if (suffix := path.suffix[1:].lower()) in ("parquet", "csv", "tsv") else "hf"
    if {"prompt", "reward_model"} <= row.keys():
        format = "verl"
    elif found := conversation_in(row):
        format = CHATS[found]
    named = row.get("images") or row.get("image")
    first = named[0] if isinstance(named, list) else named
    lost = isinstance(first, str) and not (path.parent / first).exists()
    words = ["seethink", "import", "--format", format, "--source", str(path)]
    words += ["--images", "FOLDER_OF_PICTURES"] if lost else []
    return shlex.join([*words, "--out", str(path.with_name(f"{path.stem}-rows.jsonl"))])


def conversation_in(row: dict[str, Any]) -> str:
    """The key (of CHATS) under which a conversation stands; empty where none does."""
    return next((key for key in CHATS if isinstance(row.get(key), list)), "")


def first_row(path: str | Path) -> dict[str, Any]:
    """Of a JSON array or of JSONL; of Parquet, or a folder of such files, the names of columns, a list where they hold lists.

    Empty where it cannot be had.
    """
    if Path(path).is_dir():
        return next(map(first_row, sorted(Path(path).rglob("*.parquet"))), {})
    with open(path, "rb") as f:
        start = f.read(HEAD)
    if start.startswith(b"PAR1"):
        return _columns(path)
    try:
        row, _ = json.JSONDecoder().raw_decode(start.decode("utf-8-sig", "ignore").lstrip(" \t\r\n["))
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _columns(path: str | Path) -> dict[str, Any]:
    import pyarrow as pa  # only where a table is met
    import pyarrow.parquet as pq

    try:
        return {field.name: [] if pa.types.is_list(field.type) else None for field in pq.read_schema(path)}
    except (OSError, pa.ArrowException):
        return {}


def _import(path: str | Path) -> str:
    return f"Make rows of it: {import_line(path, first_row(path))}"
