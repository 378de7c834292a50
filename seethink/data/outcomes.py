"""How every item of a data run ended, one SQLite file beside the ledger: a resumed run skips what is settled there.

A cache and no record: what was paid stands in the ledger, and an outcome that is lost, or whose key has changed, is made again
from there without a call. The key holds everything that decides an outcome: the row, its pictures by content, prompts, models
and their parameters, settings of the steps, and our own code. An item that failed has no outcome, so it is asked again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.images import image_hash
from seethink.core.nouns import Drop, Sample, Verdict
from seethink.core.store import hash_json, hash_text
from seethink.data.cache import CacheFile, Damaged, code_hash, remove_cache
from seethink.data.config import DataConfig
from seethink.data.kept import Draft

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILE = "outcomes.sqlite"
TABLES = {
    "outcome": (
        "sample_id TEXT PRIMARY KEY", "key TEXT UNIQUE", "source TEXT", "step TEXT", "reason TEXT", "detail TEXT", "by TEXT",
    ),
    "written": ("sample_id TEXT PRIMARY KEY", "body BLOB"),  # apart: who left where is read without the texts
}  # fmt: skip
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


class Ended(NamedTuple):
    """An outcome without its texts."""

    step: str
    drop: Drop | None
    by: str
    """Who gave the verdict: rule, or a judge; empty: nobody."""


class OutcomeStore(CacheFile):
    """An open file of outcomes, one per sample: a new one takes the place of the old. Raises as `CacheFile` does."""

    def __init__(self, path: Path):
        self._waiting, self._since = 0, 0.0
        super().__init__(path, TABLES)

    def __enter__(self) -> OutcomeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, key: str) -> Outcome | None:
        """The outcome under this key."""
        query = "SELECT sample_id, source, step, reason, detail, body FROM outcome JOIN written USING (sample_id) WHERE key = ?"
        rows = self.run(query, (key,))
        return self._outcome(rows[0]) if rows else None

    def put(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome, committed with the next ones. Raises ValueError for one that does not last."""
        if not outcome.lasting:
            raise ValueError(f"{outcome.sample_id}: an item without an answer has no outcome to keep")
        drop, verdict = outcome.drop, outcome.verdict
        drafts = [asdict(draft) if draft else None for draft in (outcome.distilled, outcome.rewritten)]
        body = json.dumps([outcome.caption, *drafts, asdict(verdict) if verdict else None], ensure_ascii=False)
        if not self.db.in_transaction:
            self.run("BEGIN")
            self._waiting, self._since = 0, time.monotonic()
        light = (
            outcome.source,
            outcome.step,
            drop and drop.reason,
            drop and drop.detail,
            verdict.by if verdict else "",
        )
        self.run("INSERT OR REPLACE INTO outcome VALUES (?,?,?,?,?,?,?)", (outcome.sample_id, key, *light))
        self.run(
            "INSERT OR REPLACE INTO written VALUES (?,?)",
            (outcome.sample_id, zstd.compress(body.encode("utf-8", "surrogatepass"))),
        )
        self._waiting += 1
        if self._waiting == GROUP or time.monotonic() - self._since > GROUP_SECONDS:
            self._waiting = 0
            self.commit()

    def read(self) -> Iterator[Outcome]:
        """All outcomes, texts included, in the order in which items ended."""
        query = "SELECT o.sample_id, source, step, reason, detail, body FROM outcome o JOIN written USING (sample_id) ORDER BY o.rowid"
        for row in self.each(query):
            yield self._outcome(row)

    def of(self, sample_ids: Iterable[str]) -> Iterator[Outcome]:
        """The outcomes of these samples, texts included, of those that have one."""
        query = (
            "SELECT sample_id, source, step, reason, detail, body FROM outcome JOIN written USING (sample_id) "
            "WHERE sample_id = ?"
        )
        for sample_id in sample_ids:
            for row in self.run(query, (sample_id,)):
                yield self._outcome(row)

    def settled(self) -> dict[str, Ended]:
        """All outcomes without their texts, by key."""
        found = self.each("SELECT key, by, sample_id, source, step, reason, detail FROM outcome")
        return {key: Ended(drop[2], _drop(*drop), by) for key, by, *drop in found}

    def keep(self, keys: Iterable[str]) -> None:
        """Forget every outcome but these: rows that left the run, and answers to other questions."""
        self.run("CREATE TEMP TABLE ours (key TEXT PRIMARY KEY)")
        self.many("INSERT INTO ours VALUES (?)", ((key,) for key in keys))
        self.run("DELETE FROM outcome WHERE key NOT IN (SELECT key FROM ours)")
        self.run("DELETE FROM written WHERE sample_id NOT IN (SELECT sample_id FROM outcome)")
        self.run("DROP TABLE ours")

    def _outcome(self, row: tuple[Any, ...]) -> Outcome:
        sample_id, source, step, reason, detail, body = row
        try:
            caption, distilled, rewritten, verdict = json.loads(zstd.decompress(body))
            before, after = (Draft(**draft) if draft else None for draft in (distilled, rewritten))
            judged = Verdict(**verdict) if verdict else None
        except (zstd.ZstdError, ValueError, TypeError) as error:
            raise self.unusable(f"outcome of {sample_id!r} is damaged: {error}", damaged=True) from None
        drop = _drop(sample_id, source, step, reason, detail)
        return Outcome(sample_id, source, step, caption, before, after, judged, drop)


def open_outcomes(path: Path, ledger: Path) -> tuple[OutcomeStore, dict[str, Ended]]:
    """The outcomes of a run, and by key what is settled; begun anew where there is no ledger, from which they come.

    A damaged file is begun anew too, which a line says.
    """
    if not ledger.exists():
        remove_cache(path)
    try:
        store = OutcomeStore(path)
        try:
            return store, store.settled()
        except UserError:
            store.close()
            raise
    except Damaged as fault:
        print(f"data: {fault.what}: made anew from the ledger, without calls", file=sys.stderr)
        remove_cache(path)
        return OutcomeStore(path), {}


def row_hash(sample: Sample) -> str:
    """What a row says, with its pictures by content: neither paths nor order of rows are part of it."""
    s, pictures = sample, tuple(map(image_hash, sample.images))
    text = (s.id, s.source, s.question, s.golds, s.kind, s.choices, s.context, s.meta, s.places)
    return hash_text(repr((pictures, text)))


def outcome_keys(rows: Iterable[tuple[str, str]], config: DataConfig, prompts: dict[str, Template]) -> list[str]:
    """The key of the outcome of every (source, row hash) under these settings. No endpoint or time is part of it."""
    roles = [(role.model, role.params) for role in (config.captioner, config.reasoner, config.rewriter, config.judge)]
    texts = {name: prompt.template for name, prompt in prompts.items()}
    common = hash_json([roles, texts, config.max_gap, config.rule_first, config.reuse, _code()])
    only, own = config.split.rl_only, config.context_is_caption
    return [hash_text(common, row, str(source in only), str(source in own)) for source, row in rows]


@cache
def _code() -> str:
    return code_hash(DECIDES, LIBRARIES)


def _drop(sample_id: str, source: str, step: str, reason: str | None, detail: str | None) -> Drop | None:
    return None if reason is None else Drop(sample_id, source, step, reason, detail or "")
