"""Samples of any source, checked before a single call is paid for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.images import image_hash, open_image
from seethink.core.nouns import Drop, Sample
from seethink.core.store import hash_text
from seethink.data.sources import FORMATS


def load_source(path: Path, format: str, images: Path | None, limit: int = 0) -> list[Sample]:
    """The first `limit` samples (0: all), every image decoded to the last pixel. Raises UserError for the first fault."""
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}", remedy=f"Use one of {', '.join(FORMATS)}")
    samples = list(FORMATS[format](path, images))
    samples = samples[:limit] if limit else samples
    if not samples:
        raise UserError("no samples", where=path, remedy="Give a file with at least one row")
    owners = {image: f"{path} (row {s.id!r})" for s in reversed(samples) for image in s.images}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter lock
        for _ in pool.map(lambda image, where: open_image(image, where).close(), owners, owners.values()):
            continue
    return samples


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
    """What makes two samples the same: bytes of the images, and the question."""
    return hash_text(*(image_hash(image) for image in sample.images), " ".join(sample.question.split()))
