"""Make one run of the parts that several machines have made; nothing is asked.

    seethink data @teacher.toml --shard 1/8 --out runs/data-1      # and so on to 8/8, each wherever it likes
    seethink data merge runs/data-1 runs/data-2 ... --out runs/data

The ledgers are joined, and the whole is walked anew from the joined one. So duplicates across parts, caps and splits are those of
one run: the tables are byte for byte what it would have written. The folder is a run like any other, and goes on like one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.ask import CallFailed, NotCached
from seethink.ask.join import failed_questions, join_ledgers
from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.store import hash_path, read_json, read_record
from seethink.core.url import MASK
from seethink.data.config import DataConfig, MergeConfig, split_shard
from seethink.data.pipeline import run as run_data

OWN = ("pictures", "shard")  # inputs in which parts differ


@dataclass(frozen=True)
class ShardRun:
    """A finished run of one shard."""

    folder: Path
    number: int
    of: int
    settings: dict[str, Any]
    """What makes it the run it is: settings, and hashes of what it read."""


def run(config: MergeConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for parts that are not those of one whole."""
    parts = sorted((read_part(folder) for folder in config.runs), key=lambda part: part.number)
    check_whole(parts)
    whole = whole_config(config, parts[0])
    source = hash_path(whole.source)
    if source != parts[0].settings["source"]:
        remedy = "Give --source, the file that the parts have read"
        raise UserError("these are not the rows that the parts were made of", where=whole.source, remedy=remedy)
    print(f"{len(parts)} parts of {whole.source}, to {config.out}")
    if dry_run:
        return

    def join(path: Path) -> dict[str, CallFailed]:
        join_ledgers(path, [part.folder / "ledger.sqlite" for part in parts])
        return failed_questions(path)

    try:
        run_data(whole, join=join)
    except NotCached as missing:
        what = f"no part has asked a question of step {missing.call.step} that the whole needs"
        remedy = (
            "A picture, a prompt or this program has changed since: run the parts again, only what changed is asked"
        )
        raise UserError(what, where=config.out, remedy=remedy) from None


def read_part(folder: Path) -> ShardRun:
    """The part in a run folder. Raises UserError for a folder that holds none, or one that is not finished."""
    manifest = read_record(folder / "manifest.json") if (folder / "manifest.json").is_file() else {}
    inputs = manifest.get("inputs") if isinstance(manifest, dict) and manifest.get("verb") == "data" else None
    if not isinstance(inputs, dict) or "shard" not in inputs:
        raise UserError(
            "this is no part of a data run", where=folder, remedy="Give folders of `seethink data --shard i/n`"
        )
    done = read_record(folder / "done.json") if (folder / "done.json").is_file() else {}
    if not isinstance(done, dict) or done.get("key") != manifest["key"]:
        remedy = "Run its command again, which goes on"
        raise UserError(f"part {inputs['shard']} is not finished", where=folder, remedy=remedy)
    shared = {name: value for name, value in inputs.items() if name not in OWN}
    return ShardRun(folder, *split_shard(str(inputs["shard"])), {**manifest["config"], **shared})


def check_whole(parts: Sequence[ShardRun]) -> None:
    """Raises UserError for parts of several wholes or runs, and for one that is missing or there twice."""
    first = parts[0]
    for part in parts:
        other = sorted(
            k for k in part.settings.keys() | first.settings.keys() if part.settings.get(k) != first.settings.get(k)
        )
        if part.of != first.of or other:
            what = (
                f"it is part {part.number}/{part.of} with other {', '.join(other)}"
                if other
                else f"it is one of {part.of} parts"
            )
            remedy = f"Merge parts of one run; {first.folder} is {first.number}/{first.of}"
            raise UserError(what, where=part.folder, remedy=remedy)
    count = Counter(part.number for part in parts)
    missing = [f"{number}/{first.of}" for number in range(1, first.of + 1) if number not in count]
    doubled = [f"{number}/{first.of}" for number, times in count.items() if times > 1]
    for word, names in (("missing", missing), ("here twice", doubled)):
        if names:
            some = f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
            what = f"part{'s' if len(names) > 1 else ''} {some} {'are' if len(names) > 1 else 'is'} {word}"
            raise UserError(what, remedy=f"Give all parts from 1/{first.of} to {first.of}/{first.of}, each once")


def whole_config(config: MergeConfig, part: ShardRun) -> DataConfig:
    """Settings of the run that the parts make together: theirs, without what holds for a part only."""
    given = _without_masks(read_json(part.folder / "config.json"))
    given |= {"out": config.out, "shard": "", "pilot": 0, "budget": None, "overwrite": config.overwrite}
    given |= {name: value for name in ("source", "images") if (value := getattr(config, name)) is not None}
    return build(DataConfig, given, part.folder / "config.json")


def _without_masks(value: Any) -> Any:
    """Settings whose addresses had a password, which was not written down: nothing is asked, so none is needed."""
    if isinstance(value, dict):
        return {key: _without_masks(part) for key, part in value.items()}
    return value.replace(f"{MASK}@", "").replace(f"?{MASK}", "") if isinstance(value, str) else value
