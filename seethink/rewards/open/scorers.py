"""The scorer that the settings ask for; token overlap, which needs no model; and a memory around any other."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seethink.ask.prices import find_price
from seethink.core.errors import UserError
from seethink.core.images import image_hash
from seethink.core.store import hash_text
from seethink.rewards.config import OpenConfig
from seethink.rewards.open.formula import OpenItem, Scorer, calibration


def refuse(config: OpenConfig) -> None:
    """Raises UserError for settings that could not score: better now than after the first round of sampling."""
    judge = config.judge
    if config.mode == "calibrated":
        calibration(config.calibration)
    if config.scorer == "judge" and not (judge.url and judge.model):
        remedy = "Give --reward.open.judge.url and --reward.open.judge.model"
        raise UserError("a judge needs an endpoint and a model", remedy=remedy)
    if config.scorer == "judge" and judge.budget is not None:
        find_price(judge.model, judge.url, judge.price).need(judge.model)
    if config.scorer == "remote" and not config.remote.url:
        raise UserError("a remote scorer needs a server", remedy="Give --reward.open.remote.url")
    if config.scorer in ("embedding", "model", "chat_model") and not config.path:
        raise UserError(f"scorer {config.scorer!r} needs a model", remedy="Give --reward.open.path")
    if config.scorer == "chat_model" and not config.revision:
        remedy = "Give --reward.open.revision"
        raise UserError("a model with its own code needs a pinned revision", where=config.path, remedy=remedy)


def make_scorer(
    config: OpenConfig, scores: Path | None, ledger: Path | None, log: Callable[..., None] | None
) -> Scorer:
    """The scorer of settings that `refuse` let through. `scores`, `ledger` and `log` as in `Rewarder`."""
    if config.scorer == "lexical":
        return Lexical()
    if config.scorer == "judge":
        from seethink.rewards.open.judge import Judge  # the network, which trainers that never ask need not load

        return Cached(Judge(config.judge, ledger), scores)
    if config.scorer == "remote":
        from seethink.rewards.open.remote import Remote

        return Cached(Remote(config.remote), scores)
    from seethink.rewards.open import models  # torch, which not every installation has

    if config.scorer == "embedding":
        return Cached(models.Embedding(config.path), scores)
    model = models.LocalRM if config.scorer == "model" else models.ChatRM
    return Cached(model(config.path, config.revision, log=log), scores)


class Lexical(Scorer):
    """Token F1 with the reference, as in reading comprehension: deterministic, and blind to meaning."""

    name, version, mode = "lexical", "1", "plain"

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        return [token_f1(item.answer, item.reference) for item in items]


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, case and punctuation aside, in [0, 1]."""
    one, other = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, reference))
    shared = sum((one & other).values())
    return 2 * shared / (one.total() + other.total()) if shared else 0.0


class Cached(Scorer):
    """A scorer that remembers: in memory, and in an SQLite file where one is given.

    The key holds the scorer's name and version, the texts and the bytes of the images, so nothing stale is ever served.
    """

    def __init__(self, scorer: Scorer, path: Path | None = None):
        self.name, self.version, self.mode = scorer.name, scorer.version, scorer.mode
        self._scorer = scorer
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=60)
        self._db.execute("create table if not exists scores (key text primary key, score real not null) without rowid")
        self._writing = threading.Lock()
        self.hits = 0

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        keys = [self._key(item) for item in items]
        query = "select score from scores where key = ?"
        known = {key: row[0] for key in keys if (row := self._db.execute(query, (key,)).fetchone())}
        self.hits += sum(key in known for key in keys)
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        scores = self._scorer.score_batch(list(new.values())) if new else []
        found = {key: score for key, score in zip(new, scores, strict=True) if score is not None}
        with self._writing:
            self._db.execute("begin")  # all or none, so that a killed run asks in the same batches again
            self._db.executemany("insert or replace into scores values (?, ?)", found.items())
            self._db.execute("commit")
        known |= found
        return [known.get(key) for key in keys]

    def spending(self) -> list[dict[str, Any]]:
        return self._scorer.spending()

    def close(self) -> None:
        self._scorer.close()
        self._db.close()

    def _key(self, item: OpenItem) -> str:
        pictures = [image_hash(path) for path in item.images]
        return hash_text(self.name, self.version, item.question, item.answer, item.reference, *pictures)
