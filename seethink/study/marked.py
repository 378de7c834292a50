"""A completion cut into pieces that a page can mark: tags, hesitation markers, true and false statements.

Pieces are plain text in order and add up to the completion exactly; pages escape them or set them as text, never as HTML.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seethink.core.tags import TAGS
from seethink.core.types import Sample
from seethink.traces import lexicon
from seethink.traces.analyse import HESITATION, split
from seethink.traces.steps import Checker, check_steps, locate

TRUTH = {True: "true", False: "false", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a completion that is marked in one way.

    truth    true, false, unknown (a statement that cannot be checked), or "" outside statements
    marker   part of a hesitation marker
    tag      part of a think or answer tag
    """

    text: str
    truth: str = ""
    marker: bool = False
    tag: bool = False


def pieces(text: str, sample: Sample | None = None, checker: Checker | None = None) -> list[Piece]:
    """Cut a completion wherever its marking changes; "".join of the texts is the completion."""
    thinking, _ = split(text)
    offset = text.find(thinking) if thinking else 0
    spans: list[tuple[int, int, str]] = [(at, at + len(tag), "tag") for tag in TAGS for at in _all(text, tag)]
    found = lexicon.find(thinking, lexicon.load(HESITATION))
    spans += [(offset + m.start, offset + m.end, "marker") for m in found]
    if checker and sample:
        steps = check_steps(checker, sample, thinking)
        for place, step in zip(locate(thinking, steps), steps, strict=True):
            if place:
                spans.append((offset + place[0], offset + place[1], TRUTH[step.truth]))
    cuts = sorted({0, len(text), *(at for start, end, _ in spans for at in (start, end))})
    return [_piece(text, a, b, spans) for a, b in zip(cuts, cuts[1:], strict=False)]


def _piece(text: str, start: int, end: int, spans: list[tuple[int, int, str]]) -> Piece:
    kinds = {kind for a, b, kind in spans if a <= start and end <= b}
    truth = next((t for t in TRUTH.values() if t in kinds), "")
    return Piece(text[start:end], truth, "marker" in kinds, "tag" in kinds)


def _all(text: str, tag: str) -> Iterator[int]:
    at = text.find(tag)
    while at >= 0:
        yield at
        at = text.find(tag, at + 1)
