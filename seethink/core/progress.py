"""Progress with ETA: a bar on a terminal, a line every ten seconds in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from seethink.core.terminal import console, drawing_stream, one_line

EVERY = 10  # seconds between lines


class Progress:
    """Counts what is done of `total`. `advance` takes a short text shown beside it."""

    def __init__(self, label: str, total: int, done: int, bar: Bar | None, show: bool):
        self.label, self.total, self.done = label, total, done
        self._first, self._start, self._last = done, time.monotonic(), 0.0
        self._bar, self._show = bar, show
        self._task = bar.add_task(label, total=total, completed=done, text="") if bar else None

    def advance(self, by: int = 1, text: str = "") -> None:
        self.done, text = self.done + by, one_line(text)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, text=text)
        elif self._show and (time.monotonic() - self._last >= EVERY or (by and self.done >= self.total)):
            self._last = time.monotonic()
            print(f"{self.label} {self.done}/{self.total}  {text}  ETA {self.eta()}", file=sys.stderr, flush=True)

    def eta(self) -> str:
        """Time left at the pace of this process, as m:ss."""
        made = self.done - self._first
        if not made:
            return "?"
        left = (time.monotonic() - self._start) / made * max(self.total - self.done, 0)
        return f"{int(left // 60)}:{int(left % 60):02d}"


@contextmanager
def progress(label: str, total: int, done: int = 0, show: bool = True) -> Iterator[Progress]:
    """Progress shown while the block runs; `done` of it were made by an earlier process."""
    if not show or not sys.stderr.isatty():
        yield Progress(label, total, done, None, show)
        return
    texts = [TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[text]}")]
    columns = (texts[0], BarColumn(), MofNCompleteColumn(), texts[1], TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console(drawing_stream())) as bar:
        yield Progress(label, total, done, bar, show)
