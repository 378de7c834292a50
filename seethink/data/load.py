"""Samples of any source, checked before a single call is paid for."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.images import image_hash, picture_state
from seethink.core.nouns import Drop, Example, Sample
from seethink.core.preflight import check_pictures, faulty, refusal
from seethink.core.prompt import prompt_text
from seethink.core.store import DataRow, hash_text
from seethink.data.sources import FORMATS, READERS, SOURCES
from seethink.data.sources.published import Loaded, read

MOST_BROKEN = 1 / 20  # of the samples may have broken images; with more, something is wrong with all of them


def load_source(path: Path, format: str, images: Path | None, limit: int = 0) -> Loaded:
    """The first `limit` samples (0: all), those of a published source with what dropped them. Raises UserError."""
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}", remedy=f"Use one of {', '.join(FORMATS)}")
    if format in SOURCES:
        loaded = read(SOURCES[format], path, images, limit)
    else:
        loaded = Loaded(list(READERS[format](path, images)), {})
    samples = loaded.samples[:limit] if limit else loaded.samples
    if not samples:
        raise UserError("no samples", where=path, remedy="Give a file with at least one row")
    return loaded._replace(samples=samples, drops={s.id: loaded.drops[s.id] for s in samples if s.id in loaded.drops})


def unseen_pictures(samples: Iterable[Sample], known: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Path -> state of every picture that is not as it was when it was found sound; `known` are those: path -> (state, hash)."""
    unseen = {}
    for path in dict.fromkeys(image for sample in samples for image in sample.images):
        try:
            state = picture_state(path)
        except OSError:  # which looking at it will say
            state = ""
        if path not in known or known[path][0] != state:
            unseen[path] = state
    return unseen


def find_broken(samples: list[Sample], path: Path, unseen: Container[str] | None = None) -> dict[str, Drop]:
    """A drop, by sample id, for every sample with an image that is not sound to the last pixel; none: all are unseen.

    Raises UserError where more than MOST_BROKEN of the samples have one.
    """
    new = [s for s in samples if unseen is None or any(image in unseen for image in s.images)]
    rows, _ = check_pictures([DataRow(str(path), s.id, Example(s, "")) for s in new])
    bad = faulty(rows)
    if len(bad) > MOST_BROKEN * len(samples):
        raise refusal(bad, len(samples), f"At most {MOST_BROKEN:.0%} may be broken, which are dropped")
    source = {s.id: s.source for s in new}
    return {row.id: Drop(row.id, source[row.id], "metadata", "image", fault.what) for row, fault in bad}


def find_duplicates(samples: list[Sample]) -> dict[str, Drop]:
    """A drop, by sample id, for every sample whose images and question an earlier one has too."""
    first: dict[str, Sample] = {}
    drops = {}
    for sample in samples:
        original = first.setdefault(content_key(sample), sample)
        if original is not sample:
            drops[sample.id] = Drop(sample.id, sample.source, "metadata", "duplicate", f"same as {original.id}")
    return drops


def content_key(sample: Sample) -> str:
    """What makes two samples the same: bytes of the images, and the question with its options."""
    return hash_text(*(image_hash(image) for image in sample.images), " ".join(prompt_text(sample).split()))
