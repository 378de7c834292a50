"""What is scored and how: one file per benchmark, and a row here."""

from seethink.evals.board import Board
from seethink.evals.boards import geoqa, logicvista, mathvista, rows

BOARDS: dict[str, Board] = {
    "rows": rows.BOARD,
    "geoqa": geoqa.BOARD,
    "logicvista": logicvista.BOARD,
    "mathvista": mathvista.BOARD,
}
