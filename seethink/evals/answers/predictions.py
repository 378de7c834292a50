"""Answers that were made elsewhere: a JSONL of {"id", "text", "extraction"?, "draw"?}, one line per item and draw.

responses.jsonl of another evaluation is such a file, so that its answers can be scored again under another profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Trace
from seethink.core.store import read_jsonl, typed
from seethink.evals.board import Response

MOST_DRAWS = 1000


class Prediction(NamedTuple):
    """A row of the file."""

    text: str
    extraction: str | None
    stop: str | None
    tokens: int | None


def read_predictions(path: Path, samples: list[Sample], left_out: Mapping[str, str], model: str) -> list[Response]:
    """One Response per item and draw, in the order of the board; one without a prediction never came.

    Raises UserError for an id that is not on the board, given twice, a row without a text, or a draw that is left out.
    """
    known, found = {sample.id for sample in samples}, {}
    for number, row in read_jsonl(path, repair=True):
        where = f"{path}:{number}"
        if (name := _id(row, where)) in left_out and name not in known:
            continue
        if name not in known:
            what = f"id {name[:80]!r} is not on the board"
            raise UserError(what, where=where, remedy="Give the predictions of this very board and split")
        draw = typed(row, "draw", int, where) or 0
        if not 0 <= draw < MOST_DRAWS:
            raise UserError(f"draw {draw}", where=where, remedy="Number the answers to an item from 0")
        if (name, draw) in found:
            what = f"id {name[:80]!r} was already given"
            raise UserError(what, where=where, remedy='Give one prediction per item, or number them by "draw"')
        found[name, draw] = _prediction(row, where)
    if not found:
        raise UserError("no predictions", where=path, remedy='Give a JSONL of {"id", "text"}')
    draws = {draw for _, draw in found}
    if missing := sorted(set(range(max(draws))) - draws):
        raise UserError(f"no prediction has draw {missing[0]}", where=path, remedy="Number the draws from 0")
    never = Prediction("", None, "error", None)
    return [_response(s, model, found.get((s.id, draw), never), draw) for s in samples for draw in sorted(draws)]


def _id(row: dict[str, Any], where: str) -> str:
    name = row.get("id", row.get("sample_id"))
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if not isinstance(name, str) or not name:
        raise UserError("row has no id", where=where, remedy='Every row needs "id" and "text"')
    return name


def _prediction(row: dict[str, Any], where: str) -> Prediction:
    text, extraction = typed(row, "text", str, where), row.get("extraction")
    if isinstance(extraction, int | float) and not isinstance(extraction, bool):  # a number that somebody stored as one
        extraction = str(extraction)
    elif extraction is not None:
        extraction = typed(row, "extraction", str, where)
    if text is None:
        remedy = "Write what the model answered, or leave the row out"
        raise UserError("row has no text", where=where, remedy=remedy)
    return Prediction(text, extraction, typed(row, "stop", str, where), typed(row, "tokens", int, where))


def _response(sample: Sample, model: str, prediction: Prediction, draw: int) -> Response:
    stop = "length" if prediction.stop == "length" else "error" if prediction.stop == "error" else "stop"
    trace = Trace(sample.id, model, prediction.text, stop, prediction.tokens or 0)
    return Response(sample, trace, draw, extraction=prediction.extraction)
