"""Our own JSONL: a sample a line, image paths relative to the file."""

from __future__ import annotations

from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import load_samples


def read(path: Path, images: Path | None) -> list[Sample]:
    """Samples of a JSONL file. Raises UserError naming file, row and remedy."""
    if images is not None:
        raise UserError("--images goes with published formats", remedy="Paths in rows are relative to their file")
    if path.suffix == ".json":
        remedy = "Read the paper's JSON with --format paper"
        raise UserError("rows are one JSON object per line", where=path, remedy=remedy)
    return load_samples(path)
