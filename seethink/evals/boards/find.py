"""The board that a task names: one of ours, or one that the user wrote, as my_board.py:BOARD or my_package.boards:BOARD."""

from __future__ import annotations

import difflib

from seethink.core.errors import UserError
from seethink.core.load import load_object
from seethink.core.store import hash_file
from seethink.evals.board import Board
from seethink.evals.boards import BOARDS


def find_board(task: str) -> Board:
    """Raises UserError for a name that is none, or names something else than a board."""
    if ":" in task:
        board, _ = load_object(task, "board")
        if not isinstance(board, Board):
            remedy = "Name a seethink.evals.board.Board, as docs/evals.md shows"
            raise UserError(f"{task!r} is no board but of type {type(board).__name__}", remedy=remedy)
        return board
    if task not in BOARDS:
        close = difflib.get_close_matches(task, BOARDS, n=1)
        known = f"Use one of {', '.join(BOARDS)}, or my_board.py:BOARD"
        raise UserError(f"no board {task!r}", remedy=f"Did you mean {close[0]}?" if close else known)
    return BOARDS[task]


def board_hash(task: str) -> str:
    """Content of the file behind a board of the user's, which is part of what a run is; '' of ours."""
    return hash_file(load_object(task, "board")[1]) if ":" in task else ""
