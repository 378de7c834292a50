"""A finished evaluation, read back from its folder: what reports, tables, comparisons and exports start from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.run import read_log
from seethink.core.store import DataRow, read_record
from seethink.core.tables import read_table
from seethink.evals.board import Board
from seethink.evals.items import TAKEN

COLUMNS = ("sample_id", "part", "ok", "status", "text", "stop")
"""What a table of scores holds in any case."""


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
    """The same from a run's settings. Raises UserError where its file is gone, or the board is one that its user wrote."""
    data = config.get("data", config.get("board"))
    if ":" in task:
        what = f"its board is one that its user wrote ({task}), and a folder starts no code"
        raise UserError(what, where=folder, remedy="report.html of the run shows its questions")
    if not isinstance(data, str) or not Path(data).exists():
        raise UserError("the data of this board are gone", where=data or folder, remedy="Give them back their place")
    return board_items(task, Path(data), folder)


def board_items(task: str, data: Path, folder: Path) -> dict[str, Sample]:
    """Items of a board by id; of the user's own too: `task` is what the user named. Pictures from inside its file lie in `folder`."""
    from seethink.evals.boards.find import find_board  # here: every board with its rules

    rows = board_rows(find_board(task), folder, data)
    return {row.read.sample.id: row.read.sample for row in rows if not isinstance(row.read, UserError)}


def board_rows(board: Board, folder: Path, data: Path) -> list[DataRow]:
    """Rows of a board's file. Pictures that stand in it were written when it was evaluated, into `folder`."""
    pictures = folder / TAKEN
    return list(board.load(data, pictures if pictures.is_dir() else None))


def _object(path: Path) -> dict[str, Any]:
    value = read_record(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}
