"""Stages as child processes: each once those it needs are done, as many at a time as there are cores or GPUs.

A stage is an ordinary command with an ordinary run folder, so a killed study continues where each of its stages was.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from seethink.core.config import Effect, build, effects
from seethink.core.errors import UserError
from seethink.core.load import hash_code
from seethink.core.progress import progress
from seethink.core.run import read_log
from seethink.core.shipped import here_or_shipped
from seethink.core.store import hash_json, hash_path, read_record, write_json
from seethink.study.config import CONFIG_OF
from seethink.study.process import Child, start
from seethink.study.reuse import MARK, copy_stage, finished_stages, stage_key

WORK = {
    "eval": 12,
    "sft": 20,
    "grpo": 60,
    "select": 6,
    "curate": 1,
}  # how long stages take in proportion; only the ETA depends on it


@dataclass(frozen=True)
class Stage:
    """One command of the study."""

    arm: str
    """Its arm or base, or `set <name>` for one that makes a data set."""
    seed: int | None
    """None for a data set that all seeds share."""
    name: str
    """sft, grpo, eval or eval-<name>; of a data set its verb"""
    verb: str
    settings: dict[str, Any]
    after: tuple[Path, ...]
    """Run folders that must be done first."""

    @property
    def out(self) -> Path:
        return Path(self.settings["out"])

    @property
    def command(self) -> list[str]:
        return ["seethink", self.verb, f"@{self.config_file}"]

    @property
    def config_file(self) -> Path:
        return self.out.with_name(f"{self.out.name}.json")

    @property
    def mark(self) -> Path:
        """Beside its run folder once it is done: with which settings, and from what."""
        return self.out.with_name(f"{self.out.name}{MARK}")

    def inputs(self) -> dict[str, str | None]:
        """Hash of everything that its settings say is read, by their dotted keys; None for what is not there."""
        config = build(CONFIG_OF[self.verb], self.settings)
        found = {key: _content(value) for key, value in _marked(config, Effect.INPUT).items() if value is not None}
        return found | {key: hash_code(name) for key, name in code_of(config).items()}

    @property
    def done(self) -> bool:
        """Finished with exactly these settings and these inputs, so that a change re-runs only what depends on it."""
        if not (self.out / "done.json").exists() or not self.mark.exists():
            return False
        mark = read_record(self.mark)
        if not isinstance(mark, dict) or mark.get("settings") != self.settings:
            return False
        inputs = self.inputs()
        return None not in inputs.values() and mark.get("inputs") == inputs

    @property
    def label(self) -> str:
        return f"{self.arm} {self.name}" if self.seed is None else f"{self.arm} seed {self.seed} {self.name}"

    @property
    def gpus(self) -> int:
        """How many it works with."""
        return max(1, int(self.settings.get("gpus", 1)))

    @property
    def work(self) -> int:
        return WORK[self.verb]

    @property
    def work_done(self) -> float:
        """Part of `work` behind a running stage, from its own metrics."""
        log, total = self.out / "metrics.jsonl", self.settings.get("rounds")
        rows = log.read_bytes().count(b"\n") if log.exists() else 0  # one more where the start was evaluated
        return self.work * min(rows / total, 1.0) if total else 0.0


def code_of(config: BaseModel) -> dict[str, str]:
    """Dotted key -> the function of the user's that a stage with these settings calls."""
    return {key: name for key, name in _marked(config, Effect.CODE).items() if name}


def _marked(config: BaseModel, mark: Effect) -> dict[str, Any]:
    marks = effects(type(config)).items()
    return {key: reduce(getattr, key.split("."), config) for key, effect in marks if effect is mark}


def execute(stages: list[Stage], workers: int = 0, reuse: Sequence[Path] = ()) -> None:
    """Run what is not done. Raises UserError for the first stage that fails; the others are ended.

    `stages` come in order of dependence. `workers` at a time; 0: one per GPU, or one per core without a GPU. A stage that
    works with several GPUs waits until as many are free. `reuse`: other studies, whose equal stages are copied.
    """
    known = finished_stages(reuse)
    finished: set[Path] = set()
    for stage in stages:  # what follows a stage that must run again must run again
        if set(stage.after) <= finished and stage.done:
            finished.add(stage.out)
    todo = [s for s in stages if s.out not in finished]
    cards = gpus()
    free = cards or [""] * (workers or os.cpu_count() or 1)
    workers = workers or len(free)
    if large := [s for s in todo if cards and s.gpus > len(cards)]:
        what = f"{large[0].label} works with {large[0].gpus} GPUs, and there are {len(cards)}"
        raise UserError(what, remedy="Give it fewer: its setting `gpus`")
    total, left = sum(s.work for s in stages), sum(s.work for s in todo)
    children: dict[Path, Child] = {}
    running: dict[Future, tuple[Stage, list[str]]] = {}
    told: set[tuple[Path, str]] = set()
    with progress("study", total, total - left) as bar, ThreadPoolExecutor(workers) as pool:
        try:
            while todo or running:
                for stage in [s for s in todo if set(s.after) <= finished]:
                    if known and take_over(stage, known):
                        todo.remove(stage)
                        finished.add(stage.out)
                        continue
                    taken = stage.gpus if cards else 1
                    if len(running) == workers or taken > len(free):
                        break  # not the next one: it would keep what a large stage waits for
                    todo.remove(stage)
                    slots, free = free[:taken], free[taken:]
                    running[pool.submit(run_stage, stage, ",".join(slots), children)] = stage, slots
                done, _ = wait(running, timeout=2, return_when=FIRST_COMPLETED)
                now = sum(s.work for s in stages if s.out in finished) + sum(s.work_done for s, _ in running.values())
                bar.advance(round(now) - bar.done, text=" | ".join(stage.label for stage, _ in running.values()))
                tell([stage for stage, _ in running.values()], told)
                for future in done:
                    stage, slots = running.pop(future)
                    future.result()
                    free += slots
                    finished.add(stage.out)
        finally:
            for child in list(children.values()):
                child.terminate()


def take_over(stage: Stage, known: dict[str, Path]) -> bool:
    """Whether another study has finished this very stage, which then is copied."""
    inputs = stage.inputs()
    folder = known.get(stage_key(stage.verb, stage.settings, inputs)) if None not in inputs.values() else None
    if folder:
        copy_stage(folder, stage.out)
        write_json(stage.config_file, stage.settings)
        write_json(stage.mark, {"settings": stage.settings, "inputs": inputs, "from": str(folder)})
    return folder is not None


def tell(stages: Sequence[Stage], told: set[tuple[Path, str]]) -> None:
    """Alarms of running stages, each said once, so that nobody waits hours for a study that learns nothing."""
    for stage in stages:
        for row in read_log(stage.out / "alarms.jsonl"):
            if (stage.out, row["alarm"]) not in told:
                told.add((stage.out, row["alarm"]))
                print(f"  ! {stage.label}: {row['text']}", file=sys.stderr)


def gpus() -> list[str]:
    """Device numbers of the GPUs this process may use."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [g for g in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if g]
    return [p.name.removeprefix("nvidia") for p in sorted(Path("/dev").glob("nvidia[0-9]*"))]


def _content(value: Any) -> str | None:
    """Hash of a file, a folder, or several; a text stands for itself, and `@file` for what is in it. None: not there."""
    if isinstance(value, list | tuple):
        each = [_content(one) for one in value]
        return None if None in each else hash_json(each)
    if isinstance(value, str) and not value.startswith("@") and not (value and Path(value).is_dir()):
        return value  # a text, or a model's name at an endpoint
    path = here_or_shipped(Path(str(value).removeprefix("@")))
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _hashed(path, tuple((str(file), (at := file.stat()).st_size, at.st_mtime_ns) for file in files))


@cache
def _hashed(path: Path, files: tuple[tuple[str, int, int], ...]) -> str | None:
    """Many stages read one base or one board: what has not been touched is read once. `files`: names, sizes, times."""
    return hash_path(path) if files else None


def run_stage(stage: Stage, gpu: str, children: dict[Path, Child]) -> None:
    """One stage as a child process that ends with its parent; its output goes to <stage>.log."""
    stage.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(stage.config_file, stage.settings)
    stage.mark.unlink(missing_ok=True)
    inputs = stage.inputs()  # as they are when it starts
    log_path = stage.out.with_name(f"{stage.out.name}.log")
    with open(log_path, "a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(stage.command)}   # {time.strftime('%Y-%m-%dT%H:%M:%S')}\n")
    children[stage.out] = child = start(stage.command[1:], log_path, gpu)
    code = child.wait()
    del children[stage.out]
    if code:
        last = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        what, remedy = f"stage {stage.label} ended with code {code}: {last}", "Mend the cause and repeat the command"
        raise UserError(what, where=log_path, remedy=remedy, code=max(code, 1))
    write_json(stage.mark, {"settings": stage.settings, "inputs": inputs})
