"""`seethink traces`: analyse every trace of a run, a table or a data file.

    seethink traces runs/eval/scores.parquet --samples board.jsonl --checker my_domain.steps:check --out out

Reads rollouts.parquet, scores.parquet or JSON lines with a `text` or `completion`; writes traces.parquet and a summary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.run import Run
from seethink.core.store import hash_file, hash_json, load_samples, read_jsonl, typed
from seethink.core.tables import read_table, write_table
from seethink.core.tags import compose
from seethink.traces.analyse import TraceStats, analyse
from seethink.traces.config import TracesConfig
from seethink.traces.lexicon import PRESETS, content_hash
from seethink.traces.steps import Checker, load_checker
from seethink.traces.summary import Summary, mean, say, summarise


@dataclass(frozen=True, slots=True)
class Row:
    """One trace to analyse, whatever file it came from."""

    sample_id: str
    text: str
    ok: bool | None = None
    stop: str = "stop"
    tokens: int = 0
    entropy: float | None = None
    """Nats per token, where the sampler recorded it."""
    group: str = ""
    """round of a rollout, part of a board, or empty."""


def run(config: TracesConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for unreadable input, an unknown checker or lexicon, or samples that are missing."""
    checker = load_checker(config.checker) if config.checker else None
    if checker and config.samples is None:
        raise UserError("a checker needs the samples", remedy="Give --samples")
    lexicons = hash_json({name: content_hash(name) for name in config.lexicons})
    inputs = {"input": hash_file(existing(config.input)), "lexicons": lexicons}
    samples = {s.id: s for s in load_samples(config.samples)} if config.samples else {}
    rows = list(read_rows(config.input, config.right_from))
    rows = rows[: config.limit] if config.limit else rows
    missing = [r.sample_id for r in rows if r.sample_id not in samples] if samples else []
    if missing:
        what = f"{len(missing)} traces have no sample, e.g. {missing[0]!r}"
        raise UserError(what, where=config.samples, remedy="Give the samples they answer")
    if dry_run:
        print(
            f"{len(rows)} traces of {config.input}, {len(config.lexicons)} lexicons, checker {config.checker or 'none'}"
        )
        return
    inputs |= {"samples": hash_file(config.samples)} if config.samples else {}
    with Run.open(config.out, "traces", config, inputs, overwrite=config.overwrite) as folder:
        if not (whole := folder.done):
            stats = [analyse_row(row, samples.get(row.sample_id), checker, config.lexicons) for row in rows]
            table = [table_row(row, of_row) for row, of_row in zip(rows, stats, strict=True)]
            write_table(folder.path("traces.parquet"), table, ["sample_id"], of=(Row, TraceStats))
            folder.finish(**summary(rows, stats))
        print(f"traces: {'done before' if whole else 'finished'}, {len(rows)} analysed, {config.out}")
        say(folder.summary)


def existing(path: Path) -> Path:
    """Raises UserError unless it is a file; of a run's folder it names the files."""
    if not path.is_file():
        found = sorted(f.name for f in path.iterdir() if f.suffix in (".parquet", ".jsonl")) if path.is_dir() else []
        what = "this is a folder" if path.is_dir() else "file not found"
        remedy = f"Give a file in it: {', '.join(found)}" if found else "Give a .parquet or .jsonl file"
        raise UserError(what, where=path, remedy=remedy)
    return path


def read_rows(path: Path, right_from: float) -> Iterator[Row]:
    """Traces of a table or a JSONL file. Raises UserError naming the column or row at fault."""
    if path.suffix == ".jsonl":
        for number, row in read_jsonl(path):
            if "think" not in row or row["think"] is not None:  # a sample may go to RL without a trace
                yield from_dict(row, f"{path}:{number}", right_from)
    elif path.suffix == ".parquet":
        for number, row in enumerate(read_table(path), 1):
            yield from_dict(row, f"{path} (row {number})", right_from)
    else:
        raise UserError(f"cannot read traces from {path.suffix!r} files", where=path, remedy="Give .parquet or .jsonl")


def completion_of(row: dict[str, Any], where: object) -> str | None:
    """What a model wrote, by whatever name a file keeps it; None where a row holds no trace. Raises UserError."""
    think = typed(row, "think", str, where)
    if think is not None:
        return compose(think, typed(row, "answer", str, where) or "")
    return typed(row, "text" if "text" in row else "completion", str, where)


def from_dict(row: dict[str, Any], where: object, right_from: float = 1.0) -> Row:
    """A Rollout, a Score, a Trace, a kept trace of the data pipeline or a sample with a completion, as a row."""
    text, sample_id = completion_of(row, where), row.get("sample_id", row.get("id"))
    if sample_id is None or text is None:
        raise UserError("no `sample_id` and `text` here", where=where, remedy="Give rollouts, scores or traces")
    reward, entropy = (typed(row, key, float, where) for key in ("reward", "entropy"))
    ok = typed(row, "ok", bool, where) if "ok" in row else None if reward is None else reward >= right_from
    stop, tokens = typed(row, "stop", str, where) or "stop", typed(row, "tokens", int, where) or 0
    group = row.get("part", row.get("round"))
    for key, value in (("sample_id", sample_id), ("part or round", group)):
        if not isinstance(value, str | int | None) or isinstance(value, bool):
            raise UserError(f"{key} is neither a text nor a number", where=where, remedy="Repair or remove the row")
    return Row(str(sample_id), text, ok, stop, tokens, entropy, "" if group is None else str(group))


def analyse_row(
    row: Row, sample: Sample | None, checker: Checker | None, lexicons: tuple[str, ...] = PRESETS
) -> TraceStats:
    return analyse(row.text, sample, checker, ok=row.ok, stop=row.stop, tokens=row.tokens, lexicons=lexicons)


def table_row(row: Row, stats: TraceStats) -> dict[str, Any]:
    """Flat row of traces.parquet: what was measured, and the shares that follow from it."""
    flat = {k: v for k, v in asdict(stats).items() if k not in ("markers", "marked_words")}
    rates = {f"markers_{name}": stats.per_100_words(name) for name in stats.markers}
    derived = {name: getattr(stats, name) for name in ("pseudo_ahas", "true_share", "undecidable_share", "lucky")}
    return {"sample_id": row.sample_id, "group": row.group, "entropy": row.entropy, **flat, **rates, **derived}


def summary(rows: list[Row], stats: list[TraceStats]) -> Summary:
    """Over all traces and per group (board part or rollout step), with the entropy of the first rollouts."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.group, []).append(i)
    first = next(iter(groups.values()), [])
    several, asked = groups if len(groups) > 1 else {}, [row.sample_id for row in rows]
    of = lambda members: summarise([stats[i] for i in members], [asked[i] for i in members])  # noqa: E731
    return {
        "all": summarise(stats, asked),
        "groups": {name: of(members) for name, members in several.items()},
        "entropy": mean([r.entropy for r in rows]),
        "entropy_first": mean([rows[i].entropy for i in first]),
    }
