"""responses.jsonl: one row per item and draw, written as the answers come, so that a killed evaluation goes on where it stopped.

Of several processes each writes a file of its own (responses-0.jsonl, ...); whoever opens the folder next puts them together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seethink.core.nouns import Sample, Trace
from seethink.core.run import Run, read_log
from seethink.core.store import open_text
from seethink.evals.board import Response

LOG = "responses.jsonl"
MEASURED = ("entropy", "kl")
"""What only the model that answered can say of its answer."""

Key = tuple[str, int]
"""Sample id and draw."""
Keep = Callable[[Response], None]
"""What a source of answers does with each."""


def gather(folder: Run, samples: Sequence[Sample], draws: int) -> dict[Key, Response]:
    """Every answer that earlier processes have kept, put together in LOG, in the order of the board; failed calls are forgotten."""
    found: dict[Key, dict[str, Any]] = {}
    parts = sorted(folder.folder.glob("responses-*.jsonl"))
    for path in (folder.path(LOG), *parts):
        for row in read_log(path):
            if row.get("stop") != "error":
                found.setdefault((row.get("sample_id", ""), row.get("draw", 0)), row)
    every = [(sample, draw) for sample in samples for draw in range(draws)]
    answered = {(s.id, draw): _response(s, found[s.id, draw]) for s, draw in every if (s.id, draw) in found}
    folder.keep_rows(LOG, [_row(response) for response in answered.values()])
    for path in parts:
        path.unlink()
    return answered


def settle(folder: Run, samples: Sequence[Sample], answered: dict[Key, Response], draws: int) -> list[Response]:
    """Every answer in the order of the board, which is also that of LOG from now on."""
    responses = [answered[sample.id, draw]._replace(sample=sample) for sample in samples for draw in range(draws)]
    folder.keep_rows(LOG, [_row(response) for response in responses])
    return responses


@contextmanager
def log(path: Path, answered: dict[Key, Response]) -> Iterator[Keep]:
    """A function that notes an answer, in a file and in `answered`."""
    with open_text(path, "a") as file:

        def keep(response: Response) -> None:
            answered[response.sample.id, response.draw] = response
            file.write(json.dumps(_row(response), ensure_ascii=False) + "\n")
            file.flush()

        yield keep


def _row(response: Response) -> dict[str, Any]:
    measured = {name: value for name in MEASURED if (value := getattr(response, name)) is not None}
    return {**asdict(response.trace), "draw": response.draw, "seconds": response.seconds, **measured}


def _response(sample: Sample, row: dict[str, Any]) -> Response:
    trace = Trace(**{name: row[name] for name in ("sample_id", "model", "text", "stop", "tokens")})
    measured = {name: row.get(name) for name in MEASURED}
    return Response(sample, trace, row.get("draw", 0), row["seconds"], **measured)
