"""What is printed: text of users, files, models and endpoints without the power to steer a terminal."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

SEQUENCES = re.compile(
    r"(?:\x1b[P\]X^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS and their like, with their text
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[ -/]*[0-~]"  # other escapes
)
CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # what turns the direction of text
)
LEAST = 16  # columns that a text in a table keeps at least
BREAKS = re.compile(r"\r\n?|[\n\t\x0b\x0c\x85\u2028\u2029]+")


def clean(text: str) -> str:
    """Text without escape sequences, control characters and changes of direction; lines and tabs stay."""
    text = CONTROLS.sub("", SEQUENCES.sub("", text.replace("\r\n", "\n")))
    return text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written


def one_line(text: str) -> str:
    """Clean text on one line."""
    return clean(BREAKS.sub(" ", text))


class LastingStream:
    """A stream that may fail while the work goes on: what is written after that goes nowhere.

    fault  why text was lost: None, or what the system said (its reader closed the pipe or the terminal, a disk is full)
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.fault: OSError | None = None

    @property
    def unread(self) -> bool:
        """Whether it was its reader that left."""
        return self.fault is not None and self.fault.errno in (errno.EPIPE, errno.EIO)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._lasting():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self.stream.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        """What is still buffered goes nowhere too, or Python would complain of it at its end."""
        try:
            yield
        except OSError as error:
            self.fault = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


class CleanStream:
    """A stream for text that cleans whatever is written to it; everything else is the stream's own business."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """A carriage return at either end stays: bars that draw over their line begin or end with one."""
        body = text.strip("\r")
        head, tail = text[: len(text) - len(text.lstrip("\r"))], text[len(text.rstrip("\r")) :] if body else ""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(head + clean(body).encode(encoding, "backslashreplace").decode(encoding) + tail)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


@contextmanager
def clean_output() -> Iterator[LastingStream]:
    """Whatever is printed while the block runs, by anyone, is clean, and needs no reader; the one place of a command line for both.

    Gives standard output, which says afterwards whether all of it arrived. A stream that was closed before is none.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (LastingStream(stream or nowhere) for stream in before)
        sys.stdout, sys.stderr = (cast("TextIO", CleanStream(cast("TextIO", stream))) for stream in (out, err))
        try:
            yield out
        finally:
            out.flush()
            err.flush()
            sys.stdout, sys.stderr = before


def console(stream: TextIO | None = None, **settings: Any) -> Console:
    """A rich console to which text is text: no markup, no emoji codes."""
    from rich.console import Console  # here: help needs none

    return Console(file=stream, markup=False, emoji=False, highlight=False, **settings)


def drawing_stream() -> TextIO:
    """Standard error behind its cleaning, for a bar that draws with escape sequences; its texts must be clean."""
    return getattr(sys.stderr, "stream", sys.stderr)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> None:
    """A table on standard output: the first `texts` columns are words, the last of which may break, the others numbers.

    A file or a pipe gets every line whole. On a terminal that is too narrow for the columns each row is a few lines of its own.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    cells = [[one_line(str(value)) for value in row] for row in rows]
    for number, heading in enumerate(headings):
        if number == texts - 1:
            least = min(LEAST, max(cell_len(row[number]) for row in [headings, *cells]))
            table.add_column(Text(heading), overflow="fold", min_width=least)
        else:
            table.add_column(Text(heading), justify="left" if number < texts else "right", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    screen = console()
    room = screen.measure(table, options=screen.options.update(width=10_000))
    if not screen.is_terminal:
        screen = console(width=max(room.maximum, 1))
    if room.minimum <= screen.width:
        with screen.capture() as drawn:
            screen.print(table)
        print("\n".join(line.rstrip() for line in drawn.get().splitlines()))
        return
    for row in cells:
        print(" ".join(filter(None, row[:texts])))
        said = [f"{heading} {value}" for heading, value in zip(headings[texts:], row[texts:], strict=True) if value]
        for line in Text(", ".join(said)).wrap(screen, screen.width - 2):
            print(f"  {line.plain.rstrip()}")


def between(value: float | None, limits: Sequence[float] | None, digits: int = 1) -> str:
    """A number with its interval, as `62.5 [45.2, 77.1]`; empty where there is no number."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" + (f" [{limits[0]:.{digits}f}, {limits[1]:.{digits}f}]" if limits else "")
