"""A finished evaluation, read again from its folder: its settings, its scores, and the items as they were asked.

Scores hold answers, not questions: these are read again from the board's file, which must be the one that was evaluated.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.store import DataRow, hash_file, read_record
from seethink.core.tables import read_table
from seethink.evals.board import Board
from seethink.evals.boards.find import find_board


class EvalFolder(NamedTuple):
    """What stands in the folder of a finished evaluation."""

    path: Path
    settings: dict[str, Any]
    """config.json: the settings of `seethink eval`."""
    manifest: dict[str, Any]
    done: dict[str, Any]
    scores: list[Score]

    @property
    def summary(self) -> dict[str, Any]:
        return self.done["summary"]

    @property
    def task(self) -> str:
        return self.settings["task"]

    @property
    def model(self) -> str:
        """A model's name, as far as the settings have one."""
        given = self.settings.get("model") or Path(self.settings.get("predictions") or "predictions").stem
        return Path(given).name if Path(given).is_dir() else given


def read_folder(path: Path) -> EvalFolder:
    """Raises UserError for what is no folder of a finished evaluation."""
    remedy = "Give the --out folder of seethink eval"
    if not path.is_dir():
        raise UserError("no folder of an evaluation", where=path, remedy=remedy)
    if not (path / "manifest.json").is_file() or read_record(path / "manifest.json").get("verb") != "eval":
        raise UserError("this folder holds no evaluation", where=path, remedy=remedy)
    if not (path / "done.json").is_file():
        raise UserError("this evaluation has not finished", where=path, remedy="Run the same seethink eval again")
    fields = [field.name for field in dataclasses.fields(Score)]
    rows = read_table(path / "scores.parquet", need=fields)
    scores = [Score(**{name: row[name] for name in fields}) for row in rows]
    if not scores:
        raise UserError("no answers in this evaluation", where=path / "scores.parquet", remedy=remedy)
    settings, manifest, done = (read_record(path / f"{name}.json") for name in ("config", "manifest", "done"))
    return EvalFolder(path, settings, manifest, done, scores)


def board_of(found: EvalFolder, task: str = "") -> Board:
    """A board of ours by the run's own word; one of the user's only where `task` names it again: a folder starts no code.

    Raises UserError where it does not.
    """
    if ":" in found.task and task != found.task:
        what = f"this evaluation is on a board that its user wrote, {found.task}"
        raise UserError(what, where=found.path, remedy=f"Name it again, to let its code run: --task {found.task}")
    return find_board(found.task)


def asked(board: Board, found: EvalFolder, data: Path) -> dict[str, Sample]:
    """id -> item as the model was asked it, in the order of the scores. Raises UserError where the file has changed since."""
    from seethink.evals.run import dataset_hash, named  # here: it imports what an evaluation runs on

    prompt = board.prompts[named(board.prompts, found.summary["prompt"], f"prompt of {found.task}")]
    known = {row.id: row.read.sample for row in items(board, found, data) if not isinstance(row.read, UserError)}
    ids = list(dict.fromkeys(score.sample_id for score in found.scores))
    samples = {name: prompt(known[name]) for name in ids if name in known}
    now = hash_file(data) if found.task == "rows" else dataset_hash(list(samples.values()))
    if len(samples) < len(ids) or now != found.summary["dataset_hash"]:
        what = "this file is not what it was when the evaluation read it"
        raise UserError(what, where=data, remedy="Bring the file of that time back, or run seethink eval again")
    return samples


def items(board: Board, found: EvalFolder, data: Path) -> list[DataRow]:
    """Rows of the board. Pictures that stand in its file were written when it was evaluated, into this folder."""
    if not data.exists():
        remedy = "Bring it back, or call from the folder in which seethink eval was called"
        raise UserError("the board's file is not there any more", where=data, remedy=remedy)
    pictures = found.path / "images"
    return list(board.load(data, pictures if pictures.is_dir() else None))
