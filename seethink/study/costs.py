"""What a study cost, what its data lost on the way, and what its runs complained about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from seethink.core.store import read_json, read_jsonl
from seethink.study.folder import StageRun, Study


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and tokens of one stage of one arm, over its seeds."""

    arm: str
    stage: str
    runs: int
    seconds: float | None
    """Computing time per run, mean."""
    total_seconds: float | None
    """All runs together."""
    tokens_generated: float | None
    tokens_trained: float | None
    memory_gb: float | None


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, by the name the study gives it, and what its sources lost on the way."""

    name: str
    steps: list[str]
    sources: dict[str, list[dict[str, Any]]]
    """Source -> its rows of funnel.json, step by step."""
    spend: list[dict[str, Any]]
    """Rows of spend.jsonl: step, model, calls, tokens, usd (None where a price is unknown)."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One sentence a run left behind."""

    arm: str
    seed: int
    stage: str
    at: str
    """`round 7` or `step 7`; empty where it is about the whole run."""
    text: str


def costs(study: Study) -> list[Cost]:
    """One row per arm and stage, in the order of the plan."""
    rows = []
    for arm in study.arms.values():
        for stage in dict.fromkeys(name for _, name in sorted(arm.runs)):
            runs = arm.of(stage)
            seconds = [s for run in runs if (s := seconds_of(run)) is not None]
            means = [_mean([run.summary.get(key) for run in runs]) for key in ("tokens_generated", "tokens_trained", "memory_gb")]  # fmt: skip
            rows.append(Cost(arm.name, stage, len(runs), _mean(seconds), sum(seconds) if seconds else None, *means))
    return rows


def seconds_of(run: StageRun) -> float | None:
    """Computing time as the run counted it, else from start to done-mark."""
    if run.summary.get("seconds") is not None:
        return run.summary["seconds"]
    if run.scores:
        return sum(score.seconds for score in run.scores)
    started, finished = run.manifest.get("started"), run.done.get("finished")
    if not (started and finished):
        return None
    start, end = (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z") for text in (started, finished))
    return (end - start).total_seconds()


def data_sets(study: Study) -> list[DataSet]:
    """The study's data sets that came out of the six steps; one that gave several files is listed once."""
    found: dict[Path, DataSet] = {}
    for name, file in study.plan.get("data", {}).items():
        path = (study.folder / file).resolve()
        places = (path, path.with_suffix(""), path.parent)  # itself, a folder of its name beside it, or around it
        folder = next((place for place in places if (place / "funnel.json").is_file()), None)
        if folder and folder not in found:
            funnel, spent = read_json(folder / "funnel.json"), folder / "spend.jsonl"
            sources: dict[str, list[dict[str, Any]]] = {}
            for row in funnel:
                sources.setdefault(row["source"], []).append(row)
            spend = [row for _, row in read_jsonl(spent)] if spent.exists() else []
            found[folder] = DataSet(name, list(dict.fromkeys(row["step"] for row in funnel)), sources, spend)
    return list(found.values())


def alarms(study: Study) -> list[Alarm]:
    """Every alarm of every run, in the order of the plan."""
    return [
        Alarm(run.arm, run.seed, run.name, "" if row[run.unit] is None else f"{run.unit} {row[run.unit]}", row["text"])
        for run in study.runs
        for row in run.alarms
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
