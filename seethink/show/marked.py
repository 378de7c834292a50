"""A completion cut into pieces that a page can mark: tags, hesitation markers, true and false statements.

Pieces are plain text in order and add up to the completion exactly; pages escape them or set them as text, never as HTML.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from seethink.core.nouns import Sample
from seethink.core.tags import TAGS
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
    tags = re.finditer("|".join(map(re.escape, TAGS)), text)
    spans: list[tuple[int, int, str]] = [(m.start(), m.end(), "tag") for m in tags]
    found = lexicon.find(thinking, lexicon.load(HESITATION))
    spans += [(offset + m.start, offset + m.end, "marker") for m in found]
    if checker and sample:
        steps = check_steps(checker, sample, thinking)
        for place, step in zip(locate(thinking, steps), steps, strict=True):
            if place:
                spans.append((offset + place[0], offset + place[1], TRUTH[step.truth]))
    return list(_cut(text, spans))


def _cut(text: str, spans: list[tuple[int, int, str]]) -> Iterator[Piece]:
    """One sweep over the text: at every start or end of a span, what is open there names the next piece."""
    events = sorted([(a, 1, kind) for a, _, kind in spans] + [(b, -1, kind) for _, b, kind in spans])
    active, at = Counter(), 0
    for place, change, kind in [*events, (len(text), 0, "")]:
        if place > at:
            truth = next((t for t in TRUTH.values() if active[t]), "")
            yield Piece(text[at:place], truth, active["marker"] > 0, active["tag"] > 0)
            at = place
        active[kind] += change
