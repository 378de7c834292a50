"""What a page shows of one question: picture, question, gold, and what one or several models made of it.

Every folder this project writes can be looked at: a study, an evaluation, the rollouts of GRPO, a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample, Verdict
from seethink.core.prompt import options_text
from seethink.core.run import read_log
from seethink.core.store import load_samples, read_jsonl, read_record, typed
from seethink.core.tables import read_table
from seethink.data.kept import read_verdict
from seethink.evals.evaluated import load_board
from seethink.evals.verdicts import STATES
from seethink.rewards import RewardConfig, Rewarder
from seethink.show.marked import Piece, pieces
from seethink.study.folder import Study, load_study
from seethink.traces.analyse import analyse, cut_off
from seethink.traces.run import completion_of
from seethink.traces.steps import Checker

FLAGS = ("flipped", "truncated", "undecided", "lucky", "right", "wrong")
SAMPLE_KEYS = ("board", "data", "source", "samples", "input")  # where a run's config names the samples it used
SHOWN = (
    "reward",
    "advantage",
    "status",
    "reason",
    "decided_by",
    "stop",
    "tokens",
    "entropy",
    "weights_version",
    "judged by",
)
THRESHOLDS = {"box": {"correct"}, "open": {"correct"}}  # settings of the reward that decide what counts as right
ROLLOUT, SCORE = ("round", "sample_id", "group", "text", "reward", "status"), ("sample_id", "part", "text", "ok")
"""Columns that a table must have to be shown."""
SEARCHED = 2_000  # characters of a text that a search looks through
DATA_FILES = ("traces.jsonl", "sft.jsonl", "rl.jsonl", "board.jsonl")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One completion: what was written, and what its grader said."""

    label: str
    pieces: list[Piece]
    ok: bool | None
    answer: str | None
    details: dict[str, str]
    """reward, status, stop, tokens, advantage ... as text, in the order to show."""
    truncated: bool
    lucky: bool | None
    graded: bool = True
    """False for a trace nobody graded, as in a data set: then ok is None without being undecided."""

    @property
    def state(self) -> str:
        """Its verdict in a word; empty where nobody graded it."""
        if self.ok is None:
            status = self.details.get("status", "")
            return status if status in STATES else "undecided" if self.graded else ""
        return "right" if self.ok else "wrong"


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its attempts."""

    sample: Sample
    part: str
    attempts: list[Attempt]
    tags: list[str] = field(default_factory=list)
    """Flags that whoever put the attempts side by side gives it."""

    @property
    def options(self) -> dict[str, str]:
        """Letter -> option, where the question does not list them itself."""
        return dict(zip(ascii_uppercase, self.sample.choices, strict=False)) if options_text(self.sample) else {}

    @property
    def flags(self) -> list[str]:
        """flipped: attempts differ in being right; right and wrong: all graded attempts are."""
        verdicts = [a.ok for a in self.attempts if a.ok is not None]
        found = {
            "flipped": len(set(verdicts)) > 1,
            "truncated": any(a.truncated for a in self.attempts),
            "undecided": any(a.graded and a.ok is None for a in self.attempts),
            "lucky": any(a.lucky for a in self.attempts),
            "right": bool(verdicts) and all(verdicts),
            "wrong": bool(verdicts) and not any(verdicts),
        }
        return [*self.tags, *(flag for flag in FLAGS if found[flag])]

    @property
    def searched(self) -> str:
        """What a search looks through: id, question, and of every attempt its answer, reason and rung; lower case."""
        keys = ("status", "reason", "decided_by")
        said = [text for a in self.attempts for text in (a.answer or "", *(a.details.get(key, "") for key in keys))]
        words = dict.fromkeys(
            text[:SEARCHED] for text in (self.sample.id, self.part, self.sample.question, *said) if text
        )
        return "\n".join(words).lower()


def from_study(study: Study, arms: Sequence[str], seed: int, checker: Checker | None) -> list[Item]:
    """The board, answered by several arms of one seed (an arm without that seed shows its first)."""
    runs = []
    for arm in arms:
        if arm not in study.arms:
            raise UserError(f"no arm {arm!r}", where=study.folder, remedy=f"Arms: {', '.join(study.arms)}")
        found = study.arms[arm].of("eval")
        runs += [next((run for run in found if run.seed == seed), found[0])] if found else []
    if not runs:
        raise UserError("no finished evaluation of these arms", where=study.folder, remedy="Finish the study first")
    tables = [(run.arm, {s.sample_id: asdict(s) for s in run.scores}) for run in runs]
    return side_by_side(study.board, tables, checker)


def from_rollouts(folder: Path, samples: dict[str, Sample], checker: Checker | None) -> list[Item]:
    """Groups of a GRPO run: all completions of one prompt side by side, in the order of training."""
    table = folder / "rollouts.parquet"
    done = table.exists()  # or still running
    rows = read_table(table, ROLLOUT) if done else read_log(folder / "rollouts.jsonl")
    rows = sorted(rows, key=lambda r: (r["round"], r["sample_id"], r["group"]))
    settings = read_record(folder / "config.json").get("reward", {})
    thresholds = {key: {n: settings[key][n] for n in names} for key, names in THRESHOLDS.items() if key in settings}
    rewarder, items = Rewarder(build(RewardConfig, thresholds)), []
    for (number, sample_id), group in groupby(rows, key=lambda r: (r["round"], r["sample_id"])):
        sample = _sample(samples, sample_id, folder)
        item = Item(sample, f"round {number}", [])
        for row in group:  # with the verdict an evaluation would give its reward
            ok = rewarder.is_correct(Reward(row["reward"], row["status"], sample.kind))
            item.attempts.append(attempt(f"#{row['group']}", {**row, "ok": ok}, sample, checker))
        items.append(item)
    return items


def from_data(path: Path, checker: Checker | None) -> list[Item]:
    """Any JSONL of samples: with their traces where rows have them, bare otherwise."""
    items = []
    for sample, (number, row) in zip(load_samples(path), read_jsonl(path), strict=True):
        where = f"{path}:{number}"
        text, verdict = completion_of(row, where), read_verdict(row, where) or Verdict(None, "")
        tokens, model = typed(row, "tokens", int, where), typed(row, "model", str, where)
        fields = {"text": text, "ok": verdict.ok, "tokens": tokens, "judged by": verdict.by or None}
        attempts = [] if text is None else [attempt(model or "trace", fields, sample, checker)]
        items.append(Item(sample, str(sample.meta.get("part", sample.source)), attempts))
    return items


def load_items(
    run: Path, other: Path | None, samples: Path | None, arms: Sequence[str], seed: int, checker: Checker | None
) -> list[Item]:
    """Items of whatever `run` is. Raises UserError where there is nothing to look at."""
    if other and not (run / "scores.parquet").exists():
        raise UserError("only evaluations are put side by side", where=run, remedy="Leave the second one out")
    if run.is_file():
        return from_data(run, checker)
    if (run / "study.json").exists():
        return from_study(load_study(run), arms, seed, checker)
    if (run / "scores.parquet").exists():
        folders = [run, other] if other else [run]
        if other and not (other / "scores.parquet").exists():
            raise UserError("no scores.parquet here", where=other, remedy="Give a second evaluation folder")
        names = ["/".join(folder.resolve().parts[1:][-3:]) for folder in folders]  # enough to tell two runs apart
        tables = [
            table
            for folder, name in zip(folders, names, strict=True)
            for table in _by_draw(name, read_table(folder / "scores.parquet", SCORE))
        ]
        return side_by_side(_samples_of(run, samples), tables, checker)
    if (run / "rollouts.parquet").exists() or (run / "rollouts.jsonl").exists():
        return from_rollouts(run, _samples_of(run, samples), checker)
    for name in DATA_FILES:
        if (run / name).exists():
            return from_data(run / name, checker)
    raise UserError("nothing to look at", where=run, remedy="Give a study, an evaluation, a GRPO run or a JSONL file")


def attempt(label: str, row: dict[str, Any], sample: Sample, checker: Checker | None) -> Attempt:
    """A completion with its marks; `row` holds text, ok and whatever else its table recorded."""
    ok, text = row.get("ok"), row["text"] or ""
    stop = row.get("stop") or "stop"
    lucky = analyse(text, sample, checker, ok=ok, stop=stop).lucky if checker else None
    recorded = {key: row[key] for key in SHOWN if row.get(key) is not None}
    shown = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in recorded.items()}
    shown = {key: value for key, value in shown.items() if value and (key, value) != ("tokens", "0")}
    graded = "status" in row or ok is not None
    return Attempt(
        label, pieces(text, sample, checker), ok, row.get("answer"), shown, cut_off(text, stop), lucky, graded
    )


def side_by_side(
    samples: dict[str, Sample], tables: list[tuple[str, dict[str, dict]]], checker: Checker | None
) -> list[Item]:
    """One item per row of the first table, with the attempts of every table that has it."""
    items = []
    for sample_id, first in tables[0][1].items():
        sample = _sample(samples, sample_id, "the board")
        rows = [(label, table[sample_id]) for label, table in tables if sample_id in table]
        items.append(Item(sample, first["part"], [attempt(label, row, sample, checker) for label, row in rows]))
    return items


def _by_draw(name: str, rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, dict]]]:
    """(label, rows by id) of an evaluation: one table, or one for each of its draws."""
    tables: dict[int, dict[str, dict]] = {}
    for row in rows:
        tables.setdefault(row.get("draw") or 0, {})[row["sample_id"]] = row
    return [(name if len(tables) == 1 else f"{name} #{draw + 1}", tables[draw]) for draw in sorted(tables)]


def _samples_of(run: Path, samples: Path | None) -> dict[str, Sample]:
    """Samples from the file given, else from the one the run's config names."""
    if samples:
        return {s.id: s for s in load_samples(samples)}
    config = read_record(run / "config.json")
    if (task := config.get("task", "rows")) != "rows":
        return load_board(task, config, run)
    for path in (Path(config[key]) for key in SAMPLE_KEYS if isinstance(config.get(key), str)):
        if path.suffix == ".jsonl" and path.is_file():
            return {s.id: s for s in load_samples(path)}
    raise UserError("cannot find the samples of this run", where=run, remedy="Give --samples board.jsonl")


def _sample(samples: dict[str, Sample], sample_id: str, where: object) -> Sample:
    if sample_id not in samples:
        raise UserError(f"no sample {sample_id!r}", where=where, remedy="Give the samples of this run with --samples")
    return samples[sample_id]
