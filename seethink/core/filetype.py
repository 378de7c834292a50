"""What a file is that was not what it should be: told from how it begins, with what to do about it."""

from __future__ import annotations

from pathlib import Path

from seethink.core.errors import UserError

ROWS = "rows are read from JSONL: one JSON object a line"
IMPORT = "Write it as JSONL: seethink import --format hf --source THAT --out rows.jsonl"
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
    if isinstance(error, OSError):
        return UserError(f"cannot be read ({error.strerror or error})", where=path, remedy="Give a file")
    with open(path, "rb") as f:
        start = f.read(16)
    for begin, what, remedy in BINARY:
        if start.startswith(begin):
            return UserError(f"this is {what}, not UTF-8 text", where=path, remedy=remedy)
    return UserError(
        f"not UTF-8 ({error.reason} at byte {error.start})", where=path, remedy="Convert the file to UTF-8"
    )


def refuse_other_text(line: str, where: str) -> None:
    """Raises UserError where the first line of a data file shows that it is text of another kind."""
    start, path, what, remedy = line.lstrip()[:1], where.rpartition(":")[0], "", "Write its rows as JSON objects"
    if line.startswith("version https://git-lfs"):
        what, remedy = "a pointer of Git LFS", "Run `git lfs pull` in its folder"
    elif start == "[":
        what, remedy = "a JSON array", f"Write each of its objects on a line, e.g. jq -c '.[]' {path}"
    elif line.strip() == "{":
        what, remedy = "JSON over several lines", f"Write each object on one line, e.g. jq -c . {path}"
    elif start == "<":
        what, remedy = "a web page or XML", "Download the file itself"
    elif start != "{" and "\t" in line.strip():
        what, remedy = "a table with tabs (TSV)", IMPORT
    elif start != "{" and "," in line:
        what, remedy = "a table with commas (CSV)", IMPORT
    if what:
        raise UserError(f"row is not a JSON object: the file is {what}, and {ROWS}", where=where, remedy=remedy)
