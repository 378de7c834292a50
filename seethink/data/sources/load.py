"""Samples from files, checked before a single call is paid for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Literal

from seethink.core.errors import UserError
from seethink.core.images import image_hash, open_image
from seethink.core.nouns import Drop, Sample
from seethink.core.store import hash_text, load_samples
from seethink.data.sources.paper import load_paper

Format = Literal["rows", "paper"]


def load_source(path: Path, format: Format, images: Path | None, limit: int = 0) -> list[Sample]:
    """Samples in the order of the file. Raises UserError naming file, row and remedy.

    rows    our JSONL, image paths relative to the file
    paper   the paper's JSON, images below the folder `images` or beside the file
    """
    if format == "rows" and images is not None:
        raise UserError("--images goes with --format paper", remedy="Paths in rows are relative to their file")
    if format == "rows" and path.suffix == ".json":
        raise UserError(
            "rows are one JSON object per line", where=path, remedy="Read the paper's JSON with --format paper"
        )
    samples = load_paper(path, images) if format == "paper" else load_samples(path)
    samples = samples[:limit] if limit else samples
    if not samples:
        raise UserError("no samples", where=path, remedy="Give a file with at least one row")
    check_images(samples, path)
    return samples


def check_images(samples: list[Sample], path: Path) -> None:
    """Decode every image to the last pixel. Raises UserError for the first broken one."""
    owners = {image: f"{path} (row {s.id!r})" for s in reversed(samples) for image in s.images}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter lock
        for _ in pool.map(_check_image, owners, owners.values()):
            continue


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
    return hash_text(*(_image_hash(image) for image in sample.images), " ".join(sample.question.split()))


@cache
def _image_hash(path: str) -> str:
    return image_hash(path)


def _check_image(path: str, where: str) -> None:
    open_image(path, where).close()
