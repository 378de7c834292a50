"""The run folder of a trainer: opened, resumed from its latest checkpoint, weighed."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from seethink.core.images import hash_pictures, image_hash
from seethink.core.nouns import Example, Sample, sample_to_row
from seethink.core.run import Run
from seethink.core.store import hash_json, hash_text, load_samples, read_json, write_json
from seethink.train import alarms
from seethink.train.again import may_go_on
from seethink.train.config import GRPOConfig, SFTConfig, system_prompt
from seethink.train.dist import Ranks, cannot_write, load_shards
from seethink.train.model.folder import check_folder
from seethink.train.model.parts import reading
from seethink.train.optimiser import Optimiser

MARKS = "rows.json"
"""In a run folder while it trains, and after that with `keep_state`: `row_marks`."""


def open_run(
    config: SFTConfig | GRPOConfig, verb: str, unit: str, samples: Sequence[Sample], row_marks: Callable[[], list[str]]
) -> Run:
    """The run folder, which refuses to go on with another model, other used rows or pictures, or another system prompt;
    what may change is in `again.py`.

    A model that cannot be loaded is refused before there is a folder.
    """
    check_folder(config.model.path)
    inputs = {"model.system": system_prompt(config.model), "pictures": hash_pictures(samples)}
    if config.watch.data:
        inputs["watch.pictures"] = hash_pictures(load_samples(config.watch.data))
    path, marks = config.out / MARKS, row_marks()
    used = max(map(_step_of, _checkpoints(config.out / "checkpoint")), default=0)

    def goes_on(changed: set[str]) -> bool:
        goes = may_go_on(changed, config, used, read_json(path) if path.exists() else [], marks)
        if goes:
            names = ", ".join(sorted(changed))
            print(f"changed ({names}), but nothing that the first {used} {unit}s used: going on", file=sys.stderr)
        return goes

    folder = Run.open(config.out, verb, config, inputs, unit=unit, overwrite=config.overwrite, keep=goes_on)
    if not folder.done:
        write_json(path, marks)
    return folder


def row_marks(held_out: Sequence[Example], drawn: Sequence[Example], per_step: int) -> list[str]:
    """One hash per number of steps done: of everything that the run has used by then, pictures by content."""
    digests = {example.sample.id: _digest(example) for example in drawn}
    marks = [hash_text(*map(_digest, held_out))]  # by themselves: of other data, whose ids may be the same
    for at in range(0, len(drawn), per_step):
        marks.append(hash_text(marks[-1], *(digests[example.sample.id] for example in drawn[at : at + per_step])))
    return marks


def _digest(example: Example) -> str:
    row = sample_to_row(example.sample) | {"images": list(map(image_hash, example.sample.images))}
    return hash_json([row, example.completion])


def resume(folder: Run, optimiser: Optimiser, **extra: Any) -> tuple[int, dict[str, Any]]:
    """(steps or rounds done, `extra` as it was then) from the latest checkpoint; logs written after it are forgotten."""
    policy, done = optimiser.policy, 0
    with policy.ranks.together():
        found = load_checkpoint(folder.path("checkpoint"), lambda: {**optimiser.blank(), **extra})
    if found:
        done, state = found
        extra = {name: state.pop(name) for name in extra}
        optimiser.restore(state)
    with policy.ranks.together():
        folder.rewind(done)
        alarms.forget_end(folder)
    return done, extra


def save_checkpoint(folder: Path, step: int, state: dict, ranks: Ranks) -> None:
    """checkpoint-<step>.pt, or on several ranks a folder checkpoint-<step>, complete or absent; older ones are removed."""
    with ranks.together():
        folder.mkdir(exist_ok=True)
        if ranks.mesh:
            ranks.save(folder / f"checkpoint-{step}", state)
        else:
            _write(folder / f"checkpoint-{step}.pt", state)
    for old in _checkpoints(folder) if ranks.first else ():
        if _step_of(old) < step:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def _write(path: Path, state: dict) -> None:
    temporary = path.with_name(".saving.tmp")
    try:
        with open(temporary, "wb") as f:
            torch.save(state, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except RuntimeError as error:  # torch hides the cause of a failed write
        raise cannot_write(path.parent, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, blank: Callable[[], dict]) -> tuple[int, dict] | None:
    """(step, state) of the latest checkpoint, in CPU memory, or None. Raises UserError naming one that is cut or damaged.

    `blank` makes a state to fill, for one that several ranks wrote.
    """
    found = sorted(_checkpoints(folder), key=_step_of)
    if not found:
        return None
    latest = found[-1]
    remedy = "Remove it; the same command then goes on from an earlier one, or starts again"
    with reading("the checkpoint is cut or damaged", latest, remedy):
        if latest.is_dir():
            return _step_of(latest), load_shards(latest, blank())
        with ZipFile(latest) as file:  # torch does not compare checksums
            if part := file.testzip():
                raise BadZipFile(f"the checksum of {part} differs")
        return _step_of(latest), torch.load(latest, map_location="cpu", weights_only=True)


def clear(folder: Run, *names: str) -> None:
    """Remove what a finished run no longer needs; also when an earlier process was killed before it came to this."""
    shutil.rmtree(folder.path("checkpoint"), ignore_errors=True)
    for name in names:
        folder.path(name).unlink(missing_ok=True)


class Meter:
    """What a step or a round takes, over all ranks."""

    def __init__(self, ranks: Ranks, device: torch.device):
        self.ranks, self.device = ranks, device
        self.began, self.cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def metrics(self) -> dict[str, float]:
        """Wall seconds here, CPU seconds of all ranks, the largest peak memory of any."""
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {
            "seconds": self.seconds,
            "memory_gb": max(self.ranks.gather([memory])),
            "cpu_seconds": sum(self.ranks.gather([time.process_time() - self.cpu])),
        }


def _checkpoints(folder: Path) -> list[Path]:
    """Ours alone: people keep copies beside them."""
    return [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+(\.pt)?", path.name)]


def _step_of(path: Path) -> int:
    return int(path.stem.rsplit("-", 1)[1])
