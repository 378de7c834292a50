"""What is scored and how: one file per benchmark, and a row here."""

from seethink.core.store import load_samples
from seethink.evals.boards import rows
from seethink.evals.boards.board import Board
from seethink.evals.metrics import summarise

BOARDS = {"rows": Board(load_samples, rows.grade, summarise)}
