"""Training rows that a benchmark holds, by lists of its fingerprints; every find says which item and by what.

    both      a picture within NEAR bits of the item's, and its text: half of its sampled runs of words, or the whole question
    text      runs of 13 words, or a whole question of 8 words or more, unless many rows with other pictures say the same
    picture   within ALONE bits, and not plain: white pages with a few lines resemble one another (LOG.md has the figures)

A question of fewer than 8 words is found with its picture only, and so is a template ("How many objects are left?").
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from seethink.core.images import image_hash
from seethink.core.nouns import Drop, Sample
from seethink.core.store import hash_file, hash_json
from seethink.data.fingerprints import (
    LONG,
    SHARED,
    Fingerprint,
    Fingerprints,
    hash_all,
    hash_words,
    list_files,
    read_fingerprints,
    runs,
    words,
)

NEAR, ALONE = 10, 4
"""Bits of 64 by which two hashes of one picture may differ: beside text, and alone."""
HALF = 0.5  # of an item's sampled runs of words that a row must hold

CONTAMINATED = "contaminated"  # the word of the funnel
WHOLE = "the whole question"
Shown = dict[int, tuple[int, bool]]
"""Item, as a place in all lists one after the other -> how many bits its nearest picture is off, and whether that is plain."""


class Find(NamedTuple):
    """Why a row counts as an item of a benchmark."""

    benchmark: str
    item: str
    by: str
    """both, text or picture."""
    what: str
    """In words."""

    def __str__(self) -> str:
        return f"{self.benchmark} {self.item}: {self.what}"


def content_of(names: Iterable[str]) -> str:
    """Hash of what the lists hold, whatever they are called."""
    return hash_json([hash_file(path) for path in list_files(names)])


def drop_contaminated(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, Drop]:
    """A drop, by sample id, for each sample that one of the lists holds; none without lists. Raises as below."""
    found = find_contaminated(samples, names) if names else {}
    source = {sample.id: sample.source for sample in samples}
    return {name: Drop(name, source[name], "metadata", CONTAMINATED, str(find)) for name, find in found.items()}


def find_contaminated(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, Find]:
    """A find, by sample id, for each sample that one of the lists holds; counts are printed.

    Raises UserError for a list or a picture that cannot be read.
    """
    lists = [read_fingerprints(path) for path in list_files(names)]
    items = [item for one in lists for item in one.items]
    owner = [one for one in lists for _ in one.items]
    texts = same_text(samples, items)
    pictures = near_pictures(samples, items)
    known = templates(samples, items, texts)
    found: dict[str, Find] = {}
    for sample, said, shown in zip(samples, texts, pictures, strict=True):
        finds = []
        for place in said.keys() | shown.keys():
            bits = f"a picture {shown[place][0]} of 64 bits off its own" if place in shown else ""
            if place in said and place in shown:
                finds.append((0, place, "both", f"{bits}, and {said[place]}"))
            elif place in said and items[place].run and place not in known and _strong(items[place], said[place]):
                finds.append((1, place, "text", said[place]))
            elif place in shown and shown[place][0] <= ALONE and not shown[place][1]:
                finds.append((2, place, "picture", bits))
        if finds:
            _, place, by, what = min(finds)
            found[sample.id] = Find(owner[place].name, items[place].id, by, what)
    report(lists, found, len(samples))
    return found


def _strong(item: Fingerprint, said: str) -> bool:
    """Whether a text may count without a picture: 13 words in a row do, 8 in a row only as the whole question."""
    return item.run == LONG or said == WHOLE


def same_text(samples: Sequence[Sample], items: Sequence[Fingerprint]) -> list[dict[int, str]]:
    """Of each sample the items whose text it holds, by place, and how much of it."""
    wholes, holders = defaultdict(list), defaultdict(list)
    for place, item in enumerate(items):
        wholes[item.whole].append(place)
        for run in item.runs:
            holders[run].append(place)
    lengths = {item.run for item in items} - {0}
    found = []
    for sample in samples:
        its = words(sample.question)
        hits = Counter(p for length in lengths for run in runs(its, length) for p in holders.get(run, ()))
        said = {
            place: f"{n} of {len(items[place].runs)} runs of {items[place].run} words"
            for place, n in hits.items()
            if n >= max(2, HALF * len(items[place].runs))  # one run alone may be a template's
        }
        found.append(said | dict.fromkeys(wholes.get(hash_words(its), ()) if its else (), WHOLE))
    return found


def templates(samples: Sequence[Sample], items: Sequence[Fingerprint], texts: Sequence[dict[int, str]]) -> set[int]:
    """Items whose text tells nothing of one of them: SHARED others ask the same, or rows with as many different pictures."""
    alike = Counter(item.whole for item in items)
    shown: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for sample, said in zip(samples, texts, strict=True):
        key = tuple(image_hash(path) for path in sample.images) if said else ()
        for place in said:
            shown[place].add(key)
    return {place for place, item in enumerate(items) if alike[item.whole] > SHARED or len(shown[place]) > SHARED}


def near_pictures(samples: Sequence[Sample], items: Sequence[Fingerprint]) -> list[Shown]:
    """Of each sample the items with a picture near one of its own. None is opened where the lists hold no picture."""
    holders: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        for picture in item.pictures:
            holders[picture].append(place)
    if not holders:
        return [{} for _ in samples]
    hashes = hash_all(path for sample in samples for path in sample.images)
    near = pairs_within(sorted({number for number, _ in hashes.values()}), sorted(holders), NEAR)
    found: list[Shown] = []
    for sample in samples:
        shown: Shown = {}
        for number, plain in (hashes[path] for path in sample.images):
            for theirs, bits in near.get(number, ()):
                shown |= {place: min((bits, plain), shown.get(place, (bits, plain))) for place in holders[theirs]}
        found.append(shown)
    return found


def pairs_within(ours: Sequence[int], theirs: Sequence[int], bits: int) -> dict[int, list[tuple[int, int]]]:
    """Hash of ours -> those of theirs that differ in at most `bits` bits, and in how many: every pair is looked at."""
    near: dict[int, list[tuple[int, int]]] = defaultdict(list)
    row = np.array(ours, np.uint64)
    for other in theirs:  # a row of 200,000 a time takes 0.2 ms and no memory to speak of
        distance = np.bitwise_count(row ^ np.uint64(other))
        for at in np.flatnonzero(distance <= bits):
            near[ours[int(at)]].append((other, int(distance[at])))
    return near


def report(lists: Sequence[Fingerprints], found: dict[str, Find], rows: int) -> None:
    """What each list covers and found."""
    by = Counter((find.benchmark, find.by) for find in found.values())
    for one in lists:
        counts = [f"{by[one.name, kind]} by {kind}" for kind in ("both", "text", "picture") if by[one.name, kind]]
        print(f"{one}; found in {rows:,} rows: {', '.join(counts) or 'none'}")
