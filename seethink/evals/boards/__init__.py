"""What is scored and how: one file per benchmark, and a row here."""

from seethink.core.store import read_examples
from seethink.evals.boards import rows
from seethink.evals.boards.board import Board
from seethink.evals.metrics import summarise

BOARDS = {"rows": Board(read_examples, rows.grade, summarise)}
