"""A run is a folder: config.json manifest.json metrics.jsonl alarms.jsonl, tables, checkpoints, done.json.

The same command again continues the run; with another config or other inputs it is refused (or started afresh where the
folder is a derived one). `done.json` is written last and holds the key (hash of config and inputs) that it answers for.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from seethink import __version__
from seethink.core.errors import UserError
from seethink.core.store import hash_json, read_json, write_json, write_text

NOT_IN_KEY = {"out", "overwrite", "gpus", "device"}  # fields that do not change what a run computes
PARENT = "SEETHINK_PARENT"  # environment variable: process id of the study that started this process
LIBRARIES = ("torch", "transformers", "peft", "numpy", "pillow", "openai", "pyarrow", "math-verify")


class Run:
    """An open run folder, locked against a second process. Use as a context manager."""

    def __init__(
        self,
        out: Path,
        verb: str,
        config: BaseModel,
        inputs: dict[str, str],
        overwrite: bool = False,
        keep: bool = False,
    ):
        """`inputs` maps a name to the hash of what the run reads. A folder with another run is refused, or emptied.

        `keep` is for verbs that work from a ledger: a folder of the same verb goes on under the new settings.
        """
        self.folder, self.verb = Path(out), verb
        settings = config.model_dump(mode="json", exclude=NOT_IN_KEY)
        self.key = hash_json({"verb": verb, "config": settings, "inputs": inputs})
        self._make_folder()
        self._lock = self._take_lock()
        if self._key_on_disk() not in (None, self.key):
            self._changed(settings, inputs, overwrite, keep)
        self._files: dict[str, Any] = {}
        self.resumed = (self.folder / "manifest.json").exists()
        if not self.done:
            write_json(self.folder / "config.json", config.model_dump(mode="json"))
            self._write_manifest(settings, inputs)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._lock.close()

    @property
    def done(self) -> bool:
        """True when this very run (config and inputs) has finished."""
        path = self.folder / "done.json"
        return path.exists() and read_json(path)["key"] == self.key

    def path(self, name: str) -> Path:
        return self.folder / name

    def log(self, step: int, **values: Any) -> None:
        """One row of metrics.jsonl. NaN and infinity become null, so that every reader can parse it."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._append("metrics.jsonl", {"step": step, **clean})

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Rows with a `step` appended to a JSONL log of this run; `rewind` forgets them like metrics."""
        for row in rows:
            self._append(name, row)

    def alarm(self, name: str, text: str, step: int | None = None) -> None:
        """Something a person should know, in words; also printed."""
        self._append("alarms.jsonl", {"step": step, "alarm": name, "text": text})
        print(f"  ! {text}", file=sys.stderr)

    def rewind(self, step: int) -> None:
        """Forget logged rows after `step`: a resumed run writes them again."""
        for path in self.folder.glob("*.jsonl"):
            self.keep_rows(path.name, [r for r in read_log(path) if r["step"] is None or r["step"] <= step])

    def keep_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Replace a log by these rows, so that a line cut by a kill is gone before more is appended."""
        if name in self._files:
            self._files.pop(name).close()
        write_text(self.folder / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))

    def finish(self, **summary: Any) -> None:
        """Write the done-mark with a summary that other verbs may read."""
        for file in self._files.values():
            file.flush()
        write_json(self.folder / "done.json", {"key": self.key, "finished": _now(), "summary": summary})

    @property
    def summary(self) -> dict[str, Any]:
        return read_json(self.folder / "done.json")["summary"]

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot create the folder ({error.strerror})", where=self.folder, remedy="Choose another --out"
            ) from None

    def _take_lock(self) -> Any:
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

    def _key_on_disk(self) -> str | None:
        manifest = self.folder / "manifest.json"
        return read_json(manifest)["key"] if manifest.exists() else None

    def _changed(self, settings: dict[str, Any], inputs: dict[str, str], overwrite: bool, keep: bool) -> None:
        if overwrite:
            for path in self.folder.iterdir():
                if path.name != ".lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            return
        before = read_json(self.folder / "manifest.json")
        if keep and before["verb"] == self.verb:
            (self.folder / "done.json").unlink(missing_ok=True)
            return
        changed = sorted(_changes({**before["config"], **before["inputs"]}, {**settings, **inputs}))
        raise UserError(
            f"this folder holds a run with other settings or inputs ({', '.join(changed) or 'another verb'})",
            where=self.folder,
            remedy="Choose another --out, or --overwrite",
        )

    def _write_manifest(self, settings: dict[str, Any], inputs: dict[str, str]) -> None:
        manifest = {
            "key": self.key,
            "verb": self.verb,
            "config": settings,
            "inputs": inputs,
            "seethink": __version__,
            "git": git_commit(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "versions": {name: v for name in LIBRARIES if (v := _version(name))},
            "started": _now(),
        }
        write_json(self.folder / "manifest.json", manifest)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if name not in self._files:
            self._files[name] = open(self.folder / name, "a", encoding="utf-8")  # noqa: SIM115 - until __exit__
        self._files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
        self._files[name].flush()


class Guest(Run):
    """The run folder as the other ranks of a run see it: they read, the first rank writes."""

    def __init__(self, folder: Path, done: bool):
        self.folder, self._done = folder, done

    def __exit__(self, *_: object) -> None: ...

    @property
    def done(self) -> bool:
        """As the first rank found it."""
        return self._done

    def log(self, step: int, **values: Any) -> None: ...

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> None: ...

    def alarm(self, name: str, text: str, step: int | None = None) -> None: ...

    def rewind(self, step: int) -> None: ...

    def keep_rows(self, name: str, rows: list[dict[str, Any]]) -> None: ...

    def finish(self, **summary: Any) -> None: ...


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics or alarms file; a last line cut by a kill is left out."""
    if not Path(path).exists():
        return []
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
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
