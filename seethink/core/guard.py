"""Nothing the user gave is written over: before a verb starts, what it writes is held against what it reads."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from seethink.core.config import Effect, effects
from seethink.core.errors import UserError

WRITTEN = (b"{", b"[", b"PAR1", b"SQLite format 3", b"<!-- seethink")  # how the files begin that we write
NOTES = {".log", ".txt", ".out", ".err", ".md", ".toml", ".yaml", ".yml", ".sh", ".pid"}
"""What people keep beside a run; no run writes files of these names into its folder."""


def refuse_overwrite(config: BaseModel, read: Iterable[str | Path] = ()) -> None:
    """Raises UserError where an OUTPUT of `config` is what it reads, or is no file of ours; `read` are more such files.

    An OUTPUT may also not lie inside a model folder that is read, nor hold an INPUT (a run may empty its folder).
    """
    given = {path: "" for path in map(str, read)}
    held = set()
    values = {key: functools.reduce(getattr, key.split("."), config) for key in effects(type(config))}
    for key, effect in effects(type(config)).items():
        if effect is not Effect.OUTPUT:
            found = dict.fromkeys(_paths(values[key]), key)
            given |= found
            held |= found.keys() if effect is Effect.INPUT else set()
    for key, effect in effects(type(config)).items():
        if effect is Effect.OUTPUT and values[key] is not None:
            out = str(values[key])
            for path, name in given.items():
                if what := _collision(out, path, path in held):
                    where = f"--{name} {path}" if name else path
                    raise UserError(f"--{key} {out} {what}, {where}", remedy=f"Choose another --{key}")
            if not _ours(out):
                raise UserError("this file is none that seethink writes", where=out, remedy=f"Choose another --{key}")


def refuse_foreign(folder: Path, mark: str) -> None:
    """Raises UserError for a folder that holds something, but not the `mark` of an earlier call; notes do not count."""
    if not folder.is_dir() or (folder / mark).is_file():
        return
    names = (p.name for p in folder.iterdir() if p.is_dir() or p.suffix.lower() not in NOTES)
    foreign = sorted(name for name in names if not name.startswith("."))
    if foreign:
        what = f"this folder holds files of other origin ({', '.join(foreign[:3])}{', ...' if foreign[3:] else ''})"
        raise UserError(what, where=folder, remedy="Choose another --out: a new or an empty folder")


def same_file(a: str | Path, b: str | Path) -> bool:
    """One file or folder under two names: equal paths, symbolic and hard links."""
    both = os.path.exists(a) and os.path.exists(b)
    return os.path.realpath(a) == os.path.realpath(b) or (both and os.path.samefile(a, b))


def _paths(value: Any) -> Iterator[str]:
    """Existing files and folders that a setting names; of texts (`@file`, a model's folder or name) those that are."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, str | Path):
        path = str(value).removeprefix("@") if isinstance(value, str) else str(value)
        if os.path.isfile(path) or (
            os.path.isdir(path) and (_model(path) or (isinstance(value, Path) and path != "."))
        ):
            yield path
    elif isinstance(value, Iterable):
        for part in value:
            yield from _paths(part)


def _collision(out: str, path: str, held: bool) -> str:
    """What writing `out` would do to `path`, which is read; '' for nothing."""
    if same_file(out, path):
        return "would write over what is read"
    if _inside(out, path) and _model(path):
        return "lies in the model folder that is read"
    return "holds what is read" if held and _inside(path, out) else ""


def _inside(path: str, folder: str) -> bool:
    return os.path.isdir(folder) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _model(folder: str) -> bool:
    """A model folder, as against a run folder, which has a config.json of another kind."""
    return os.path.isfile(f"{folder}/config.json") and not os.path.isfile(f"{folder}/manifest.json")


def _ours(out: str) -> bool:
    """False for an existing file of a model, or one that holds something else than what we write: a picture, a text."""
    if not os.path.isfile(out):
        return True
    if _model(os.path.dirname(os.path.realpath(out))):
        return False
    with open(out, "rb") as f:
        head = f.read(16)
    return not head or head.startswith(WRITTEN)
