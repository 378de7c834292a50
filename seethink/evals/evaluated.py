"""A finished evaluation, read back from its folder: what reports, tables, comparisons and exports start from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.run import read_log
from seethink.core.store import read_record
from seethink.core.tables import read_table

COLUMNS = ("sample_id", "part", "ok", "status", "text", "stop")
"""What a table of scores holds in any case."""

PICTURES = (".images", "images")
"""Folders below a run where pictures that stood in the board's file may lie."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation. `summary` is that of done.json."""

    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    manifest: dict[str, Any]
    scores: list[Score]
    alarms: list[str]

    @property
    def task(self) -> str:
        return str(self.summary.get("task") or self.config.get("task") or "rows")

    @property
    def title(self) -> str:
        """Of its board."""
        return str(self.summary.get("board") or self.task)

    @property
    def model(self) -> str:
        return str(self.summary.get("model") or self.config.get("model") or self.config.get("predictions") or "?")

    @property
    def elsewhere(self) -> bool:
        """Whether the answers were made elsewhere, so that nobody here knows how they were asked for."""
        return bool(self.config.get("predictions"))


def read_evaluation(folder: Path) -> Evaluated:
    """Raises UserError for a folder that holds no finished evaluation."""
    done = folder / "done.json"
    if not done.is_file() or not (folder / "scores.parquet").is_file():
        raise UserError("no finished evaluation here", where=folder, remedy="Give the --out of a `seethink eval`")
    summary = read_record(done).get("summary", {})
    config, manifest = (_object(folder / name) for name in ("config.json", "manifest.json"))
    known = {field.name for field in fields(Score)}
    empty: dict[str, Any] = {"board": "", "kind": "", "reward": None, "answer": None, "tokens": 0, "seconds": 0.0}
    rows = read_table(folder / "scores.parquet", COLUMNS)
    scores = [Score(**{**empty, **{key: value for key, value in row.items() if key in known}}) for row in rows]
    alarms = [str(row.get("text", "")) for row in read_log(folder / "alarms.jsonl")]
    return Evaluated(folder, summary, config, manifest, scores, alarms)


def samples_of(evaluated: Evaluated) -> dict[str, Sample]:
    """Items of the board by id, from the file that the run names. Raises UserError where it is gone."""
    return load_board(evaluated.task, evaluated.config, evaluated.folder)


def load_board(task: str, config: dict[str, Any], folder: Path) -> dict[str, Sample]:
    """The same from a run's settings. Raises UserError where the board is unknown or its file is gone."""
    from seethink.evals.boards import BOARDS  # here: every board with its rules

    data = config.get("data", config.get("board"))
    if task not in BOARDS or not isinstance(data, str) or not Path(data).exists():
        raise UserError("the data of this board are gone", where=data or folder, remedy="Give them back their place")
    pictures = next((place for name in PICTURES if (place := folder / name).is_dir()), None)
    rows = BOARDS[task].load(Path(data), pictures)
    return {row.read.sample.id: row.read.sample for row in rows if not isinstance(row.read, UserError)}


def _object(path: Path) -> dict[str, Any]:
    value = read_record(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}
