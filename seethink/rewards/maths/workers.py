"""A small pool of killable processes for the comparisons that need a computer algebra system.

Plain subprocesses with pipes: they work from any thread, event loop, Ray actor or daemonic process, share no state with the
parent, and die with it. Each item has a CPU budget that the kernel enforces and a wall deadline that the pool enforces with
SIGKILL; no alarm signal, no thread that cannot be stopped. A worker is replaced after a kill and after RECYCLE items.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path

from seethink.core.errors import UserError

CPU_SECONDS = 2
MEMORY_BYTES = 2 << 30
START_SECONDS = 60.0
"""A loaded machine may take this long to import sympy."""
RECYCLE = 2000
REMEMBERED = 20_000

Pair = tuple[str, str]


class Worker:
    """One process, and the item it is busy with."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("symbolic.py")
        command = [sys.executable, "-P", str(script), str(CPU_SECONDS), str(MEMORY_BYTES)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.ready, self.heard = False, b""
        self.item: Pair | None = None
        self.done = 0
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, item: Pair, seconds: float) -> bool:
        """False if the process is gone."""
        try:
            self.stdin.write(json.dumps(item).encode() + b"\n")
            self.stdin.flush()
        except BrokenPipeError:
            return False
        self.item, self.deadline = item, time.monotonic() + seconds
        return True

    def hear(self) -> str | None:
        """A complete line from the process, '' if it is gone, None if the line is not complete yet."""
        piece = self.stdout.read()
        if piece == b"":
            return ""
        self.heard += piece or b""
        line, newline, rest = self.heard.partition(b"\n")
        if not newline:
            return None
        self.heard = rest
        return line.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # an item still in the buffer is lost with the process
            self.stdin.close()


class Pool:
    """Compares pairs of LaTeX expressions. Thread-safe: one batch at a time, the others wait for their turn."""

    def __init__(self, size: int = 2):
        self.size = size
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._known: OrderedDict[Pair, str] = OrderedDict()

    def compare(self, pairs: Sequence[Pair], item_seconds: float = 10.0, batch_seconds: float = 60.0) -> list[str]:
        """equal, different, gold, answer or timeout per pair, in order.

        Raises UserError where no process can be started. What the batch deadline leaves unfinished is a timeout.
        """
        with self._lock:
            todo = deque(pair for pair in dict.fromkeys(pairs) if pair not in self._known)
            found: dict[Pair, str] = {}
            if todo:
                self._run(todo, found, item_seconds, time.monotonic() + batch_seconds)
            answers = [found.get(pair) or self._known.get(pair, "timeout") for pair in pairs]
            self._known.update((pair, verdict) for pair, verdict in found.items() if verdict != "timeout")
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return answers

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _run(self, todo: deque[Pair], found: dict[Pair, str], item_seconds: float, end: float) -> None:
        failed_starts = 0
        while (todo or self._busy()) and time.monotonic() < end:
            failed_starts = self._reap(todo, found, failed_starts)
            if failed_starts > self.size:
                remedy = "pip install math-verify, or set symbolic.on = false"
                raise UserError("math-verify cannot be started", remedy=remedy)
            while len(self._workers) < min(self.size, len(todo) + len(self._busy())):
                self._workers.append(Worker())
            for worker in self._workers:
                if todo and worker.ready and worker.item is None:
                    if worker.give(todo[0], item_seconds):
                        todo.popleft()
                    else:
                        worker.deadline = 0.0
            self._listen(found, end)
        for worker in self._busy():
            found[worker.item or ("", "")] = "timeout"
            self._drop(worker)

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.item is not None]

    def _listen(self, found: dict[Pair, str], end: float) -> None:
        """Wait for a line, a death or the next deadline."""
        waiting = [worker for worker in self._workers if worker.item is not None or not worker.ready]
        with selectors.DefaultSelector() as selector:
            for worker in waiting:
                selector.register(worker.stdout, selectors.EVENT_READ, worker)
            until = min([end, *(worker.deadline for worker in waiting)])
            for key, _ in selector.select(max(0.0, until - time.monotonic())) if waiting else []:
                worker = key.data
                line = worker.hear()
                if line == "":
                    worker.deadline = 0.0
                elif line == "ready":
                    worker.ready = True
                elif line:
                    found[worker.item] = line
                    worker.item, worker.done = None, worker.done + 1

    def _reap(self, todo: deque[Pair], found: dict[Pair, str], failed_starts: int) -> int:
        """Kill what is over its deadline or dead; count the processes that never came up."""
        now = time.monotonic()
        for worker in list(self._workers):
            waiting = worker.item is not None or not worker.ready
            if now >= worker.deadline if waiting else worker.done >= RECYCLE or worker.deadline == 0.0:
                if worker.item is not None:
                    found[worker.item] = "timeout"
                failed_starts += not worker.ready
                self._drop(worker)
        return failed_starts

    def _drop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.close()


_pool = Pool()


def shared_pool(size: int = 2) -> Pool:
    """The pool of this process."""
    _pool.size = size
    return _pool


def _forget() -> None:
    """A forked child leaves its parent's workers alone."""
    global _pool
    _pool = Pool()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _pool.close())
