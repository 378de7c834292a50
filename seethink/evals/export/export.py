"""Write an evaluation in the format of another program for evaluations.

seethink export --data runs/eval --format vlmevalkit --out outputs
seethink export --data runs/eval --format inspect --out logs

vlmevalkit  the prediction table that VLMEvalKit scores with its own rules and judge (`vlmevalkit.py`)
inspect     a log that `inspect view` opens (`inspect.py`)
"""

from __future__ import annotations

from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.store import write_text
from seethink.data.config import ExportConfig
from seethink.evals.export import inspect, vlmevalkit
from seethink.evals.export.asked import asked, board_of, read_whole


def run(config: ExportConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a folder that holds no finished evaluation, or whose board cannot be read any more."""
    found = read_whole(config.data)
    board = board_of(found, config.task)
    if config.format == "inspect":
        path = inspect.log_path(found, config.out)
        text = inspect.log_text(found, board, asked(board, found))
        after = f"inspect view --log-dir {path.parent}"
    else:
        path = vlmevalkit.table_path(found, config.out)
        text = vlmevalkit.table_text(found, board, config.table)
        after = vlmevalkit.command(found, config.out)
    refuse_other(path, text)
    if not dry_run:
        write_text(path, text)
    print(f"export: {len(found.scores)} answers as {config.format}, {path}{' (not written)' if dry_run else ''}")
    print(f"  {after}")


def refuse_other(path: Path, text: str) -> None:
    """Raises UserError for an existing file that does not begin as what would be written."""
    head = text[:8].encode()
    if path.is_file() and path.stat().st_size:
        with open(path, "rb") as f:
            if f.read(len(head)) != head:
                raise UserError("this file is none that seethink writes", where=path, remedy="Choose another --out")
