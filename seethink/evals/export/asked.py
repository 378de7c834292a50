"""The items of a finished evaluation as its model was asked them.

Scores hold answers, not questions: these are read again from the board's file, which must be the one that was evaluated.
"""

from __future__ import annotations

from pathlib import Path

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import hash_file, read_record
from seethink.evals.board import Board
from seethink.evals.boards.find import find_board
from seethink.evals.config import EvalConfig
from seethink.evals.evaluated import Evaluated, board_rows, read_evaluation
from seethink.evals.items import dataset_hash, way_to_ask


def read_whole(folder: Path) -> Evaluated:
    """An evaluation with answers. Raises UserError for what is no folder of one, or one that has none."""
    remedy = "Give the --out of a `seethink eval`"
    if not folder.is_dir():
        raise UserError("no folder of an evaluation", where=folder, remedy=remedy)
    manifest = folder / "manifest.json"
    if not manifest.is_file() or read_record(manifest).get("verb") != "eval":
        raise UserError("this folder holds no evaluation", where=folder, remedy=remedy)
    found = read_evaluation(folder)
    if not found.scores:
        raise UserError("no answers in this evaluation", where=folder, remedy="Run the same seethink eval again")
    return found


def finished_at(found: Evaluated) -> str:
    """As done.json has it."""
    return read_record(found.folder / "done.json")["finished"]


def model_name(found: Evaluated) -> str:
    """The model, of a folder its name; where predictions name none, that of their file."""
    path = Path(found.model)
    return path.stem if found.elsewhere and path.suffix == ".jsonl" else path.name if path.is_dir() else found.model


def board_of(found: Evaluated, task: str = "") -> Board:
    """A board of ours by the run's own word; one of the user's only where `task` names it again: a folder starts no code.

    Raises UserError where it does not.
    """
    if ":" in found.task and task != found.task:
        what = f"this evaluation is on a board that its user wrote, {found.task}"
        raise UserError(what, where=found.folder, remedy=f"Name it again, to let its code run: --task {found.task}")
    return find_board(found.task)


def asked(board: Board, found: Evaluated) -> dict[str, Sample]:
    """id -> item as the model was asked it, in the order of the scores. Raises UserError where the file has changed since."""
    data = data_of(found)
    known = {
        row.id: row.read.sample for row in board_rows(board, found.folder, data) if not isinstance(row.read, UserError)
    }
    ids = list(dict.fromkeys(score.sample_id for score in found.scores))
    own = [known[name] for name in ids if name in known]
    now = hash_file(data) if found.task == "rows" else dataset_hash(own)
    if len(own) < len(ids) or now != found.summary.get("dataset_hash"):
        what = "this file is not what it was when the evaluation read it"
        raise UserError(what, where=data, remedy="Bring the file of that time back, or run seethink eval again")
    _, ask = way_to_ask(build(EvalConfig, found.config, found.folder / "config.json"), board)
    return {sample.id: ask(sample) for sample in own}


def data_of(found: Evaluated) -> Path:
    """The board's file. Raises UserError where it is gone."""
    data = Path(str(found.config.get("data", "")))
    if not data.exists():
        remedy = "Bring it back, or call from the folder in which seethink eval was called"
        raise UserError("the board's file is not there any more", where=data, remedy=remedy)
    return data
