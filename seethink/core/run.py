"""A run is a folder: config.json manifest.json metrics.jsonl alarms.jsonl, tables, checkpoints, done.json.

The same command again continues the run; with another config or other inputs it is refused (or started afresh where the
folder is a derived one). `done.json` is written last and holds the key (hash of config and inputs) that it answers for.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel

from seethink import __version__
from seethink.core.config import Effect, effects, identity
from seethink.core.errors import UserError
from seethink.core.guard import NOTES, refuse_foreign, refuse_overwrite
from seethink.core.load import hash_code
from seethink.core.store import hash_json, hash_path, open_text, read_record, write_json, write_text
from seethink.core.terminal import one_line

EXPORTS = "exports"  # in a training run's folder: the models it left on the way
PARENT = "SEETHINK_PARENT"  # environment variable: process id of the study that started this process
MANIFEST = {"key", "verb", "config", "inputs"}  # what a run's manifest.json holds in any case
LIBRARIES = ("torch", "transformers", "peft", "numpy", "pillow", "aiohttp", "pyarrow", "math-verify")


class Run:
    """A run folder. Use as a context manager.

    folder  where it is
    unit    what its logs count: "step", or "round" where one row stands for a whole round of rollouts
    owner   False for a process that only reads what another one of the same run writes
    """

    def __init__(self, folder: Path, key: str, unit: str = "step", owner: bool = True):
        self.folder, self.key, self.unit, self.owner = Path(folder), key, unit, owner
        self._files: dict[str, TextIO] = {}
        self.mirror: Callable[[int, dict[str, Any]], object] | None = None
        """Gets every row that `log` writes as well."""
        self._lock = self._take_lock() if owner else None

    @staticmethod
    def open(
        out: Path,
        verb: str,
        config: BaseModel,
        inputs: Mapping[str, str],
        *,
        unit: str = "step",
        overwrite: bool = False,
        keep: bool | Callable[[set[str]], bool] = False,
    ) -> Run:
        """The folder `out`, locked against a second process. One that holds another run is refused, or emptied.

        The key holds the content of every INPUT and CODE setting: files and folders are hashed here, of anything else (a prompt, a
        name) `inputs` has the hash under the setting's dotted name, as of whatever else is read. `keep` is for verbs that
        work from a ledger: a folder of the same verb goes on under the new settings, a finished one with `overwrite` only; or
        it says whether to go on, given the names of what has changed, or raises UserError with what would help. Under
        `overwrite` another endpoint counts as a change.
        Raises UserError for a folder that is not ours to write, or an input that is missing.
        """
        settings, inputs, out = identity(config), dict(inputs), Path(out)
        for setting, effect in effects(type(config)).items():
            value = functools.reduce(getattr, setting.split("."), config) if effect is Effect.INPUT else None
            if isinstance(value, Path) and setting not in inputs:
                inputs[setting] = hash_path(value)
            elif value is not None and setting not in inputs:
                raise ValueError(f"{verb}: the content of {setting} is not part of the key")
            if effect is Effect.CODE and (name := functools.reduce(getattr, setting.split("."), config)):
                inputs[setting] = hash_code(str(name))
        refuse_overwrite(config)
        refuse_foreign(out, "manifest.json")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot create the folder ({error.strerror})"
            raise UserError(what, where=out, remedy="Choose another --out") from None
        folder = Run(out, hash_json({"verb": verb, "config": settings, "inputs": inputs}), unit)
        before = read_record(out / "manifest.json") if (out / "manifest.json").exists() else None
        if before is not None and not (isinstance(before, dict) and before.keys() >= MANIFEST):
            folder.__exit__()
            raise UserError("manifest.json is none of ours", where=out, remedy="Choose another --out")
        if before and (before["key"] != folder.key or overwrite and _asked_elsewhere(out, config)):
            folder._another(before, verb, {**settings, **inputs}, overwrite, keep)
        if not folder.done:  # the manifest first: by it the folder is ours, wherever this process is killed
            write_json(out / "manifest.json", _manifest(folder.key, verb, settings, inputs))
            write_json(out / "config.json", config.model_dump(mode="json"))
        return folder

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        if self._lock:
            self._lock.close()

    @property
    def done(self) -> bool:
        """True when this very run (config and inputs) has finished."""
        path = self.folder / "done.json"
        return path.exists() and read_record(path)["key"] == self.key

    def path(self, name: str) -> Path:
        return self.folder / name

    def log(self, at: int, **values: Any) -> None:
        """One row of metrics.jsonl, after step or round `at`. NaN and infinity become null, which every reader can parse."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._append("metrics.jsonl", {self.unit: at, **clean})
        if self.mirror:
            self.mirror(at, clean)

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Rows that hold this run's unit appended to a JSONL log; `rewind` forgets them like metrics."""
        for row in rows:
            self._append(name, row)

    def alarm(self, name: str, text: str, at: int | None = None) -> None:
        """Something a person should know, in words; also printed."""
        self._append("alarms.jsonl", {self.unit: at, "alarm": name, "text": text})
        if self.owner:
            print(f"  ! {one_line(text)}", file=sys.stderr)

    def rewind(self, to: int) -> None:
        """Forget logged rows after step or round `to`: a resumed run writes them again."""
        for path in self.folder.glob("*.jsonl"):
            self.keep_rows(path.name, [r for r in read_log(path) if r[self.unit] is None or r[self.unit] <= to])

    def keep_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Replace a log by these rows, so that a line cut by a kill is gone before more is appended."""
        if not self.owner:
            return
        if name in self._files:
            self._files.pop(name).close()
        write_text(self.folder / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))

    def finish(self, **summary: Any) -> None:
        """Write the done-mark with a summary that other verbs may read."""
        if not self.owner:
            return
        for file in self._files.values():
            file.flush()
        write_json(self.folder / "done.json", {"key": self.key, "finished": _now(), "summary": summary})

    @property
    def summary(self) -> dict[str, Any]:
        return read_record(self.folder / "done.json")["summary"]

    def _take_lock(self) -> TextIO:
        try:
            lock = open(self.folder / ".lock", "w")  # noqa: SIM115 - held for the life of the run
        except OSError as error:
            raise UserError(
                f"folder is not writable ({error.strerror})", where=self.folder, remedy="Choose another --out"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise UserError(
                "another process is writing this run", where=self.folder, remedy="Wait for it or choose another --out"
            ) from None
        return lock

    def _another(self, before: dict[str, Any], verb: str, now: dict[str, Any], overwrite: bool, keep: Any) -> None:
        """What to do with a folder that another run has written; `before` is its manifest."""
        same = before["verb"] == verb
        if overwrite and same and keep is not True:
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != ".lock" and path.suffix.lower() not in NOTES:
                    path.unlink()
            return
        changed = sorted(_changes({**before["config"], **before["inputs"]}, now))
        done = self.folder / "done.json"
        if callable(keep):
            try:
                keep = keep({name.partition(":")[0] for name in changed})
            except UserError:
                self.__exit__()
                raise
        else:
            keep = keep and (overwrite or not done.exists())
        if same and keep:
            done.unlink(missing_ok=True)
            return
        self.__exit__()
        if before["verb"] != verb:
            what = f"this folder holds a run of another verb (seethink {before['verb']})"
            raise UserError(what, where=self.folder, remedy="Choose another --out, or remove the folder")
        raise UserError(
            f"this folder holds a run with other settings or inputs ({', '.join(changed)})",
            where=self.folder,
            remedy="Choose another --out, or --overwrite",
        )

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if not self.owner:
            return
        if name not in self._files:
            self._files[name] = open_text(self.folder / name, "a")  # until __exit__
        self._files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
        self._files[name].flush()


def done_mark(out: Path | None) -> dict[str, Any] | None:
    """What done.json of a folder says; None where there is no finished run."""
    mark = Path(out) / "done.json" if out else None
    return read_record(mark) if mark and mark.is_file() else None


def ended(out: Path, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """For programs, of the run that a call left finished: `out`, `done_before` where `before` it was, and its summary."""
    if (after := done_mark(out)) is None:
        return None
    return {"out": str(out), "done_before": after == before, **after["summary"]}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics or alarms file; a last line cut by a kill is left out. Raises UserError for any other."""
    if not Path(path).exists():
        return []
    lines, rows = Path(path).read_bytes().split(b"\n"), []  # splitlines() would also cut at U+2028 in a text
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            if any(later.strip() for later in lines[number:]):
                what, remedy = "not a JSON object, in the middle of a log", "Choose another --out, or --overwrite"
                raise UserError(what, where=f"{path}:{number}", remedy=remedy) from None
            break
    return rows


def end_with_parent() -> None:
    """End this process when the study that started it ends, however it ends (Linux; elsewhere it would run on)."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it ended before we asked
        sys.exit(1)


def git_commit() -> str | None:
    """Commit of the code that runs, `+` for uncommitted changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "") if commit.returncode == 0 else None


def _manifest(key: str, verb: str, settings: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    return {
        "key": key,
        "verb": verb,
        "config": settings,
        "inputs": inputs,
        "seethink": __version__,
        "git": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {name: v for name in LIBRARIES if (v := _version(name))},
        "started": _now(),
    }


def processor() -> str:
    """Name of this machine's processor; speeds mean little without it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _asked_elsewhere(out: Path, config: BaseModel) -> bool:
    """Whether a folder's answers came from another endpoint: as a rule of the same model that has moved, but not surely."""
    settings = out / "config.json"
    before = read_record(settings) if settings.is_file() else None
    return isinstance(before, dict) and before.get("base_url") != config.model_dump(mode="json").get("base_url")


def _changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _changes(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}: {a} -> {b}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
