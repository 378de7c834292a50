"""What is printed: text of users, files, models and endpoints without the power to steer a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
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
BREAKS = re.compile(r"\r\n?|[\n\t\x0b\x0c\x85\u2028\u2029]+")


def clean(text: str) -> str:
    """Text without escape sequences, control characters and changes of direction; lines and tabs stay."""
    text = CONTROLS.sub("", SEQUENCES.sub("", text.replace("\r\n", "\n")))
    return text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written


def one_line(text: str) -> str:
    """Clean text on one line."""
    return clean(BREAKS.sub(" ", text))


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
def clean_output() -> Iterator[None]:
    """Whatever is printed while the block runs, by anyone, is clean: the one place of a command line for that."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", CleanStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def console(stream: TextIO | None = None, **settings: Any) -> Console:
    """A rich console to which text is text: no markup, no emoji codes."""
    from rich.console import Console  # here: help needs none

    return Console(file=stream, markup=False, emoji=False, highlight=False, **settings)


def drawing_stream() -> TextIO:
    """Standard error behind its cleaning, for a bar that draws with escape sequences; its texts must be clean."""
    return getattr(sys.stderr, "stream", sys.stderr)
