"""What a study would take, from its plan alone: runs, rollouts, tokens, GPU hours, disk, calls to endpoints.

Every figure is an upper bound, and what cannot be known is named, never guessed: a completion has at most as many tokens as
its limit, or as UTF-8 bytes where it is given; speed and price are those that the plan's `throughput` states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.store import read_jsonl
from seethink.study.config import CONFIG_OF, StudyConfig
from seethink.study.efforts import rows_of, stage_effort
from seethink.study.execute import Stage
from seethink.study.plan import Planner, lineage

WEIGHT, STATE = 4, 12
"""Bytes a parameter takes in a saved model (float32), and in a checkpoint (float32 with both moments of AdamW)."""
MEMORY = "memory per GPU"
READING = "time of passes that only read, of select and of evaluations with `against`"


@dataclass(frozen=True, slots=True)
class Work:
    """What one stage takes at most; None where it is not known."""

    rollouts: int | None = 0
    generated: int | None = 0
    """Completion tokens that a model here samples."""
    trained: int | None = 0
    """Completion tokens that a model here is trained on, each pass over them counted."""
    calls: int | None = 0
    """To endpoints: answers, and judgements of answers."""
    usd: float | None = 0.0

    def __add__(self, other: Work) -> Work:
        pairs = ((getattr(self, name), getattr(other, name)) for name in Work.__slots__)
        return Work(*(None if a is None or b is None else a + b for a, b in pairs))


@dataclass(frozen=True, slots=True)
class PriceRow:
    """All stages of one verb."""

    verb: str
    runs: int
    done: int
    work: Work
    gpu_hours: float | None


@dataclass(frozen=True)
class Pricing:
    """The price of a planned study."""

    config: StudyConfig
    planner: Planner
    unknown: dict[str, None] = field(default_factory=dict)
    """What could not be known, in words, in the order in which it was found."""

    @cached_property
    def rows(self) -> list[PriceRow]:
        found = []
        for verb in dict.fromkeys(stage.verb for stage in self.planner.stages.values()):
            stages = [stage for stage in self.planner.stages.values() if stage.verb == verb]
            work = sum((self.work(stage) for stage in stages), Work())
            done = sum(stage.done for stage in stages)
            hours = None if verb == "select" else self.gpu_hours(work)
            found.append(PriceRow(verb, len(stages), done, work, hours))
        return found

    @property
    def total(self) -> PriceRow:
        work = sum((row.work for row in self.rows), Work())
        return PriceRow(
            "total", sum(r.runs for r in self.rows), sum(r.done for r in self.rows), work, self.gpu_hours(work)
        )

    def gpu_hours(self, work: Work) -> float | None:
        """By the stated throughput; None where it is not stated or the tokens are not known."""
        stated, seconds = self.config.throughput, 0.0
        for tokens, name in ((work.generated, "sampled_tokens_per_s"), (work.trained, "trained_tokens_per_s")):
            speed = getattr(stated, name)
            if tokens == 0:
                continue
            if speed is None:
                self.unknown[f"GPU hours: the plan states no throughput.{name}"] = None
            if tokens is None or speed is None:
                return None
            seconds += tokens / speed
        return seconds / 3600

    def work(self, stage: Stage) -> Work:
        settings: Any = build(CONFIG_OF[stage.verb], stage.settings)
        if stage.verb == "curate":
            return Work()
        if stage.verb == "select":
            self.unknown[READING] = None
            return Work()
        return {"eval": self._eval, "sft": self._sft, "grpo": self._grpo}[stage.verb](settings)

    def _eval(self, settings: Any) -> Work:
        if settings.against:
            self.unknown[READING] = None
        items = self.count(settings.data, settings.limit)
        answers = None if items is None else items * settings.samples
        tokens = _times(answers, settings.max_tokens)
        calls, usd = self._judged(answers, settings.reward, settings.judge)
        judged = Work(calls=calls, usd=usd)
        if not settings.base_url:
            return Work(answers, tokens) + judged
        own = self._usd(settings.budget, settings.model)
        return Work(answers, calls=answers, usd=own) + judged

    def _sft(self, settings: Any) -> Work:
        lengths = self.lengths(self.planner.names[settings.data])
        if lengths is None:
            return Work(trained=None) + self._watch(settings, 0, 0)
        kept = lengths[: settings.limit or None]
        steps = int(settings.epochs * len(kept) / settings.batch_size) + 1
        return Work(trained=round(settings.epochs * sum(kept))) + self._watch(settings, steps, 1024)

    def _grpo(self, settings: Any) -> Work:
        rollouts = settings.rounds * settings.prompts * settings.group
        tokens = rollouts * settings.max_tokens
        calls, usd = self._judged(rollouts, settings.reward, None)
        work = Work(rollouts, tokens, tokens, calls, usd) + self._watch(settings, settings.rounds, settings.max_tokens)
        demos = settings.demos
        if demos.data:
            lengths = self.lengths(self.planner.names[demos.data])
            steps = settings.rounds // demos.every
            steps *= 1 if demos.apart else -(-settings.prompts // settings.update_prompts)
            work += Work(trained=None if lengths is None else steps * demos.batch * max(lengths, default=0))
        return work

    def _watch(self, settings: Any, steps: int, max_tokens: int) -> Work:
        """Evaluations during training: before, every so often, and at the end."""
        watch = settings.watch
        if watch.data is None:
            return Work()
        items = self.count(watch.data, watch.limit)
        answers = _times(items, steps // watch.every + 2)
        return Work(answers, _times(answers, watch.max_tokens or max_tokens))

    def _judged(self, answers: int | None, reward: Any, judge: Any) -> tuple[int | None, float | None]:
        """(calls, USD) of the judges of answers: of open answers, and of what rules cannot read (two questions)."""
        calls: int | None = 0
        usd: float | None = 0.0
        asked = [(reward.open.judge, 1)] if reward.open.scorer == "judge" else []
        asked += [(judge, 2)] if judge and judge.url else []
        for one, questions in asked:
            own = _times(answers, questions)
            cost = self._usd(one.budget, one.model)
            calls = None if calls is None or own is None else calls + own
            usd = None if usd is None or cost is None else usd + cost
        return calls, usd

    def _usd(self, budget: float | None, model: str) -> float | None:
        """What one stage's questions to an endpoint cost at most: nothing but a budget bounds it before prompts are counted."""
        if budget is None:
            self.unknown[f"cost of {model}: only a budget bounds it before its prompts are counted"] = None
        return budget

    def count(self, path: Path, limit: int) -> int | None:
        """Rows of a file, at most `limit` (0: all); None where it is not there and the plan states no number."""
        name = self.planner.names.get(path, str(path))
        rows = self.row_count(name)
        if rows is None:
            self.unknown[f"rows of {name}: it is not here, and throughput.rows does not state them"] = None
            return limit or None
        return min(rows, limit) if limit else rows

    def row_count(self, name: str) -> int | None:
        """Rows of data, of the board, or at most of a set."""
        config = self.config
        path = config.board if name == "board" else config.data.get(name)
        if name not in config.sets:
            rows = rows_of(path if path is None or path.suffix == ".jsonl" else None)
            return config.throughput.rows.get(name) if rows is None else rows
        made = config.sets[name]
        own = self.row_count(made.of)
        each = made.set.get("per_question", 1) if "from_scores" in made.set else 1
        bounds = [made.set.get(key) for key in ("shortest", "longest", "count")] + [*made.set.get("sizes", [])]
        return min([bound for bound in (*bounds, _times(own, each)) if bound], default=None)

    def lengths(self, name: str) -> list[int] | None:
        """Most tokens of each completion of data or of a set, longest first; None where they are not known."""
        stated, rows = self.config.throughput.completion_tokens, self.row_count(name)
        if rows is None:
            self.unknown[f"rows of {name}: it is not here, and throughput.rows does not state them"] = None
            return None
        source, answers = name, None
        while source in self.config.sets:
            made = self.config.sets[source]
            if answers := made.set.get("from_scores"):
                break
            source = made.of
        if answers in self.config.sets:  # a model's own answers: no longer than they may be
            settings = {**self.config.eval, **self.config.sets[answers].set}
            return [settings.get("max_tokens", CONFIG_OF["eval"].model_fields["max_tokens"].default)] * rows
        path = self.config.data.get(source)
        if stated is not None:
            return [stated] * rows
        if path is None or not path.is_file():
            self.unknown[f"tokens of {name}: it is not here, and throughput.completion_tokens states no mean"] = None
            return None
        return sorted(_bytes(path), reverse=True)[:rows]

    @cached_property
    def disk(self) -> tuple[float | None, float | None]:
        """(GB of all saved models, GB of one checkpoint while a stage trains); None where that cannot be told."""
        total, largest = 0.0, 0.0
        stated = self.config.throughput.billion_parameters
        for stage in self.planner.stages.values():
            if stage.verb not in ("sft", "grpo"):
                continue
            first = lineage(self.config, stage.arm)[0].start
            path = self.config.base if first == "base" else self.config.bases[first]
            size = parameters(path) or (stated * 1e9 if stated else None)
            exports = self.exports(stage)
            if size is None or exports is None:
                why = f"{path} is not here, and the plan states no throughput.billion_parameters"
                self.unknown[
                    "disk: " + (why if size is None else f"exports of {stage.arm}, whose steps are unknown")
                ] = None
                return None, None
            total += size * WEIGHT / 1e9 * (1 + exports)
            largest = max(largest, size * STATE / 1e9)
        return total, largest

    def exports(self, stage: Stage) -> int | None:
        """Models that a training leaves on its way; None where its steps are not known."""
        every = stage.settings.get("export_every", 0)
        if not every:
            return 0
        if stage.verb == "grpo":
            return build(CONFIG_OF["grpo"], stage.settings).rounds // every
        rows = self.row_count(self.planner.names[Path(stage.settings["data"])])
        steps = stage_effort("sft", stage.settings, rows)["optimiser steps"]
        return None if steps is None else steps // every


def parameters(folder: Path) -> int | None:
    """Weights of a model folder, from the headers of its safetensors files; None where it is not here."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


def say(pricing: Pricing) -> Iterator[str]:
    """The price in lines."""
    rows = [*pricing.rows, pricing.total]
    yield "at most:"
    yield f"  {'verb':8}{'runs':>6}{'done':>6}{'rollouts':>14}{'generated':>16}{'trained':>16}{'GPU hours':>12}"
    for row in rows:
        work = row.work
        cells = f"{_text(work.rollouts):>14}{_text(work.generated):>16}{_text(work.trained):>16}"
        yield f"  {row.verb:8}{row.runs:>6}{row.done:>6}{cells}{_text(row.gpu_hours, 1):>12}"
    stated, hours = pricing.config.throughput, rows[-1].gpu_hours
    if hours is not None and stated.gpus:
        yield f"wall clock: {hours / stated.gpus:,.1f} hours on {stated.gpus} GPUs, if none waits"
    if hours is not None and stated.usd_per_gpu_hour is not None:
        yield f"GPUs: {hours * stated.usd_per_gpu_hour:,.2f} USD"
    if stated.source:
        yield f"stated figures: {stated.source}"
    models, checkpoint = pricing.disk
    if models is not None and checkpoint is not None:
        yield f"disk: {models:,.2f} GB of models, and {checkpoint:,.2f} GB for every stage while it trains"
    calls, usd = rows[-1].work.calls, rows[-1].work.usd
    if calls != 0:
        yield f"endpoints: {_text(calls)} calls, {_text(usd, 2)} USD"
    for text in (*pricing.unknown, MEMORY):
        yield f"unknown: {text}"


def _bytes(path: Path) -> list[int]:
    """UTF-8 bytes of every completion: no token has less than one. A row without one counts 0."""
    try:
        return [len(str(row.get("completion") or row.get("text") or "").encode()) for _, row in read_jsonl(path)]
    except UserError:  # the stage that reads it says what is wrong
        return []


def _times(count: int | None, each: int) -> int | None:
    return None if count is None else count * each


def _text(value: float | None, digits: int = 0) -> str:
    return "unknown" if value is None else f"{value:,.{digits}f}"
