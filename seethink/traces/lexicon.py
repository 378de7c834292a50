"""Aha cues and hesitation markers: word lists as text files, counted the same way everywhere.

A lexicon is a TOML file: `cues`, `sentence_start` (cues that count only where a sentence begins), `match` ("word" or
"substring"), `span` ("think": the reasoning only; "text": answer too) and `extends` (a preset whose lists it adds to).
A trailing `*` stands for the rest of a word. Shipped presets: paper, strict, word, broad.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field

from seethink.core.config import Config, build, load_file
from seethink.core.errors import UserError
from seethink.core.store import hash_json

PRESETS = ("paper", "strict", "word", "broad")
EQUAL = str.maketrans({"ı": "i", "İ": "i", "ſ": "s", "\u212a": "k"})
"""Characters that a pattern without case takes for ASCII letters."""


Literals = dict[str, tuple[str, ...]]
"""How a cue begins -> a text that each cue with this beginning holds, all in lower case; empty: nothing is known."""


class LexiconFile(Config):
    """A lexicon as it stands in its file."""

    cues: tuple[str, ...] = Field(default=(), description="words and phrases, matched without case")
    sentence_start: tuple[str, ...] = Field(default=(), description="cues that count only where a sentence begins")
    match: Literal["word", "substring"] = Field(default="word", description="whole words, or anywhere in the text")
    span: Literal["think", "text"] = Field(
        default="think", description="look at the reasoning only, or at the answer too"
    )
    extends: str = Field(default="", description="preset whose cues are added")
    precision: float | None = Field(default=None, ge=0, le=1, description="found sentences that hesitate, as measured")
    recall: float | None = Field(default=None, ge=0, le=1, description="hesitating sentences that are found")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """A compiled lexicon."""

    name: str
    span: str
    """think or text: what part of a trace to look at."""
    patterns: tuple[re.Pattern[str], ...]
    literals: tuple[Literals, ...]
    """Of every pattern: what its matches hold."""
    sentence_start: frozenset[str]
    """Cues, in lower case, that count only where a sentence begins."""
    precision: float | None = None
    """Share of the sentences it finds that hesitate, on the simulated teachers (docs/traces.md); None: not measured."""
    recall: float | None = None
    """Share of their hesitating sentences that it finds."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A cue found in a text."""

    start: int
    end: int
    cue: str
    """In lower case, as found."""


@cache
def load(name: str) -> Lexicon:
    """Lexicon of a preset or of a TOML file. Raises UserError for anything else."""
    file = _read(name)
    cues, starts = list(file.cues), list(file.sentence_start)
    if file.extends:
        parent = _read(file.extends)
        cues, starts = [*parent.cues, *cues], [*parent.sentence_start, *starts]
    if not cues and not starts:
        raise UserError("lexicon has no cues", where=name, remedy="Give cues or sentence_start")
    if file.match == "substring":  # each cue on its own, overlapping ones all count: the paper's rule
        patterns = tuple(re.compile(re.escape(cue), re.IGNORECASE) for cue in [*cues, *starts])
        literals = tuple(_literals([[cue]]) for cue in [*cues, *starts])
    else:
        patterns = (_word_pattern([*cues, *starts]),)
        literals = (_literals([re.split(r"[* ]+", cue) for cue in [*cues, *starts]]),)
    only_starts = frozenset(cue.lower() for cue in starts if cue not in cues)
    return Lexicon(name, file.span, patterns, literals, only_starts, file.precision, file.recall)


def content_hash(name: str) -> str:
    """Hash of what a lexicon counts, whatever it is called; equal in every process."""
    lexicon = load(name)
    return hash_json([lexicon.span, [p.pattern for p in lexicon.patterns], sorted(lexicon.sentence_start)])


def find(text: str, lexicon: Lexicon) -> list[Marker]:
    """Markers in the order of the text. With whole words the longest cue wins and no two markers overlap."""
    markers = []
    for pattern, literals in zip(lexicon.patterns, lexicon.literals, strict=True):
        end = 0
        for start in _starts(text, literals):
            if start < end or not (match := pattern.match(text, start)):
                continue
            end, cue = match.end(), " ".join(match[0].lower().split())
            if cue not in lexicon.sentence_start or _begins_sentence(text, start):
                markers.append(Marker(start, end, cue))
    return sorted(markers, key=lambda marker: (marker.start, -marker.end))


def count(text: str, lexicon: Lexicon) -> dict[str, int]:
    """How often each cue occurs; cues that do not occur are left out."""
    return dict(Counter(marker.cue for marker in find(text, lexicon)))


def count_trace(think: str, answer: str, lexicon: Lexicon) -> dict[str, int]:
    """Counts over the part of a trace that the lexicon looks at."""
    return count(f"{think}\n{answer}" if lexicon.span == "text" else think, lexicon)


def _literals(cues: Sequence[Sequence[str]]) -> Literals:
    """Of cues in pieces of plain text. Empty where one of them has no plain beginning, or is not ASCII."""
    found: dict[str, set[str]] = {}
    for pieces in cues:
        found.setdefault(pieces[0].lower(), set()).add(max(pieces, key=len).lower())
    plain = all(pieces[0] and "".join(pieces).isascii() for pieces in cues)
    return {first: tuple(sorted(longest)) for first, longest in found.items()} if plain else {}


def _starts(text: str, literals: Literals) -> Iterable[int]:
    """Where in the text a cue could begin, in order: a search for plain text is far faster than one without case."""
    folded = _folded(text)
    if len(folded) != len(text) or not literals:
        return range(len(text))
    starts = []
    for first, longest in literals.items():
        if any(part in folded for part in longest):
            start = folded.find(first)
            while start >= 0:
                starts.append(start)
                start = folded.find(first, start + 1)
    return sorted(starts)


@lru_cache(8)
def _folded(text: str) -> str:
    """In lower case, what ASCII letters equal without case too: the same trace is looked through with several lexicons."""
    return text.lower() if text.isascii() else text.translate(EQUAL).lower()


def _word_pattern(cues: Sequence[str]) -> re.Pattern[str]:
    """One pattern, longest cue first. A hyphen is part of a word: "double-check" holds no "check"."""
    longest_first = sorted(set(cues), key=lambda cue: (-len(cue), cue))
    choices = [re.escape(cue).replace(r"\*", r"\w+").replace(r"\ ", r"\s+") for cue in longest_first]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(choices)})(?![\w-])", re.IGNORECASE)


def _begins_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - 8) : start].rstrip(" \t\"'“”‘’()*_")
    return start == 0 or (before == "" and start < 8) or before.endswith((".", "!", "?", ":", ";", "…", "\n", "—", "–"))


def _read(name: str) -> LexiconFile:
    path = Path(str(files("seethink.traces"))) / "lexicons" / f"{name}.toml" if name in PRESETS else Path(name)
    if name not in PRESETS and path.suffix != ".toml":
        raise UserError(f"unknown lexicon {name!r}", remedy=f"Use {', '.join(PRESETS)} or the path of a TOML file")
    return build(LexiconFile, load_file(path), path)
