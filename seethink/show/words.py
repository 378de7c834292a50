"""What a rewriter changed in a trace, word by word, as pieces that a page can colour.

A piece is (text, mark): "" both texts have it, "del" only the first, "ins" only the second. Without the ins pieces they add up
to the first text, without the del pieces to the second. Sentences are matched first and words only inside changed ones, so a
long trace with a few edits costs about what its length costs; a changed stretch too long for that is shown as one deletion
and one insertion, and counted.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import pairwise, takewhile

Pieces = list[tuple[str, str]]
MOST_PAIRS = 100_000  # pairs of equal words (or sentences) of two stretches; beyond, they are not matched
SENTENCES = re.compile(r".+?(?:[.!?:](?=\s)|\n|\Z)\s*|\s+", re.DOTALL)
WORDS = re.compile(r"\S+\s*|\s+")


def word_diff(before: str, after: str) -> tuple[Pieces, int]:
    """(pieces, changed stretches that were too long to match word by word)."""
    pieces, coarse = [], 0
    old_sentences, new_sentences = SENTENCES.findall(before), SENTENCES.findall(after)
    for kind, i, j, k, m in _blocks(old_sentences, new_sentences):
        old, new = "".join(old_sentences[i:j]), "".join(new_sentences[k:m])
        if kind == "equal":
            pieces.append((old, ""))
            continue
        gone, come = WORDS.findall(old), WORDS.findall(new)  # with the space behind them, which is not compared
        for inner, i, j, k, m in _blocks([word.rstrip() for word in gone], [word.rstrip() for word in come]):
            coarse += inner == "unmatched"
            if inner != "equal":
                pieces += [("".join(gone[i:j]), "del"), ("".join(come[k:m]), "ins")]
                continue
            for first, second in zip(gone[i:j], come[k:m], strict=True):
                if first == second:
                    pieces.append((first, ""))
                else:
                    stem = len(first.rstrip())
                    pieces += [(first[:stem], ""), (first[stem:], "del"), (second[stem:], "ins")]
    return list(_joined(pieces)), coarse


def marked(pieces: Pieces, spans: Iterable[tuple[int, int]]) -> Pieces:
    """The same pieces, cut where a span of the second text begins or ends; what lies in one has "cue" in its mark."""
    whole: list[tuple[int, int]] = []  # cues may overlap
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    edges = [edge for span in whole for edge in span]
    found, at = [], 0
    for text, mark in pieces:
        if mark == "del":
            found.append((text, mark))
            continue
        inner = [edge - at for edge in edges[bisect_right(edges, at) : bisect_left(edges, at + len(text))]]
        for start, end in pairwise([0, *inner, len(text)]):
            cue = "cue" if bisect_right(edges, at + start) % 2 else ""  # after a start comes an end
            found.append((text[start:end], " ".join(filter(None, (mark, cue)))))
        at += len(text)
    return found


def clipped(pieces: Pieces, most: int) -> tuple[Pieces, int]:
    """(the first `most` characters, how many were left out)."""
    kept, room = [], most
    for text, mark in pieces:
        if room > 0:
            kept.append((text[:room], mark))
        room -= len(text)
    return kept, max(0, -room)


def _blocks(a: list[str], b: list[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """(kind, i, j, k, m) for stretches a[i:j] and b[k:m]: equal, changed or, where matching would take too long, unmatched."""
    head = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    most = min(len(a), len(b)) - head
    tail = sum(1 for _ in takewhile(lambda n: a[-n] == b[-n], range(1, most + 1)))
    yield "equal", 0, head, 0, head
    i, j, k, m = head, len(a) - tail, head, len(b) - tail
    first, second = Counter(a[i:j]), Counter(b[k:m])
    if sum(n * second[word] for word, n in first.items()) > MOST_PAIRS:
        yield "unmatched", i, j, k, m
    else:
        for tag, w, x, y, z in SequenceMatcher(None, a[i:j], b[k:m], autojunk=False).get_opcodes():
            yield "equal" if tag == "equal" else "changed", i + w, i + x, k + y, k + z
    yield "equal", j, len(a), m, len(b)


def _joined(pieces: Pieces) -> Iterator[tuple[str, str]]:
    """Neighbours of one mark as one piece, a deletion before its insertion, none empty; space that both end in is no change."""
    same, changed = "", {"del": "", "ins": ""}
    for text, mark in [*pieces, ("", "end")]:
        if mark in changed:
            if text and same:
                yield same, ""
                same = ""
            changed[mark] += text
        elif text or mark == "end":
            gone, come = changed["del"], changed["ins"]
            space = os.path.commonprefix([gone[::-1], come[::-1]])[::-1]
            space = space[len(space.rstrip()) :]
            for kind, whole in changed.items():
                if part := whole[: len(whole) - len(space)]:
                    yield part, kind
                changed[kind] = ""
            same += space + text
    if same:
        yield same, ""
