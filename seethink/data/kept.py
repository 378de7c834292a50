"""Samples that went through the pipeline, with their traces, as they stand in traces.jsonl; and traces of any data file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.fields import refuse_tokens
from seethink.core.nouns import Example, Sample, Verdict, sample_from_row
from seethink.core.store import (
    DataRow,
    hash_file,
    hash_text,
    read_jsonl,
    read_record,
    read_rows,
    sample_row,
    typed,
    write_jsonl,
)
from seethink.core.tags import compose
from seethink.data.cache import code_hash
from seethink.traces.lexicon import PRESETS, content_hash, count_trace, load

TRACE = ("think", "answer", "model", "tokens")  # a Draft's columns
CueCounts = dict[str, dict[str, int]]
"""Lexicon preset -> how often each of its cues occurs in a trace."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A distilled trace on its way through the steps."""

    think: str
    answer: str
    """Everything after the thinking."""
    model: str = ""
    """Model string as the endpoint named it."""
    tokens: int = 0
    """Completion tokens of the distillation."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample that came through; its caption is in `sample.meta`."""

    sample: Sample
    draft: Draft | None
    """None for sources that go to RL without a trace."""
    verdict: Verdict | None

    @property
    def example(self) -> Example:
        """Of a sample with a trace."""
        assert self.draft
        return Example(self.sample, compose(self.draft.think, self.draft.answer))


def save_kept(path: Path, rows: Iterable[Kept]) -> int:
    """traces.jsonl: a sample row with think, answer, model, tokens, verdict, and cue counts per lexicon preset."""
    return write_jsonl(path, (kept_line(kept, path, count_cues(kept)) for kept in rows))


def load_kept(path: Path) -> list[Kept]:
    """Rows of a traces.jsonl. Raises UserError naming file and row."""
    return list(iter_kept(path))


def iter_kept(path: Path) -> Iterator[Kept]:
    """The same, one after the other."""
    for data, row in read_rows(path):
        if isinstance(data.read, UserError):
            raise data.read
        sample = data.read.sample
        yield Kept(_without_trace(sample, row), _draft(row, data.where), read_verdict(row, data.where))


def iter_counted(path: Path, alike: bool | None = None) -> Iterator[tuple[Kept, CueCounts | None]]:
    """Every kept row with its counts of cues. A file of which `counted_alike` says so (asked where `alike` is None) is taken
    at its word: rows and counts, which is several times faster; of any other each row is checked and counted."""
    if not (counted_alike(path) if alike is None else alike):
        yield from ((kept, count_cues(kept)) for kept in iter_kept(path))
        return
    base = str(Path(path).resolve().parent)
    for number, row in read_jsonl(path):
        ours = _ours(row)
        given = {key: value for key, value in row.items() if key not in ours}
        given["images"] = [os.path.join(base, image) for image in row["images"]]
        draft = None if row["think"] is None else Draft(*(row[name] for name in TRACE))
        verdict = Verdict(**row["verdict"]) if row["verdict"] else None
        yield Kept(sample_from_row(given, f"{path}:{number}"), draft, verdict), row["cues"]


def counting(path: Path) -> dict[str, str]:
    """What a run notes of the traces it wrote: their hash, and that of the lexicons and the code by which cues were counted."""
    return {"traces": hash_file(path), "cues": _cue_code()}


def counted_alike(path: Path) -> bool:
    """Whether a file has not changed since a run wrote it and counted its cues as we do."""
    done = path.parent / "done.json"
    summary = read_record(done).get("summary", {}) if done.is_file() else {}
    return summary.get("cues") == _cue_code() and summary.get("traces") == hash_file(path)


def _cue_code() -> str:
    return hash_text(code_hash(("traces/lexicon.py",), ()), *map(content_hash, PRESETS))


def read_traces(path: Path) -> Iterator[DataRow]:
    """Every row of a traces.jsonl, of SFT examples or of samples, as an example; its completion is empty without a trace.

    What is wrong with a row stands in its place. Raises UserError for a file of another kind.
    """
    for row, given in read_rows(path):
        if isinstance(row.read, UserError) or "think" not in given:
            yield row
            continue
        try:
            draft = _draft(given, row.where)
            if draft and row.read.completion:
                raise UserError("row has a think and a completion", where=row.where, remedy="Keep one of them")
            completion = compose(draft.think, draft.answer) if draft else row.read.completion
            refuse_tokens((completion,), row.where)
            yield row._replace(read=Example(_without_trace(row.read.sample, given), completion))
        except UserError as fault:
            yield row._replace(read=fault)


def _draft(row: dict[str, Any], where: object) -> Draft | None:
    """The trace of a row, where it has one. Raises UserError for half of one, or one of other types."""
    think, answer, model = (typed(row, key, str, where) for key in TRACE[:3])
    tokens = typed(row, "tokens", int, where)
    if (think is None) != (answer is None):
        raise UserError("row has only one of think and answer", where=where, remedy="Repair the row")
    return None if think is None else Draft(think, answer, model or "", tokens or 0)


def _without_trace(sample: Sample, row: dict[str, Any]) -> Sample:
    """A reader of samples finds our keys in meta."""
    ours = _ours(row)
    return replace(sample, meta={key: value for key, value in sample.meta.items() if key not in ours})


def _ours(row: dict[str, Any]) -> set[str]:
    """What a row holds beside its sample, unless the sample's own meta has a key of that name."""
    return {*TRACE, "verdict", "cues"} - (row.get("meta") or {}).keys()


def read_verdict(row: dict[str, Any], where: object) -> Verdict | None:
    """The verdict of a row, where it has one. Raises UserError for anything else under that key."""
    given = typed(row, "verdict", dict, where)
    if not given:
        return None
    if unknown := sorted(given.keys() - {field.name for field in fields(Verdict)}):
        raise UserError(
            f"'verdict' has a key {unknown[0][:40]!r}", where=where, remedy="A verdict is ok, by and reason"
        )
    by, reason = (typed(given, key, str, f"{where} (verdict)") for key in ("by", "reason"))
    return Verdict(typed(given, "ok", bool, f"{where} (verdict)"), by or "", reason or "")


def count_cues(kept: Kept) -> CueCounts | None:
    """Counts per preset; None for a sample without a trace."""
    if not kept.draft:
        return None
    return {preset: count_trace(kept.draft.think, kept.draft.answer, load(preset)) for preset in PRESETS}


def kept_line(kept: Kept, path: Path, cues: CueCounts | None) -> dict[str, Any]:
    """The row of traces.jsonl."""
    draft: dict[str, Any] = asdict(kept.draft) if kept.draft else dict.fromkeys(TRACE)
    verdict = asdict(kept.verdict) if kept.verdict else None
    return {**sample_row(kept.sample, path), **draft, "verdict": verdict, "cues": cues}
