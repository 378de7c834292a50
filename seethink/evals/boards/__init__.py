"""What is scored and how: one file per benchmark, and a row here."""

from seethink.evals.board import Board
from seethink.evals.boards import dynamath, geoqa, logicvista, mathverse, mathvision, mathvista, rows, wemath

BOARDS: dict[str, Board] = {
    "rows": rows.BOARD,
    "dynamath": dynamath.BOARD,
    "geoqa": geoqa.BOARD,
    "logicvista": logicvista.BOARD,
    "mathverse": mathverse.BOARD,
    "mathvision": mathvision.BOARD,
    "mathvista": mathvista.BOARD,
    "wemath": wemath.BOARD,
}
