"""How every item of a data run ended, one SQLite file beside the ledger: a resumed run skips what is settled there.

A cache and no record: what was paid stands in the ledger, and an outcome that is lost, or whose key has changed, is made again
from there without a call. The key holds everything that decides an outcome: the row, its pictures by content, prompts, models
and their parameters, settings of the steps, and our own code. An item that failed has no outcome, so it is asked again.

Beside the outcomes stand the pictures that were found sound, with their hashes: a file that did not change is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.images import image_hash
from seethink.core.nouns import Drop, Sample, Verdict
from seethink.core.store import hash_file, hash_json, hash_text
from seethink.data.config import DataConfig
from seethink.data.kept import Draft

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILE = "outcomes.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS outcome (
  sample_id TEXT PRIMARY KEY, key TEXT UNIQUE, source TEXT, step TEXT, reason TEXT, detail TEXT, by TEXT);
CREATE TABLE IF NOT EXISTS written (sample_id TEXT PRIMARY KEY, body BLOB);
CREATE TABLE IF NOT EXISTS picture (path TEXT PRIMARY KEY, state TEXT, hash TEXT, code TEXT);
"""
COLUMNS = {
    "outcome": "sample_id key source step reason detail by",
    "written": "sample_id body",  # apart: who left where is read without the texts
    "picture": "path state hash code",
}
DECIDES = ("core", "rewards", "traces", "data/steps.py", "data/kept.py", "data/outcomes.py", "ask/messages.py")
"""Our code on which it hangs how an item ends, given the answers; prompts count by themselves."""
LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy")
"""Others' code that decides."""
UNANSWERED = ("refused", "filtered")
"""Reasons of drops that the endpoint gives: not worth asking again in this run."""
GROUP, GROUP_SECONDS = 64, 2.0
"""Outcomes committed together, and how long the first of them waits: what a kill may lose."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an item ended, and what was written of it on the way, also where it was dropped."""

    sample_id: str
    source: str
    step: str
    """Where it ended: `split` where it came through."""
    caption: str | None = None
    distilled: Draft | None = None
    """As the reasoner wrote it."""
    rewritten: Draft | None = None
    """After the rewriter; also where its length moved too far."""
    verdict: Verdict | None = None
    drop: Drop | None = None
    failed: bool = False
    """Dropped because the endpoint gave no answer: worth asking again."""

    @property
    def lasting(self) -> bool:
        """Whether answers decided it. What the endpoint did not answer is no outcome to keep."""
        return not self.failed and (self.drop is None or self.drop.reason not in UNANSWERED)


class Damaged(UserError):
    """The file is no longer what it was, or of another version: only making it anew helps."""


class Ended(NamedTuple):
    """An outcome without its texts."""

    step: str
    drop: Drop | None
    by: str
    """Who gave the verdict: rule, or a judge; empty: nobody."""


class OutcomeStore:
    """An open file of outcomes, one per sample: a new one takes the place of the old.

    Raises UserError, now or at any call, for a file that cannot be read or written, its subclass Damaged for one that is none
    of ours or is damaged.
    """

    def __init__(self, path: Path):
        self.path, self._waiting, self._since = Path(path), 0, 0.0
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None
        try:
            self._prepare()
        except UserError:
            self._db.close()
            raise

    def __enter__(self) -> OutcomeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what waits, and close."""
        try:
            self.commit()
        finally:
            self._db.close()

    def find(self, key: str) -> Outcome | None:
        """The outcome under this key."""
        query = "SELECT sample_id, source, step, reason, detail, body FROM outcome JOIN written USING (sample_id) WHERE key = ?"
        rows = self._run(query, (key,))
        return self._outcome(rows[0]) if rows else None

    def put(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome, committed with the next ones. Raises ValueError for one that does not last."""
        if not outcome.lasting:
            raise ValueError(f"{outcome.sample_id}: an item without an answer has no outcome to keep")
        drop, verdict = outcome.drop, outcome.verdict
        drafts = [asdict(draft) if draft else None for draft in (outcome.distilled, outcome.rewritten)]
        body = json.dumps([outcome.caption, *drafts, asdict(verdict) if verdict else None], ensure_ascii=False)
        if not self._waiting:
            self._run("BEGIN")
            self._since = time.monotonic()
        light = (
            outcome.source,
            outcome.step,
            drop and drop.reason,
            drop and drop.detail,
            verdict.by if verdict else "",
        )
        self._run("INSERT OR REPLACE INTO outcome VALUES (?,?,?,?,?,?,?)", (outcome.sample_id, key, *light))
        self._run(
            "INSERT OR REPLACE INTO written VALUES (?,?)",
            (outcome.sample_id, zstd.compress(body.encode("utf-8", "surrogatepass"))),
        )
        self._waiting += 1
        if self._waiting == GROUP or time.monotonic() - self._since > GROUP_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write down what waits."""
        self._waiting = 0
        if self._db.in_transaction:  # a full disk has ended it
            self._run("COMMIT")

    def read(self) -> Iterator[Outcome]:
        """All outcomes, texts included, in the order in which items ended."""
        query = "SELECT o.sample_id, source, step, reason, detail, body FROM outcome o JOIN written USING (sample_id) ORDER BY o.rowid"
        for row in self._each(query):
            yield self._outcome(row)

    def of(self, sample_ids: Iterable[str]) -> Iterator[Outcome]:
        """The outcomes of these samples, texts included, of those that have one."""
        query = (
            "SELECT sample_id, source, step, reason, detail, body FROM outcome JOIN written USING (sample_id) "
            "WHERE sample_id = ?"
        )
        for sample_id in sample_ids:
            for row in self._run(query, (sample_id,)):
                yield self._outcome(row)

    def settled(self) -> dict[str, Ended]:
        """All outcomes without their texts, by key."""
        found = self._each("SELECT key, by, sample_id, source, step, reason, detail FROM outcome")
        return {key: Ended(drop[2], _drop(*drop), by) for key, by, *drop in found}

    def keep(self, keys: Iterable[str]) -> None:
        """Forget every outcome but these: rows that left the run, and answers to other questions."""
        self._run("CREATE TEMP TABLE ours (key TEXT PRIMARY KEY)")
        self._many("INSERT INTO ours VALUES (?)", ((key,) for key in keys))
        self._run("DELETE FROM outcome WHERE key NOT IN (SELECT key FROM ours)")
        self._run("DELETE FROM written WHERE sample_id NOT IN (SELECT sample_id FROM outcome)")
        self._run("DROP TABLE ours")

    def pictures(self) -> dict[str, tuple[str, str]]:
        """Path -> (state, hash) of every picture that this code found sound; see `core.images`."""
        rows = self._each("SELECT path, state, hash FROM picture WHERE code = ?", (_picture_code(),))
        return {path: (state, content) for path, state, content in rows}

    def put_pictures(self, pictures: Iterable[tuple[str, str, str]]) -> None:
        """Keep (path, state, hash) of sound pictures, committed at once."""
        code = _picture_code()
        self._many("INSERT OR REPLACE INTO picture VALUES (?,?,?,?)", ((*picture, code) for picture in pictures))

    def _prepare(self) -> None:
        self._run("PRAGMA journal_mode=WAL")
        self._run("PRAGMA synchronous=NORMAL")
        for statement in SCHEMA.split(";"):
            self._run(statement)
        for table, columns in COLUMNS.items():
            found = " ".join(row[1] for row in self._run(f"PRAGMA table_info({table})"))
            if found != columns:
                raise self._unusable(f"its table {table} has other columns: {found[:200]}", damaged=True)

    def _outcome(self, row: tuple[Any, ...]) -> Outcome:
        sample_id, source, step, reason, detail, body = row
        try:
            caption, distilled, rewritten, verdict = json.loads(zstd.decompress(body))
            before, after = (Draft(**draft) if draft else None for draft in (distilled, rewritten))
            judged = Verdict(**verdict) if verdict else None
        except (zstd.ZstdError, ValueError, TypeError) as error:
            raise self._unusable(f"outcome of {sample_id!r} is damaged: {error}", damaged=True) from None
        drop = _drop(sample_id, source, step, reason, detail)
        return Outcome(sample_id, source, step, caption, before, after, judged, drop)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._each(statement, values))

    def _each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(statement, values)
        except sqlite3.Error as error:  # a damaged page shows only when it is read
            raise self._unusable(error, _damage(error)) from None

    def _many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One transaction."""
        try:
            self.commit()
            self._db.execute("BEGIN")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error, _damage(error)) from None

    def _unusable(self, why: object, damaged: bool = False) -> UserError:
        what = f"cannot use the outcomes ({why})"
        if damaged:
            remedy = "Remove it: the same command makes it anew from the ledger, without calls"
            return Damaged(what, where=self.path, remedy=remedy)
        return UserError(what, where=self.path, remedy="Make room and its folder writable, or choose another --out")


def open_outcomes(path: Path, ledger: Path) -> tuple[OutcomeStore, dict[str, Ended]]:
    """The outcomes of a run, and by key what is settled; begun anew where there is no ledger, from which they come.

    A damaged file is begun anew too, which a line says.
    """
    if not ledger.exists():
        _remove(path)
    try:
        store = OutcomeStore(path)
        try:
            return store, store.settled()
        except UserError:
            store.close()
            raise
    except Damaged as fault:
        print(f"data: {fault.what}: made anew from the ledger, without calls", file=sys.stderr)
        _remove(path)
        return OutcomeStore(path), {}


def known_pictures(path: Path) -> dict[str, tuple[str, str]]:
    """The pictures of an earlier run; none where there is no file, or none that can be read, which the run itself says."""
    if not path.exists():
        return {}
    try:
        with OutcomeStore(path) as store:
            return store.pictures()
    except UserError:
        return {}


def outcome_keys(samples: Iterable[Sample], config: DataConfig, prompts: dict[str, Template]) -> list[str]:
    """The key of each sample's outcome under these settings, 32 hex digits. No path, endpoint or time is part of it."""
    roles = [(role.model, role.params) for role in (config.captioner, config.reasoner, config.rewriter, config.judge)]
    texts = {name: prompt.template for name, prompt in prompts.items()}
    common = hash_json([roles, texts, config.max_gap, config.rule_first, config.reuse, _code()])
    keys = []
    for s in samples:
        asked = s.source in config.split.rl_only, s.source in config.context_is_caption
        pictures = tuple(map(image_hash, s.images))
        text = (s.id, s.source, s.question, s.golds, s.kind, s.choices, s.context, s.meta, s.places)
        decides = repr((common, asked, pictures, text)).encode()
        keys.append(hashlib.blake2b(decides, digest_size=16).hexdigest())
    return keys


@cache
def _code() -> str:
    """Hash of the code that decides, ours and others'."""
    root, parts = Path(__file__).parents[1], []
    for name in DECIDES:
        files = sorted(p for p in (root / name).rglob("*") if p.is_file()) if (root / name).is_dir() else [root / name]
        parts += [f"{file.relative_to(root)} {hash_file(file)}" for file in files if file.suffix != ".pyc"]
    return hash_text(*parts, *(f"{name} {metadata.version(name)}" for name in LIBRARIES))


@cache
def _picture_code() -> str:
    """Hash of the code that says whether a picture is sound."""
    images = Path(__file__).parents[1] / "core" / "images.py"
    return hash_text(hash_file(images), metadata.version("pillow"))


def _drop(sample_id: str, source: str, step: str, reason: str | None, detail: str | None) -> Drop | None:
    return None if reason is None else Drop(sample_id, source, step, reason, detail or "")


def _remove(path: Path) -> None:
    """The file, and what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, not a full disk or a lock."""
    return error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
