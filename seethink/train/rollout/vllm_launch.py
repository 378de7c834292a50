"""vLLM in a process of its own beside this one: on its GPU, asleep during updates, ended with it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from seethink.core.errors import UserError
from seethink.train.rollout.vllm import Weights
from seethink.train.rollout.vllm_server import ServerEngine, VllmServer
from seethink.train.rollout.vllm_weights import DiskTransfer, IpcTransfer

MODULE = "vllm.entrypoints.launchers.api_server.entry"  # the command `vllm` needs a distribution of that name
STARTING, POLLING, ENDING = 1800.0, 0.5, 30.0  # seconds: until it answers, between two looks, until it is killed
CAUSE = 300  # characters of a log that an error repeats
LIBC: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
TORCHRUN = ("RANK", "LOCAL_", "GROUP_", "ROLE_", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_")
"""Beginnings of variables that torchrun gave this process: vLLM is none of its processes."""


class VllmProcess:
    """A vLLM server on a free loopback port; it lives until `close`, and no longer than this process.

    Raises UserError, with what its log gives as cause, when it ends or does not answer in time.
    """

    def __init__(self, python: Path, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.server, self.log = VllmServer(f"http://127.0.0.1:{port}"), log
        command = [str(python), "-m", MODULE, "--host", "127.0.0.1", "--port", str(port), *arguments]
        ending = end_with_trainer if LIBC else None
        try:
            with open(log, "ab") as file:
                self.begin = file.tell()
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment,
                    start_new_session=True, preexec_fn=ending,
                )  # fmt: skip
        except OSError as error:
            raise UserError(
                f"vLLM cannot be started ({error})", where="sampler.python", remedy="Name a Python that has vLLM"
            ) from None
        with ExitStack() as failed:
            failed.callback(self.close)
            self._wait()
            failed.pop_all()

    def _wait(self) -> None:
        deadline = time.monotonic() + STARTING
        while True:
            if self.process.poll() is not None:
                what = f"vLLM ended with code {self.process.returncode} before it answered"
            elif self.server.healthy():
                return
            elif time.monotonic() > deadline:
                what = f"vLLM does not answer {STARTING:g} seconds after its start"
            else:
                time.sleep(POLLING)
                continue
            remedy = "Mend what its log says; --sampler.python names the Python that has vLLM"
            raise UserError(what + self._cause(), where=self.log, remedy=remedy, code=3)

    def _cause(self) -> str:
        """The first error that this start has written to the log: later ones only pass it on."""
        lines = self.log.read_bytes()[self.begin :].decode(errors="replace").splitlines()
        cause = next((line for line in lines if "Error: " in line), "".join(lines[-1:]))
        return f" ({cause[-CAUSE:].strip()})" if cause else ""

    def close(self) -> None:
        """End it and all that it started, by force what has not ended by itself in time."""
        deadline = time.monotonic() + ENDING
        self._signal(signal.SIGTERM)
        while self._signal(0) and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(POLLING / 5)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> bool:
        """False when no process is left of those it started."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        return True


def end_with_trainer() -> None:
    """In the new process: a signal when the thread that started it is gone, however it went (Linux)."""
    LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class LaunchedEngine(ServerEngine):
    """vLLM beside this process, one for each rank: on a GPU it takes weights by CUDA IPC and sleeps while the policy is updated.

    Sleep is level 2: weights are dropped, not parked in host memory, since new ones come before it wakes.
    """

    shared = False

    def __init__(self, settings: dict[str, Any], device: torch.device, python: Path, folder: Path, rank: int) -> None:
        self.gpu, self.asleep = device.type == "cuda", False
        environment = {name: value for name, value in os.environ.items() if not name.startswith(TORCHRUN)}
        environment |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_NO_USAGE_STATS": "1"}
        if self.gpu:
            settings = settings | {"enable_sleep_mode": True, "weight_transfer_config": {"backend": "ipc"}}
            environment["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # handles of CUDA memory travel pickled
            environment["CUDA_VISIBLE_DEVICES"] = visible_device(device)
        settings = settings | {"enable_scale_out": True}
        self.process = VllmProcess(python, flags(settings), environment, folder / f"vllm-{rank}.log")
        server = self.process.server
        own = folder / f"pushed-{rank}"
        super().__init__([server], lambda: IpcTransfer(server, device) if self.gpu else DiskTransfer([server], own))

    def load(self, weights: Weights) -> None:
        if not self.asleep:
            super().load(weights)
            return
        torch.cuda.empty_cache()  # what the update freed is still held by torch's allocator
        (server,) = self.servers
        server.post("/wake_up?tags=weights", once=True)
        self.send(weights)
        server.post("/wake_up?tags=kv_cache", once=True)  # all is awake: requests are taken again
        self.asleep = False
        self.forget()

    def sleep(self) -> None:
        if self.gpu and not self.asleep:
            self.servers[0].post("/sleep?level=2&mode=abort", once=True)
            self.asleep = True

    def close(self) -> None:
        super().close()
        self.process.close()


def flags(settings: dict[str, Any]) -> list[str]:
    """Arguments of vLLM's engine as its command line has them."""
    found = []
    for name, value in settings.items():
        name = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        else:
            found += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return found


def visible_device(device: torch.device) -> str:
    """The GPU as CUDA_VISIBLE_DEVICES names it for a process that shall see no other."""
    number = torch.cuda.current_device() if device.index is None else device.index
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[number] if given else str(number)
