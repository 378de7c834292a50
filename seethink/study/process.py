"""A stage as a process of its own; on a CPU a fork of one that has imported torch and transformers.

Importing them costs a processor seconds, and a study has dozens of stages that take little longer. The process that imports
does nothing else, so a fork finds no threads and nothing decided. On GPUs a stage starts from nothing: there stages are long.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Protocol

from seethink.core.run import PARENT

COMMAND = "seethink.cli"  # by name: a stage is what a person would type, and the study knows nothing of it
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PRELOADED = (COMMAND, "seethink.train.grpo", "seethink.train.sft", "seethink.evals.answers.local")


class Child(Protocol):
    """A running stage."""

    def wait(self) -> int:
        """Its exit code once it has ended; minus the signal that ended it."""
        ...

    def terminate(self) -> None: ...


def start(arguments: list[str], log: Path, gpu: str) -> Child:
    """`seethink` with these arguments, its output appended to `log`; it ends with this process. `gpu`: device numbers, or ""."""
    if gpu or not sys.platform.startswith("linux"):
        environment = {**os.environ, PARENT: str(os.getpid()), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else ONE_THREAD)}
        command = [sys.executable, "-m", "seethink", *arguments]
        with open(log, "a", encoding="utf-8") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOADED])
    process = context.Process(target=_run, args=(arguments, str(log), dict(os.environ), os.getcwd()))
    process.start()
    return _Forked(process)


class _Forked:
    def __init__(self, process: BaseProcess):
        self.process = process

    def wait(self) -> int:
        self.process.join()
        assert self.process.exitcode is not None  # no code at all must not pass for success
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()


def _run(arguments: list[str], log: str, environment: dict[str, str], folder: str) -> None:
    """In the fork: as a command of this study would have started, with one thread."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment | ONE_THREAD)
    Thread(target=_end_with_study, daemon=True).start()
    import torch  # the process that was forked has imported it

    torch.set_num_threads(1)
    sys.exit(importlib.import_module(COMMAND).main(arguments))


def _end_with_study() -> None:
    """However it ends. The parent that the system knows is the process that was forked, which lives as long as its forks."""
    study = multiprocessing.parent_process()
    assert study
    study.join()
    os.kill(os.getpid(), signal.SIGTERM)
