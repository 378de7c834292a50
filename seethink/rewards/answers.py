"""A file of answers, and `seethink reward score`, which scores it.

    seethink reward score answers.jsonl --out rewards.jsonl

A row of answers is a sample row with a `response`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample, sample_from_row
from seethink.core.store import read_jsonl, write_jsonl
from seethink.core.tags import extract
from seethink.rewards.config import ScoreConfig
from seethink.rewards.rewarder import Rewarder

CHUNK = 4096
FORMAT = "format"
"""Rows of this kind ask for extraction only: 1 where there is an answer."""


class Answered(NamedTuple):
    """One line of the file; `kind` is that of the sample, or FORMAT."""

    sample: Sample
    response: str
    kind: str


def run(config: ScoreConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; counts by kind and status. Raises UserError for rows that are no samples or have no response."""
    counts: Counter[str] = Counter()

    def scored(rewarder: Rewarder) -> Iterator[dict[str, Any]]:
        rows = read_answers(config.input)
        while chunk := list(islice(rows, CHUNK)):
            asked = [row for row in chunk if row.kind != FORMAT]
            rated = iter(rewarder.score_batch([row.sample for row in asked], [row.response for row in asked]))
            for row in chunk:
                if row.kind == FORMAT:
                    parsed = extract(row.response, config.reward.extraction)
                    reward = Reward(float(parsed.status == "ok"), parsed.status, FORMAT, parsed.answer)
                else:
                    reward = next(rated)
                counts[f"{row.kind} {reward.status}"] += 1
                said = {"status": reward.status, "answer": reward.answer, "detail": reward.detail}
                yield {"id": row.sample.id, "reward": reward.value, **said}

    if dry_run:
        print(f"reward score: {sum(1 for _ in read_answers(config.input))} rows, nothing written")
        return
    with Rewarder(config.reward) as rewarder:
        written, spent = write_jsonl(config.out, scored(rewarder)), rewarder.spending()
    print(f"reward score: {written} rows, {config.out}")
    for name, count in sorted(counts.items()):
        print(f"  {name}: {count}")
    for row in spent:
        usd = "price unknown" if row["usd"] is None else f"{row['usd']:.4f} USD"
        print(f"  {row['step']} {row['model']}: {row['calls']} calls, {usd}")
    return {"out": str(config.out), "rows": written, "counts": dict(sorted(counts.items())), "spend": spent}


def read_answers(path: Path, need_response: bool = True) -> Iterator[Answered]:
    """Rows of a file, image paths relative to it. Raises UserError naming the row at fault."""
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        response = row.pop("response", None)
        if response is None and need_response:
            raise UserError("row has no 'response'", where=where, remedy="Write the model's whole text under response")
        if not isinstance(response, str | None):
            raise UserError("response is not a text", where=where, remedy="Write the model's whole text under response")
        as_sample = {**row, "kind": "open"} if row.get("kind") == FORMAT else row
        sample = sample_from_row({"question": "", "id": str(number), **as_sample}, where)
        images = tuple(str(path.resolve().parent / image) for image in sample.images)
        kind = FORMAT if row.get("kind") == FORMAT else sample.kind
        yield Answered(replace(sample, images=images), response or "", kind)
