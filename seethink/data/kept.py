"""Samples that went through the pipeline, with their traces, as they stand in traces.jsonl."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, Verdict, sample_to_row
from seethink.core.store import load_samples, relative_images, write_jsonl
from seethink.core.tags import compose
from seethink.traces.lexicon import PRESETS, count_trace, load


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
        return Example(self.sample, compose(self.draft.think, self.draft.answer))


def save_kept(path: Path, rows: Iterable[Kept]) -> int:
    """traces.jsonl: a sample row with think, answer, model, tokens, verdict, and cue counts per lexicon preset."""
    return write_jsonl(path, (_row(kept, path) for kept in rows))


def load_kept(path: Path) -> list[Kept]:
    """Rows of a traces.jsonl. Raises UserError naming file and row."""
    return [_kept(sample, path) for sample in load_samples(path)]


def cue_counts(draft: Draft) -> dict[str, dict[str, int]]:
    """Counts per cue for each preset."""
    return {preset: count_trace(draft.think, draft.answer, load(preset)) for preset in PRESETS}


def _row(kept: Kept, path: Path) -> dict[str, Any]:
    draft = asdict(kept.draft) if kept.draft else dict.fromkeys(("think", "answer", "model", "tokens"))
    verdict = asdict(kept.verdict) if kept.verdict else None
    cues = cue_counts(kept.draft) if kept.draft else None
    return {**relative_images(sample_to_row(kept.sample), path), **draft, "verdict": verdict, "cues": cues}


def _kept(sample: Sample, path: Path) -> Kept:
    meta = dict(sample.meta)  # a reader of samples finds keys it does not know in meta
    parts = {key: meta.pop(key, None) for key in ("think", "answer", "model", "tokens")}
    verdict, _ = meta.pop("verdict", None), meta.pop("cues", None)
    if (parts["think"] is None) != (parts["answer"] is None):
        raise UserError(f"row {sample.id!r} has only one of think and answer", where=path, remedy="Repair the row")
    draft = None
    if parts["think"] is not None:
        draft = Draft(str(parts["think"]), str(parts["answer"]), parts["model"] or "", parts["tokens"] or 0)
    return Kept(replace(sample, meta=meta), draft, Verdict(**verdict) if verdict else None)
