"""What a study cost, what its data lost on the way, and what its runs complained about."""

from __future__ import annotations

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
class FunnelRow:
    """One source of a data set on its way through the steps."""

    source: str
    came_in: int
    after: dict[str, int]
    """Step -> rows left after it."""
    dropped: dict[str, dict[str, int]]
    """Step -> reason -> rows; steps that dropped nothing are left out."""
    sft: int | None
    rl: int | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """A data set, by the name the study gives it."""

    name: str
    steps: list[str]
    rows: list[FunnelRow]
    spend: list[dict[str, Any]]
    """Rows of spend.jsonl: step, model, calls, tokens, usd (None where a price is unknown)."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One sentence a run left behind."""

    arm: str
    seed: int
    stage: str
    step: int | None
    text: str


def costs(study: Study) -> list[Cost]:
    """One row per arm and stage, in the order of the plan."""
    rows = []
    for arm in study.arms.values():
        for stage in dict.fromkeys(name for _, name in sorted(arm.runs)):
            runs = arm.of(stage)
            seconds = [s for run in runs if (s := seconds_of(run)) is not None]
            rows.append(
                Cost(
                    arm.name, stage, len(runs), fmean(seconds) if seconds else None, sum(seconds) if seconds else None,
                    _mean(runs, "tokens_generated"), _mean(runs, "tokens_trained"), _mean(runs, "memory_gb"),
                )
            )  # fmt: skip
    return rows


def seconds_of(run: StageRun) -> float | None:
    """Computing time as the run counted it, else from start to done-mark."""
    if run.summary.get("seconds") is not None:
        return run.summary["seconds"]
    if run.scores:
        return sum(score.seconds for score in run.scores)
    started, finished = run.manifest.get("started"), run.done.get("finished")
    return (_time(finished) - _time(started)).total_seconds() if started and finished else None


def funnels(study: Study) -> list[Funnel]:
    """Funnels of the study's data sets that came out of the six steps."""
    found: dict[Path, Funnel] = {}
    for name, path in study.plan.get("data", {}).items():
        folder = _pipeline_folder(study.folder / path)
        if folder and folder.resolve() not in found:
            found[folder.resolve()] = _funnel(name, folder)
    return list(found.values())


def alarms(study: Study) -> list[Alarm]:
    """Every alarm of every run, in the order of the plan."""
    return [
        Alarm(run.arm, run.seed, run.name, row.get("round", row.get("step")), row["text"])
        for run in study.runs
        for row in run.alarms
    ]


def _pipeline_folder(path: Path) -> Path | None:
    """The folder that holds the funnel of a data set: itself, of the same name beside the file, or around it."""
    folders = (path, path.with_suffix(""), path.parent)
    return next((folder for folder in folders if (folder / "funnel.json").is_file()), None)


def _funnel(name: str, folder: Path) -> Funnel:
    rows = read_json(folder / "funnel.json")
    spend = [row for _, row in read_jsonl(folder / "spend.jsonl")] if (folder / "spend.jsonl").exists() else []
    sources, steps = (list(dict.fromkeys(row[key] for row in rows)) for key in ("source", "step"))
    return Funnel(name, steps, [_source_row([r for r in rows if r["source"] == s]) for s in sources], spend)


def _source_row(steps: list[dict[str, Any]]) -> FunnelRow:
    reasons = {row["step"]: row["dropped"] for row in steps if row["dropped"]}
    last = steps[-1]
    after = {row["step"]: row["out"] for row in steps}
    return FunnelRow(last["source"], steps[0]["in"], after, reasons, last.get("sft"), last.get("rl"))


def _mean(runs: list[StageRun], key: str) -> float | None:
    values = [run.summary[key] for run in runs if run.summary.get(key) is not None]
    return fmean(values) if values else None


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
