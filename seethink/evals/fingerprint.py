"""`seethink fingerprint`: a benchmark as a list of hashes, by which training rows that it holds are found.

    seethink fingerprint --task mathvision --data test.jsonl --out mathvision.jsonl
    seethink curate --data runs/data/traces.jsonl --decontaminate mathvision.jsonl --out runs/clean

Reads what `seethink eval` reads. The list holds no question and no picture (data/fingerprints.py says what it does hold).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.preflight import settle
from seethink.core.store import write_jsonl
from seethink.data.fingerprints import Fingerprints, fingerprints, hash_all, to_rows
from seethink.evals.boards.find import find_board
from seethink.evals.config import FingerprintConfig


def run(config: FingerprintConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its counts. Raises UserError for a board that cannot be read, and for pictures that are no pictures."""
    if config.out.suffix != ".jsonl":
        raise UserError("lists are JSON lines", where=config.out, remedy=f"Name it {config.out.stem}.jsonl")
    board = find_board(config.task)
    with TemporaryDirectory() as taken:  # pictures that stand in the file are needed once
        rows = list(board.load(config.data, Path(taken)))
        items = [row for row in rows if not (row.id in board.left_out and isinstance(row.read, UserError))]
        settle(items, config.data, skip_bad=False, say=False)
        samples = [_with_text(row.read.sample) for row in items if isinstance(row.read, Example)]
        paths = {path for sample in samples for path in sample.images} if config.pictures else set()
        there = {path for path in paths if Path(path).is_file()}
        pictures = {} if dry_run else {path: number for path, (number, _) in hash_all(sorted(there)).items()}
        complete = not board.sizes or len(rows) in board.sizes
        name = config.out.stem if config.task == "rows" else config.task.partition(":")[0]
        title = name if config.task == "rows" else board.title
        made = datetime.now(UTC).date().isoformat()
        found = Fingerprints(name, title, made, complete, fingerprints(samples, pictures))
    if not complete:
        print(f"{len(rows):,} rows, and the benchmark has {' or '.join(f'{n:,}' for n in board.sizes)}")
    if missing := len(paths - there):
        print(f"{missing:,} of {len(paths):,} pictures are not there: their items are found by text alone")
    if dry_run:
        print(f"{len(samples):,} items, {len(there):,} pictures; nothing written")
        return
    write_jsonl(config.out, to_rows(found))
    print(f"{found}\n{config.out}")
    return {"out": str(config.out), "items": len(samples), "pictures": len(there), "complete": complete}


def _with_text(sample: Sample) -> Sample:
    """MathVerse asks in the picture, and keeps the text for the judge."""
    return replace(sample, question=str(sample.meta.get("question_for_eval") or sample.question))
