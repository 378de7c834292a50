"""`seethink eval table`: the paper's table of six benchmarks, rows of ours and the published ones.

    seethink eval table runs/mathvista runs/mathvision runs/dynamath ... --out runs/table

One row per model. A benchmark that was not run is "not measured", one on which a judge failed has no number; an average is
given of all six or not at all. Under the table stands what of every number is known not to match the published one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from seethink.core.errors import UserError
from seethink.core.guard import refuse_foreign
from seethink.core.store import write_json, write_text
from seethink.evals.config import TableConfig
from seethink.evals.evaluated import Evaluated, read_evaluation
from seethink.evals.published import Published, mismatches, published
from seethink.show.evaluation import why_none
from seethink.show.pages import asset, environment


def run(config: TableConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; what table.json holds. Raises UserError for a folder without a finished evaluation, or none of the six."""
    runs = [read_evaluation(folder) for folder in config.runs]
    six = published()
    others = [run for run in runs if run.task not in six.columns]
    if len(others) == len(runs):
        titles = ", ".join(sorted({run.title for run in others})) or "no run"
        raise UserError(
            f"none of these is a benchmark of the table: {titles}", remedy=f"Its columns: {', '.join(six.columns)}"
        )
    if dry_run:
        print(f"{len(runs) - len(others)} evaluations -> {config.out / 'table.html'}")
        return None
    refuse_foreign(config.out, "table.json")
    found = {
        "columns": six.columns,
        "rows": rows_of([run for run in runs if run.task in six.columns], six),
        "published": [
            {"model": row.model, "scores": row.scores, "average": row.average, "mean": fmean(row.scores.values())}
            for row in six.rows
        ],
        "numbers": six.numbers,
        "differs": six.differs,
        "left_out": [f"{run.title} ({run.folder}) is no column of the table" for run in others],
    }
    page = {**found, "css": [asset(name) for name in ("base.css", "report.css", "eval.css")], **_footnotes(found)}
    for name, markdown in (("table.html", False), ("table.md", True)):
        text = environment(markdown).get_template(f"{name}.j2").render(page)
        write_text(config.out / name, text.encode("utf-8", "replace").decode())
    write_json(config.out / "table.json", found)
    print(f"table: {len(found['rows'])} rows of ours, {config.out / 'table.html'}")
    return found


def rows_of(runs: Sequence[Evaluated], six: Published) -> list[dict[str, Any]]:
    """One row per model and kind of pictures; a second run of the same benchmark starts another row."""
    rows: list[dict[str, Any]] = []
    for one in runs:
        images = one.summary.get("images") or "own"
        label = one.model if images == "own" else f"{one.model}, {images} pictures"
        row = next((r for r in rows if r["model"] == label and one.task not in r["cells"]), None)
        if row is None:
            row = {"model": label, "cells": {}, "average": None}
            rows.append(row)
        row["cells"][one.task] = cell(one)
    for row in rows:
        scores = [row["cells"][task]["score"] for task in six.columns if task in row["cells"]]
        if len(scores) == len(six.columns) and None not in scores:
            row["average"] = fmean(scores)
    return rows


def cell(run: Evaluated) -> dict[str, Any]:
    """A number with its limits in percent, or why there is none, and what does not match."""
    s = run.summary
    keys = ("profile", "prompt", "judge", "n", "right", "wrong", "unparsed", "judge_failed", "coverage", "dataset_hash")
    return {
        "score": s.get("score"),
        "interval": s.get("score_interval"),
        "why": why_none(s),
        "notes": mismatches(run),
        "run": str(run.folder),
        **{key: s.get(key) for key in keys},
    }


def _footnotes(found: dict[str, Any]) -> dict[str, Any]:
    """Notes in order with a number each, equal ones sharing it; and what is said of every benchmark alike."""
    notes = [note for row in found["rows"] for one in row["cells"].values() for note in one["notes"]]
    unique = list(dict.fromkeys(notes))
    first, *rest = found["differs"].values()
    everywhere = [text for text in first if all(text in texts for texts in rest)]
    marks = {note: number for number, note in enumerate(unique, 1)}
    return {"marks": marks, "footnotes": unique, "everywhere": everywhere}
