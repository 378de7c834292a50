"""What is scored and how: one file per benchmark, and a row here."""

from seethink.evals.board import Board
from seethink.evals.boards import geoqa, logicvista, mathvision, mathvista, rows

BOARDS: dict[str, Board] = {
    "rows": rows.BOARD,
    "geoqa": geoqa.BOARD,
    "logicvista": logicvista.BOARD,
    "mathvision": mathvision.BOARD,
    "mathvista": mathvista.BOARD,
}
