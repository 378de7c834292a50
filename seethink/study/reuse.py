"""Stages that another study has finished: equal settings and equal inputs, so its run folder is copied instead of run again.

    seethink study @studies/pocket/placebo.toml --out runs/placebo --reuse runs/main

Questions share arms, and an arm's name does not make it the same: what it reads is compared by content, everything else
setting by setting. What a run wrote of itself (its log, its folder) stays that of the first study.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seethink.core.config import Effect, build, effects
from seethink.core.errors import UserError
from seethink.core.store import hash_json, read_record
from seethink.study.config import CONFIG_OF

MARK = ".done.json"
PATHS = (Effect.INPUT, Effect.OUTPUT)
"""Settings that name a place; what is read there counts by content, what is written there not at all."""


def stage_key(verb: str, settings: dict[str, Any], inputs: dict[str, str | None]) -> str:
    """Equal for two stages that would compute the same."""
    config = build(CONFIG_OF[verb], settings)
    own = {key: _at(config.model_dump(mode="json"), key) for key, e in effects(type(config)).items() if e not in PATHS}
    return hash_json([verb, own, inputs])


def finished_stages(studies: Iterable[Path]) -> dict[str, Path]:
    """Key -> run folder of every finished stage of other studies. Raises UserError for a folder that is no study."""
    found: dict[str, Path] = {}
    for study in studies:
        if not (study / "study.json").is_file():
            raise UserError("no study to reuse", where=study, remedy="Name the folder of a study that has run")
        for mark in sorted(study.rglob(f"*{MARK}")):
            name = mark.name.removesuffix(MARK)
            verb, record, folder = name.partition("-")[0], read_record(mark), mark.with_name(name)
            whole = isinstance(record, dict) and record.keys() >= {"settings", "inputs"}
            if verb in CONFIG_OF and whole and (folder / "done.json").is_file():
                found.setdefault(stage_key(verb, record["settings"], record["inputs"]), folder)
    return found


def copy_stage(folder: Path, out: Path) -> None:
    """A finished run folder at another place, byte for byte: a link would change when the first study runs again."""
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("checkpoint", ".lock"))


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
