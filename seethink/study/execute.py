"""Stages as child processes: each once those it needs are done, as many at a time as there are cores or GPUs.

A stage is an ordinary command with an ordinary run folder, so a killed study continues where each of its stages was.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.progress import progress
from seethink.core.run import PARENT, read_log
from seethink.core.store import hash_file, hash_folder, read_record, write_json

WORK = {"eval": 12, "sft": 20, "grpo": 60}  # how long stages take in proportion; only the ETA depends on it


@dataclass(frozen=True)
class Stage:
    """One command of the study."""

    arm: str
    seed: int
    name: str
    """sft, grpo, eval or eval-<style>"""
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
    def reads(self) -> dict[str, Path]:
        """What its run folder records hashes of."""
        if self.verb == "eval":
            return {"data": Path(self.settings["data"]), "model": Path(self.settings["model"])}
        return {"data": Path(self.settings["data"]), "model.path": Path(self.settings["model"]["path"])}

    @property
    def done(self) -> bool:
        """Finished with exactly these settings and these inputs, so that a change re-runs only what depends on it."""
        if not (self.out / "done.json").exists() or not self.config_file.exists():
            return False
        if read_record(self.config_file) != self.settings or not all(p.exists() for p in self.reads.values()):
            return False
        recorded = read_record(self.out / "manifest.json")["inputs"]
        return all(recorded[k] == (hash_folder(p) if p.is_dir() else hash_file(p)) for k, p in self.reads.items())

    @property
    def label(self) -> str:
        return f"{self.arm} seed {self.seed} {self.name}"

    @property
    def work(self) -> int:
        return WORK[self.verb]

    @property
    def work_done(self) -> float:
        """Part of `work` behind a running stage, from its own metrics."""
        log, total = self.out / "metrics.jsonl", self.settings.get("rounds")
        rows = log.read_bytes().count(b"\n") if log.exists() else 0  # one more where the start was evaluated
        return self.work * min(rows / total, 1.0) if total else 0.0


def execute(stages: list[Stage], workers: int = 0) -> None:
    """Run what is not done. Raises UserError for the first stage that fails; the others are ended.

    `stages` come in order of dependence. `workers` at a time; 0: one per GPU, or one per core without a GPU.
    """
    finished: set[Path] = set()
    for stage in stages:  # what follows a stage that must run again must run again
        if set(stage.after) <= finished and stage.done:
            finished.add(stage.out)
    todo = [s for s in stages if s.out not in finished]
    slots = gpus() or [""] * (os.cpu_count() or 1)
    slots = slots[: workers or None]
    total, left = sum(s.work for s in stages), sum(s.work for s in todo)
    children: dict[Path, subprocess.Popen] = {}
    running: dict[Future, tuple[Stage, str]] = {}
    told: set[tuple[Path, str]] = set()
    with progress("study", total, total - left) as bar, ThreadPoolExecutor(len(slots)) as pool:
        try:
            while todo or running:
                for stage in [s for s in todo if set(s.after) <= finished][: len(slots)]:
                    todo.remove(stage)
                    slot = slots.pop()
                    running[pool.submit(run_stage, stage, slot, children)] = stage, slot
                done, _ = wait(running, timeout=2, return_when=FIRST_COMPLETED)
                now = sum(s.work for s in stages if s.out in finished) + sum(s.work_done for s, _ in running.values())
                bar.advance(round(now) - bar.done, text=" | ".join(stage.label for stage, _ in running.values()))
                tell([stage for stage, _ in running.values()], told)
                for future in done:
                    stage, slot = running.pop(future)
                    future.result()
                    slots.append(slot)
                    finished.add(stage.out)
        finally:
            for child in list(children.values()):
                child.terminate()


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


def run_stage(stage: Stage, gpu: str, children: dict[Path, subprocess.Popen]) -> None:
    """One stage as a child process that ends with its parent; its output goes to <stage>.log."""
    stage.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(stage.config_file, stage.settings)
    environment = {**os.environ, PARENT: str(os.getpid())}
    environment |= {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    log_path = stage.out.with_name(f"{stage.out.name}.log")
    with open(log_path, "a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(stage.command)}   # {time.strftime('%Y-%m-%dT%H:%M:%S')}\n")
        log.flush()
        command = [sys.executable, "-m", *stage.command]
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        children[stage.out] = child
        code = child.wait()
        del children[stage.out]
    if code:
        last = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        what, remedy = f"stage {stage.label} ended with code {code}: {last}", "Mend the cause and repeat the command"
        raise UserError(what, where=log_path, remedy=remedy, code=max(code, 1))
