"""Answers that were made elsewhere: a JSONL of {"id", "text", "extraction"?}, one line per item (and draw)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.core.store import read_jsonl, typed
from seethink.evals.board import Response


def read_predictions(path: Path, samples: list[Sample], left_out: Mapping[str, str], model: str) -> list[Response]:
    """One Response per item, in the order of the board; an item without a prediction is one without a response.

    Raises UserError for an id that is not on the board, given twice, or a row without a text.
    """
    known, found = {sample.id for sample in samples}, {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        name = row.get("id")
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(name, str) or not name:
            raise UserError("row has no id", where=where, remedy='Every row needs "id" and "text"')
        if name in left_out:
            continue
        if name not in known:
            what = f"id {name[:80]!r} is not on the board"
            raise UserError(what, where=where, remedy="Give the predictions of this very board and split")
        if name in found:
            raise UserError(f"id {name[:80]!r} was already given", where=where, remedy="Give one prediction per item")
        text, extraction = typed(row, "text", str, where), typed(row, "extraction", str, where)
        if text is None:
            raise UserError(
                "row has no text", where=where, remedy="Write what the model answered, or leave the row out"
            )
        found[name] = text, extraction, typed(row, "stop", str, where), typed(row, "tokens", int, where)
    if not found:
        raise UserError("no predictions", where=path, remedy='Give a JSONL of {"id", "text"}')
    responses = []
    for sample in samples:
        text, extraction, stop, tokens = found.get(sample.id, ("", None, "error", 0))
        trace = Trace(
            sample.id,
            model,
            text,
            "length" if stop == "length" else "error" if stop == "error" else "stop",
            tokens or 0,
        )
        responses.append(Response(sample, trace, extraction=extraction))
    return responses
