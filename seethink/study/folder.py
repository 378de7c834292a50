"""A study folder as typed records: study.json, and the run folders of every arm, seed and stage.

    <study>/study.json
    <study>/arms/<arm>/seed<k>/<stage>/     stage: sft, grpo, eval or eval-<name>
    <study>/sets/<set>/[seed<k>/]<verb>/    data that the study made: curate, select or eval

Only reads. What a run did not leave behind is None, which the report prints as "not measured".
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.overlap import overlap
from seethink.core.run import read_log
from seethink.core.store import load_samples, read_record, typed
from seethink.core.tables import read_table
from seethink.study.config import Question, RanStudy

TRAINING = ("sft", "grpo")
AGAIN = "Run the stage again, or remove its folder"
SCORE = {field.name: str for field in fields(Score)} | {
    "ok": bool,
    "reward": float,
    "tokens": int,
    "seconds": float,
    "draw": int,
    "entropy": float,
    "kl": float,
}
"""Columns of scores.parquet."""
LATER = {"reason", "decided_by", "scored", "level", "cluster", "draw", "entropy", "kl"}
"""Those that tables of earlier versions lack."""


@dataclass(frozen=True)
class StageRun:
    """One finished run folder of a study."""

    arm: str
    seed: int
    name: str
    """sft, grpo, eval or eval-<name>; of a set its verb"""
    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return _record(self.folder / "manifest.json", "inputs")

    @cached_property
    def config(self) -> dict[str, Any]:
        return _record(self.folder / "config.json")

    @cached_property
    def done(self) -> dict[str, Any]:
        return _record(self.folder / "done.json", "summary")

    @property
    def summary(self) -> dict[str, Any]:
        return self.done["summary"]

    def number(self, key: str) -> float | None:
        """Of the summary; None where it was not recorded."""
        return typed(self.summary, key, float, self.folder / "done.json")

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_log(self.folder / "metrics.jsonl")

    @property
    def unit(self) -> str:
        """What rows of its logs count."""
        return "round" if self.name == "grpo" else "step"

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(round or step, value) of a metric, where it was recorded."""
        file = self.folder / "metrics.jsonl"
        points = [(typed(row, self.unit, int, file), typed(row, metric, float, file)) for row in self.metrics]
        return [(at, value) for at, value in points if at is not None and value is not None]

    @cached_property
    def alarms(self) -> list[dict[str, Any]]:
        return read_log(self.folder / "alarms.jsonl")

    @cached_property
    def scores(self) -> list[Score]:
        """Rows of scores.parquet; empty for a training stage."""
        path = self.folder / "scores.parquet"
        rows = read_table(path, SCORE.keys() - LATER) if path.exists() else []
        scores = [Score(**{name: typed(row, name, kind, path) for name, kind in SCORE.items()}) for row in rows]
        if any(
            getattr(score, name) is None
            for score in scores
            for name in ("sample_id", "part", "kind", "tokens", "seconds")
        ):
            raise UserError("a score lacks what every score has", where=path, remedy=AGAIN)
        return scores


@dataclass(frozen=True)
class ArmRuns:
    """One arm as it was run: what it trains with, from which arm it starts, and its finished runs."""

    name: str
    stages: tuple[str, ...]
    """Training stages from the base on, e.g. sft, grpo."""
    start: str
    style: str
    runs: dict[tuple[int, str], StageRun] = field(default_factory=dict)
    """(seed, stage) -> run"""

    @property
    def seeds(self) -> list[int]:
        """Seeds with a finished evaluation."""
        return sorted({seed for seed, name in self.runs if name == "eval"})

    def of(self, name: str) -> list[StageRun]:
        """Finished runs of a stage, in the order of their seeds."""
        return [run for (_, stage), run in sorted(self.runs.items()) if stage == name]


@dataclass(frozen=True)
class Study:
    """A study folder."""

    folder: Path
    plan: dict[str, Any]
    """study.json"""
    arms: dict[str, ArmRuns]
    sets: dict[str, list[StageRun]] = field(default_factory=dict)
    """Name of a data set that the study made -> its finished runs: one, or one for each seed."""

    @property
    def label(self) -> str:
        return self.plan.get("label", "")

    @property
    def reference(self) -> str:
        """The arm that the others are measured against."""
        return self.plan.get("reference", "base")

    @property
    def unchecked(self) -> str:
        """Why truth is not measured: code that data names does not run until a person names it."""
        name = self.plan.get("checker")
        return (
            f"the study names {name}, which runs only if you do: --checker {name}" if name else "no checker was given"
        )

    @cached_property
    def question(self) -> Question:
        return build(Question, self.plan.get("question", {}), where=self.folder / "study.json")

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The planned ones."""
        return [(a, b) for a, b in self.plan["comparisons"]]

    @property
    def seeds(self) -> list[int]:
        """Seeds with at least one finished evaluation of a trained arm."""
        return sorted({s for arm in self.arms.values() if arm.stages for s in arm.seeds})

    @property
    def runs(self) -> list[StageRun]:
        """Of arms and bases."""
        return [run for arm in self.arms.values() for _, run in sorted(arm.runs.items())]

    @cached_property
    def board(self) -> dict[str, Sample]:
        """Held-out samples by id; empty where the board file is gone."""
        path = self.folder / self.plan["board"]
        return {sample.id: sample for sample in load_samples(path)} if path.is_file() else {}

    @cached_property
    def board_in_data(self) -> dict[str, int]:
        """Data set -> how many items of the board it holds: as counted before the study ran, else from what can be read."""
        found: dict[str, int] = dict(self.plan.get("board_in_data") or {})
        for name, file in () if found else self.plan.get("data", {}).items():
            with suppress(UserError):
                if self.board and (self.folder / file).is_file():
                    found[name] = len(overlap(list(self.board.values()), self.folder / file))
        return found

    @cached_property
    def first_scores(self) -> list[Score]:
        """Scores of the first evaluation: every array of outcomes is aligned to its items."""
        return next((run.scores for run in self.runs if run.scores), [])

    @cached_property
    def items(self) -> list[str]:
        """Ids of the held-out items, in the order of all arrays of outcomes."""
        return [score.sample_id for score in self.first_scores]

    def lineage(self, arm: str, seed: int) -> list[StageRun]:
        """Training runs behind an arm's model, the earliest first; its start may belong to another arm."""
        runs: list[StageRun] = []
        while arm in self.arms and self.arms[arm].stages:
            run = self.arms[arm].runs.get((seed, self.arms[arm].stages[-1]))
            runs = [run, *runs] if run else runs
            arm = self.arms[arm].start
        return runs

    def outcomes(self, arm: str, measure: str = "ok", stage: str = "eval") -> np.ndarray:
        """[S, N] of a Score field over seeds and items, NaN where undecided or missing; [0, N] without evaluations."""
        rows = [{score.sample_id: getattr(score, measure) for score in run.scores} for run in self.arms[arm].of(stage)]
        values = [[row.get(item) for item in self.items] for row in rows]
        return np.array(values, dtype=np.float64).reshape(len(rows), len(self.items))  # None becomes NaN

    def paired(self, a: str, b: str, stage: str = "eval") -> tuple[np.ndarray, np.ndarray] | None:
        """Being right in a `stage` of arm a and in the evaluation of arm b, over the seeds both have; None without any.

        One run alone is paired with every seed of the other arm.
        """
        left, right = self.outcomes(a, stage=stage), self.outcomes(b)
        seeds_a, seeds_b = [run.seed for run in self.arms[a].of(stage)], self.arms[b].seeds
        if seeds_a and seeds_b and 1 in (len(seeds_a), len(seeds_b)):
            return left, right
        common = sorted(set(seeds_a) & set(seeds_b))
        if not common:
            return None
        return left[[seeds_a.index(s) for s in common]], right[[seeds_b.index(s) for s in common]]

    def where(self, key: str, value: str) -> np.ndarray:
        """[N] mask of the items whose kind or part is `value`."""
        return np.array([getattr(score, key) == value for score in self.first_scores])

    def values_of(self, key: str) -> list[str]:
        """Kinds or parts on the board, in the order of its items."""
        return list(dict.fromkeys(getattr(score, key) for score in self.first_scores))


def load_study(folder: Path) -> Study:
    """Raises UserError when the folder holds no study."""
    folder = Path(folder)
    if not (folder / "study.json").is_file():
        raise UserError("no study.json here", where=folder, remedy="Give the folder that `seethink study` wrote")
    plan, arms, file = read_record(folder / "study.json"), {}, folder / "study.json"
    build(RanStudy, plan, where=file)
    for name, spec in plan["arms"].items():
        if name in ("", ".", "..") or name != Path(name).name:
            raise UserError(f"arm {name!r} is no folder of this study", where=file, remedy="Rename it")
        runs = {}
        for done in sorted((folder / "arms" / name).glob("seed*/*/done.json")):
            seed, stage = done.parent.parent.name.removeprefix("seed"), done.parent.name
            if seed.isdigit() and (stage in TRAINING or stage.split("-")[0] == "eval"):
                runs[int(seed), stage] = StageRun(name, int(seed), stage, done.parent)
        start = spec.get("start") or (name.rpartition("+")[0] if "+" in name else "base")
        arms[name] = ArmRuns(name, tuple(spec["stages"]), start, spec.get("style", ""), runs)
    named = [plan.get("reference", "base"), *(name for pair in plan["comparisons"] for name in pair)]
    if unknown := [name for name in named if name not in arms]:
        raise UserError(f"unknown arm {unknown[0]!r}", where=file, remedy=f"Arms: {', '.join(arms)}")
    sets = {name: _made(folder / "sets" / name, name) for name in plan.get("sets", {}) if name == Path(name).name}
    return Study(folder, plan, arms, sets)


def _made(home: Path, name: str) -> list[StageRun]:
    """The finished runs of a set, in the order of their seeds."""
    found = []
    for done in sorted(home.glob("*/done.json")) + sorted(home.glob("seed*/*/done.json")):
        seed = done.parent.parent.name.removeprefix("seed")
        found.append(StageRun(f"set {name}", int(seed) if seed.isdigit() else 0, done.parent.name, done.parent))
    return found


def _record(path: Path, *tables: str) -> dict[str, Any]:
    """An object of a run folder in which these keys hold objects. Raises UserError for anything else."""
    record = read_record(path)
    if not isinstance(record, dict) or not all(isinstance(record.get(key), dict) for key in tables):
        raise UserError("this is no file of a run folder", where=path, remedy=AGAIN)
    return record
