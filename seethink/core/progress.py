"""Progress with ETA: a bar on a terminal, a line every ten seconds in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Counts steps done of `total`. `advance` takes a short text shown beside the bar."""

    def __init__(self, label: str, total: int, done: int = 0):
        self.label, self.total, self.done = label, total, done
        self._first, self._start, self._last = done, time.monotonic(), 0.0

    def advance(self, by: int = 1, text: str = "") -> None:
        self.done += by
        finished = by and self.done >= self.total
        if time.monotonic() - self._last >= 10 or finished:
            self._last = time.monotonic()
            print(f"{self.label} {self.done}/{self.total}  {text}  ETA {self.eta()}", file=sys.stderr, flush=True)

    def eta(self) -> str:
        """Time left at the pace of this process, as m:ss."""
        made = self.done - self._first
        if not made:
            return "?"
        left = (time.monotonic() - self._start) / made * max(self.total - self.done, 0)
        return f"{int(left // 60)}:{int(left % 60):02d}"


class _Bar(Progress):
    def __init__(self, label: str, total: int, done: int, bar, task):
        super().__init__(label, total, done)
        self._bar, self._task = bar, task

    def advance(self, by: int = 1, text: str = "") -> None:
        self.done += by
        self._bar.update(self._task, completed=self.done, text=text)


class _Silent(Progress):
    def advance(self, by: int = 1, text: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int, done: int = 0, show: bool = True) -> Iterator[Progress]:
    """Progress shown while the block runs; `done` steps were made by an earlier process."""
    if not show:
        yield _Silent(label, total, done)
        return
    if not sys.stderr.isatty():
        yield Progress(label, total, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with RichProgress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        yield _Bar(label, total, done, bar, bar.add_task(label, total=total, completed=done, text=""))
