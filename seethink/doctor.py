"""Check this machine before a run: versions, cores, memory, GPU, disk, and an endpoint where one is given.

    seethink doctor --out runs --base_url http://127.0.0.1:8000/v1 --model name
    seethink doctor grpo --model.path FOLDER --data rl.jsonl --gpus 8 --gpu_gb 80     and what this run takes, see cli.py

Every line is something that was tried just now. What could not be tried says so and is no failure.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from seethink.ask import CallFailed, Client, Endpoint, Ledger, user_message
from seethink.core.config import Config
from seethink.core.errors import UserError
from seethink.core.tags import compose, extract
from seethink.core.url import BaseUrl, KeyName, public

NEEDED = ("aiohttp", "pyarrow", "pillow", "pydantic", "math-verify", "numpy", "scipy")
TRAINING = ("torch", "transformers", "peft", "safetensors")
FREE_DISK_GB = 100  # where it is not known what will run
Planned = Callable[[], dict[str, Any]]
"""Says what a run takes, in a page of its own, and returns it: `gpu_gb`, `fits`, `disk_gb`."""


class DoctorConfig(Config):
    """Check this machine before a run."""

    out: Path = Field(default=Path("."), description="folder where runs will be written")
    base_url: BaseUrl = Field(default="", description="endpoint to reach; empty: none")
    model: str = Field(default="", description="ask this model for one word; empty: only reach the endpoint")
    api_key_env: KeyName = Field(default="OPENAI_API_KEY", description="environment variable with the endpoint's key")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    ok: bool | None
    """None: not tried, or nothing to judge."""
    found: str
    remedy: str = ""


def run(config: DoctorConfig, dry_run: bool = False, planned: Planned | None = None) -> dict[str, Any]:
    """The verb; every check. Prints a line for each; raises UserError (code 2) if one failed."""
    failed, found = [], {}
    for check in checks(config, dry_run, planned):
        word = {True: "ok", False: "FAIL", None: "-"}[check.ok]
        print(f"{word:4}  {check.name:14} {check.found}" + (f"; {check.remedy}" if check.remedy else ""), flush=True)
        failed += [check.name] if check.ok is False else []
        found[check.name] = {"ok": check.ok, "found": check.found, "remedy": check.remedy}
    if failed:
        raise UserError(f"{len(failed)} checks failed: {', '.join(failed)}", remedy="See the remedies above")
    return found


def checks(config: DoctorConfig, dry_run: bool = False, planned: Planned | None = None) -> Iterator[Check]:
    """The checks in order; `dry_run` leaves out what computes, writes or calls. `planned`: of a run, which is then checked too."""
    python = sys.version_info >= (3, 11)
    yield Check("python", python, platform.python_version(), "" if python else "seethink needs 3.11")
    yield packages("libraries", NEEDED, needed=True)
    yield packages("training", TRAINING, needed=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield Check("machine", None, f"{os.cpu_count()} cores, {memory:.0f} GB memory, {platform.system()}")
    yield nvidia()
    needed = None
    if planned:
        check, needed = plan(planned)
        yield check
    yield disk(config.out, needed)
    if dry_run:
        return
    yield writing(config.out)
    yield tags()
    yield torch_step()
    yield endpoint(config)


def packages(name: str, wanted: tuple[str, ...], needed: bool) -> Check:
    """Installed versions, read without importing anything."""
    versions, missing = [], []
    for package in wanted:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if not missing:
        return Check(name, True, ", ".join(versions))
    install = "pip install seethink" if needed else "pip install 'seethink[train]' to train; other verbs work without"
    return Check(name, False if needed else None, ", ".join([*versions, f"without {', '.join(missing)}"]), install)


def nvidia() -> Check:
    """GPUs as the driver sees them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return Check("gpu", None, "none (no NVIDIA driver answers); pocket studies run without")
    return Check("gpu", True, "; ".join(answer.stdout.strip().splitlines()))


def plan(planned: Planned) -> tuple[Check, float | None]:
    """Whether the data can be trained on and the run fits, and the gigabytes of disk that it takes; None if it has faults."""
    try:
        found = planned()
    except UserError as error:
        where = f"{error.where}: " if error.where else ""
        return Check("run", False, f"{where}{error.what}", error.remedy), None
    has = {True: "which it has", False: "which it has not", None: "of which nothing is known here"}[found["fits"]]
    remedy = {True: "", False: "the page above says what would fit", None: "say --gpu_gb"}[found["fits"]]
    return Check("run", found["fits"], f"a GPU needs {found['gpu_gb']:.1f} GB, {has}", remedy), found["disk_gb"]


def disk(out: Path, needed: float | None = None) -> Check:
    """Free space, against the gigabytes that a run takes or, where none is named, those of a large one."""
    existing = next(p for p in (out.resolve(), *out.resolve().parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    found = f"{free:.0f} GB free at {existing}"
    if needed is not None:
        enough = free >= needed
        return Check("disk", enough, f"{found}, the run takes {needed:.0f}", "" if enough else "choose another --out")
    enough = free >= FREE_DISK_GB
    remedy = (
        "all weights of a 3B model take some 90 GB while they train; `doctor grpo` and `doctor sft` say what yours take"
    )
    return Check("disk", True if enough else None, found, "" if enough else remedy)


def writing(out: Path) -> Check:
    """A file and a database in write-ahead mode, as ledgers need it; network disks may lack the latter."""
    path = out / f".doctor.{os.getpid()}.sqlite"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as db:
            mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            db.execute("CREATE TABLE t (x)")
    except (OSError, sqlite3.Error) as error:
        return Check("writing", False, f"cannot write in {out} ({error})", "choose another --out")
    finally:
        for leftover in out.glob(f"{path.name}*"):
            leftover.unlink()
    fine = mode == "wal"
    return Check("writing", fine, f"files and SQLite ({mode}) in {out}", "" if fine else "use a local disk")


def tags() -> Check:
    """A completion taken apart again, and math-verify asked for one sum."""
    if find_spec("math_verify") is None:
        return Check("answers", None, "without math-verify, not tried")
    from math_verify import parse, verify  # here: the doctor must be able to say that it is missing

    fine = extract(compose("a", "b")).answer == "b" and verify(parse("$1/2$"), parse("$0.5$"))
    return Check("answers", fine, "tags and math-verify agree" if fine else "tags or math-verify fail")


def torch_step() -> Check:
    """One training step of a small layer, where torch is installed: on the GPU if it sees one."""
    if find_spec("torch") is None:
        return Check("torch", None, "not installed, not tried")
    import torch  # here: most verbs work without

    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = time.perf_counter()
    try:
        layer = torch.nn.Linear(64, 64, device=device)
        optimizer = torch.optim.AdamW(layer.parameters())
        with torch.autocast(device, torch.bfloat16):
            loss = layer(torch.ones(8, 64, device=device)).square().mean()
        loss.backward()
        optimizer.step()
        finite = bool(torch.isfinite(loss).item())
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return Check("torch", False, f"a training step on {device} failed ({reason})", "reinstall torch")
    what = f"one bfloat16 training step on {device} in {time.perf_counter() - start:.1f} s"
    return Check("torch", finite, what, "" if finite else "the loss is not finite")


def endpoint(config: DoctorConfig) -> Check:
    """Whether an endpoint answers; one word is asked for only where a model is named, because it may cost."""
    if not config.base_url:
        return Check("endpoint", None, "no --base_url, not tried")
    if not config.model or find_spec("aiohttp") is None:
        return reach(config.base_url)
    settings = Endpoint(
        base_url=config.base_url,
        model=config.model,
        api_key_env=config.api_key_env,
        params={"max_tokens": 16},
        timeout=60.0,
    )

    async def ask() -> Check:
        with closing(Ledger(":memory:")) as ledger:
            async with Client(settings, ledger) as client:
                reply = await client.chat(user_message("Reply with the word ready."))
        what = (
            f"{public(config.base_url)} answered {reply.text.strip()[:40]!r} as {reply.model} in {reply.seconds:.1f} s"
        )
        return Check("endpoint", True, what)

    try:
        return asyncio.run(ask())
    except CallFailed as error:
        return Check(
            "endpoint", False, f"{public(config.base_url)}: {error}", "try another model name or --api_key_env"
        )
    except UserError as error:
        return Check("endpoint", False, f"{error.where}: {error.what}", error.remedy)


def reach(base_url: str) -> Check:
    """Whether anything accepts connections there."""
    url = urlsplit(base_url)
    try:
        socket.create_connection((url.hostname or "", url.port or (443 if url.scheme == "https" else 80)), 5).close()
    except (OSError, ValueError) as error:  # refused, unknown host, a port that is no number
        return Check("endpoint", False, f"{public(base_url)}: {error}", "start the server or fix --base_url")
    return Check("endpoint", True, f"{public(base_url)} accepts connections; name a --model to ask it a word")
