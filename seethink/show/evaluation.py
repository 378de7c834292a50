"""The report of an evaluation: report.html and report.md in its folder."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path) -> None:
    """From done.json and scores.parquet alone."""
