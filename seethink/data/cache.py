"""A SQLite file that makes a run faster and that it can do without: readable by its owner only, made anew when damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.store import hash_file, hash_text


class Damaged(UserError):
    """The file is no longer what it was, or of another version: only making it anew helps."""


class CacheFile:
    """An open file with these tables: name -> columns as SQL, the column alone being its first word.

    Raises UserError, now or at any call, for a file that cannot be read or written, its subclass Damaged for one that is none
    of ours or is damaged.
    """

    def __init__(self, path: Path, tables: Mapping[str, Sequence[str]]):
        self.path = Path(path)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise self.unusable(error) from None
        try:
            self.run("PRAGMA journal_mode=WAL")
            self.run("PRAGMA synchronous=NORMAL")  # survives a kill; a power cut may cost the last rows
            for name, columns in tables.items():
                self.run(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)})")
                found = [row[1] for row in self.run(f"PRAGMA table_info({name})")]
                if found != [column.split()[0] for column in columns]:
                    raise self.unusable(f"its table {name} has other columns: {' '.join(found)[:200]}", damaged=True)
        except UserError:
            self.db.close()
            raise

    def close(self) -> None:
        """Commit what waits, and close."""
        try:
            self.commit()
        finally:
            self.db.close()

    def commit(self) -> None:
        """Write down what waits."""
        if self.db.in_transaction:  # a full disk has ended it
            self.run("COMMIT")

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement's result."""
        return list(self.each(statement, values))

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The same, one after the other."""
        try:
            yield from self.db.execute(statement, values)
        except sqlite3.Error as error:  # a damaged page shows only when it is read
            raise self.unusable(error, _is_damage(error)) from None

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """The statement for every row, without a commit."""
        try:
            if not self.db.in_transaction:
                self.db.execute("BEGIN")
            self.db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self.unusable(error, _is_damage(error)) from None

    def unusable(self, why: object, damaged: bool = False) -> UserError:
        what = f"cannot use what was kept for a resume ({why})"
        if damaged:
            return Damaged(what, where=self.path, remedy="Remove it: the same command makes it anew, without calls")
        return UserError(what, where=self.path, remedy="Make room and its folder writable, or choose another --out")


def remove_cache(path: Path) -> None:
    """The file, and what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def code_hash(files: Sequence[str], libraries: Sequence[str]) -> str:
    """Hash of our code in these files and folders of the package, and of the versions of others'."""
    root, parts = Path(__file__).parents[1], []
    for name in files:
        found = sorted(p for p in (root / name).rglob("*") if p.is_file()) if (root / name).is_dir() else [root / name]
        parts += [f"{file.relative_to(root)} {hash_file(file)}" for file in found if file.suffix != ".pyc"]
    return hash_text(*parts, *(f"{name} {metadata.version(name)}" for name in libraries))


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, not a full disk or a lock."""
    return getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
