"""Answers that a model gave to our questions in an evaluation: how often it is right on each, and its answers as traces.

Read from the folder of a finished `seethink eval`, of which only rows of one's own are training data. A question is the same
by its id, and by what is asked and what is right: ids of other boards may coincide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import hash_file, read_examples, read_record, typed
from seethink.core.tables import read_table
from seethink.data.load import content_key

SCORES = "scores.parquet"
DIFFICULTY, DRAWS = "difficulty", "difficulty_draws"  # keys of a row's meta


@dataclass(frozen=True, slots=True)
class DrawnAnswer:
    """One of a model's answers to one question."""

    text: str
    ok: bool | None
    """As the evaluation decided it."""
    credit: float | None
    draw: int


@dataclass(frozen=True, slots=True)
class Attempts:
    """An evaluation, by question."""

    answers: dict[str, list[DrawnAnswer]]
    """Sample id -> answers in the order of their draws."""
    others: set[str]
    """Ids under which the evaluation asked another question than our file does."""
    system: str
    """System prompt under which they were given."""
    images: str
    """own, or the control that the pictures were."""

    def pass_rate(self, name: str) -> float | None:
        """Share of right ones among the decided answers to a question; None where there is none."""
        decided = self._decided(name)
        return sum(decided) / len(decided) if decided else None

    def noted(self, sample: Sample) -> Sample:
        """The sample with its difficulty in `meta`: 1 - pass rate, and of how many answers; None, 0 where nobody knows."""
        known = sample.id not in self.others
        rate = self.pass_rate(sample.id) if known else None
        draws = len(self._decided(sample.id)) if known else 0
        return replace(sample, meta={**sample.meta, DIFFICULTY: None if rate is None else 1 - rate, DRAWS: draws})

    def _decided(self, name: str) -> list[bool]:
        return [answer.ok for answer in self.answers.get(name, []) if answer.ok is not None]


def read_attempts(run: Path, data: Path, samples: Sequence[Sample]) -> Attempts:
    """The answers of an evaluation to `samples`, which are those of the file `data`.

    Raises UserError for a folder that holds no finished evaluation of rows, or whose questions are unknown.
    """
    done, scores = run / "done.json", run / SCORES
    if not done.is_file() or not scores.is_file():
        raise UserError("no finished evaluation here", where=run, remedy="Give the --out of a `seethink eval`")
    config, manifest = _object(run / "config.json"), _object(run / "manifest.json")
    if config.get("task", "rows") != "rows":
        what = f"this is an evaluation on {config['task']}, whose questions are no training data"
        raise UserError(what, where=run, remedy="Evaluate on a JSONL of your own rows")
    answers: dict[str, list[DrawnAnswer]] = {}
    for number, row in enumerate(read_table(scores, ("sample_id", "ok", "text")), 1):
        where = f"{scores} (row {number})"
        name, text = (typed(row, key, str, where) or "" for key in ("sample_id", "text"))
        ok, credit = typed(row, "ok", bool, where), typed(row, "reward", float, where)
        drawn = DrawnAnswer(text, ok, credit, typed(row, "draw", int, where) or 0)
        answers.setdefault(name, []).append(drawn)
    for name, drawn in answers.items():
        drawn.sort(key=lambda answer: answer.draw)
        if len({answer.draw for answer in drawn}) < len(drawn):
            raise UserError(f"{name!r} has two answers of one draw", where=scores, remedy="Evaluate again")
    inputs = manifest.get("inputs")
    inputs = inputs if isinstance(inputs, dict) else {}
    asked = [s for s in samples if s.id in answers]
    others = set() if inputs.get("data") == hash_file(data) else _others(run, config.get("data"), asked)
    return Attempts(answers, others, str(inputs.get("system") or ""), str(config.get("images", "own")))


def different(samples: Iterable[Sample], others: dict[str, Sample]) -> set[str]:
    """Ids of the samples that ask, show or hold right something else than the one of the same id among `others`."""
    pairs = [(sample, others[sample.id]) for sample in samples if sample.id in others]
    return {a.id for a, b in pairs if a.kind != b.kind or a.golds != b.golds or content_key(a) != content_key(b)}


def _others(run: Path, data: Any, samples: list[Sample]) -> set[str]:
    """The same by the file that the evaluation read, which has to be there still."""
    if not isinstance(data, str) or not Path(data).is_file():
        what = f"its questions are gone ({data}), so nobody knows whether they are the same"
        raise UserError(what, where=run, remedy="Give them back their place, or evaluate again")
    sound = [row.read.sample for row in read_examples(Path(data)) if isinstance(row.read, Example)]
    return different(samples, {sample.id: sample for sample in sound})


def _object(path: Path) -> dict[str, Any]:
    value = read_record(path)
    if not isinstance(value, dict):
        raise UserError("this is no file of a run folder", where=path, remedy="Run `seethink eval` again")
    return value
