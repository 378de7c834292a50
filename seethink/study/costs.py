"""What a study cost, what its data lost on the way, and what its runs complained about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from seethink.core.errors import UserError
from seethink.core.store import read_jsonl, read_record, typed
from seethink.study.folder import StageRun, Study

COLUMNS = {
    **dict.fromkeys(("source", "step", "model"), str), **dict.fromkeys(("in", "out", "sft", "rl", "prompt_tokens", "completion_tokens"), int),
    "dropped": dict, "usd": float,
}  # fmt: skip
"""Of the tables that `seethink data` writes beside its traces."""


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
    """One row per set that the study made, then per arm and stage, in the order of the plan."""
    groups = [runs for runs in study.sets.values() if runs]
    for arm in study.arms.values():
        groups += [arm.of(stage) for stage in dict.fromkeys(name for _, name in sorted(arm.runs))]
    rows = []
    for runs in groups:
        seconds = [s for run in runs if (s := seconds_of(run)) is not None]
        means = [
            _mean([run.number(key) for run in runs]) for key in ("tokens_generated", "tokens_trained", "memory_gb")
        ]
        total = sum(seconds) if seconds else None
        rows.append(Cost(runs[0].arm, runs[0].name, len(runs), _mean(seconds), total, *means))
    return rows


def seconds_of(run: StageRun) -> float | None:
    """Computing time as the run counted it, else from start to done-mark."""
    if (seconds := run.number("seconds")) is not None:
        return seconds
    if run.scores:
        return sum(score.seconds for score in run.scores)
    try:
        texts = str(run.manifest.get("started")), str(run.done.get("finished"))
        start, end = (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z") for text in texts)
    except ValueError:  # not recorded
        return None
    return (end - start).total_seconds()


def data_sets(study: Study) -> list[DataSet]:
    """The study's data sets that came out of the six steps, and those that it made itself; one that gave several files is
    listed once, and of one that was made for every seed the first."""
    found: dict[Path, DataSet] = {}
    for name, file in study.plan.get("data", {}).items():
        path = (study.folder / file).resolve()
        places = (path, path.with_suffix(""), path.parent)  # itself, a folder of its name beside it, or around it
        _add(found, name, next((place for place in places if (place / "funnel.json").is_file()), None))
    for name, runs in study.sets.items():
        _add(found, name, next((run.folder for run in runs if (run.folder / "funnel.json").is_file()), None))
    return list(found.values())


def _add(found: dict[Path, DataSet], name: str, folder: Path | None) -> None:
    if folder is None or folder in found:
        return
    file, spent = folder / "funnel.json", folder / "spend.jsonl"
    rows = read_record(file)
    funnel = _rows(file, rows if isinstance(rows, list) else [rows])
    sources: dict[str, list[dict[str, Any]]] = {}
    for row in funnel:
        sources.setdefault(row["source"] or "", []).append(row)
    spend = _rows(spent, (row for _, row in read_jsonl(spent))) if spent.exists() else []
    found[folder] = DataSet(name, list(dict.fromkeys(row["step"] for row in funnel)), sources, spend)


def _rows(path: Path, rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows of funnel.json or spend.jsonl, with None for what is missing. Raises UserError for what is none of these."""
    found = []
    for row in rows:
        if not isinstance(row, dict):
            raise UserError("this is no table of a data set", where=path, remedy="Run `seethink data` again")
        found.append({**row, **{key: typed(row, key, kind, path) for key, kind in COLUMNS.items()}})
    return found


def alarms(study: Study) -> list[Alarm]:
    """Every alarm of every run, in the order of the plan."""
    return [
        Alarm(
            run.arm,
            run.seed,
            run.name,
            f"{run.unit} {at}" if (at := row.get(run.unit)) is not None else "",
            str(row.get("text", "")),
        )
        for run in [*(run for runs in study.sets.values() for run in runs), *study.runs]
        for row in run.alarms
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
