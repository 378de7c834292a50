"""Data to the Hugging Face Hub: its sets as tables with their pictures inside, and a card as README.md.

    seethink data push --data runs/data --repo me/my-data [--allow docvqa] [--public] [--dry-run]

A table is written, sent and removed before the next one, so a data set of any size needs the disk of one; all of them and the
card appear there in one commit. `--dry-run` shows the names of the files and the card, without the network.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.hub import check_repo, hub
from seethink.data.card import UNKNOWN, SetFacts, card, read_sets
from seethink.data.config import DataPushConfig
from seethink.data.export import exported, write_parquet
from seethink.data.formats import SCHEMAS, TABLES

TABLE_BYTES = 500 << 20
"""Of pictures in one table, as `datasets` cuts its own."""


def run(config: DataPushConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; where it went. Raises UserError for what is no data, sources that may not be passed on, and what the Hub refuses."""
    check_repo(config.repo)
    facts = read_sets(config.data)
    if not facts.sets:
        raise UserError("no rows", where=config.data, remedy="Give data with at least one row")
    if facts.runs and config.data.is_dir() and not (config.data / "done.json").is_file():
        raise UserError("this run has not finished", where=config.data, remedy="Its own command finishes it")
    refuse_closed(facts, config.allow)
    if unknown := [source.name for source in facts.sources if UNKNOWN in source.licences]:
        print(f"licence unknown: {', '.join(unknown)}; rows may say it under `licence`", file=sys.stderr)
    text = card(facts, config.repo, config.format)
    plan = {name: table_sizes(path, config.format) for name, path in facts.sets.items()}
    names = [name for of, sizes in plan.items() for name in table_names(of, len(sizes))]
    where = f"{config.repo} ({'public' if config.public else 'private'})"
    if dry_run:
        print("\n".join(["README.md", *names, "", text]))
        print(f"would send {facts.rows:,} rows in {len(names)} tables to {where}")
        return
    address = send(facts, plan, text, config)
    print(f"data push: {facts.rows:,} rows in {len(names)} tables to {where}, {address}")
    return {"address": address, "rows": facts.rows, "tables": len(names)}


def refuse_closed(facts: SetFacts, allowed: tuple[str, ...]) -> None:
    """Raises UserError for sources that nobody may pass on as things stand, and that nobody named."""
    closed = {source.name: source.declared.closed for source in facts.closed if source.declared}
    if unknown := sorted({*allowed} - {source.name for source in facts.sources}):
        remedy = f"Its sources are {', '.join(source.name for source in facts.sources)}"
        raise UserError(f"--allow {unknown[0]}: no row is of it", remedy=remedy)
    if refused := {name: why for name, why in closed.items() if name not in allowed}:
        what = "; ".join(f"{name}: {why}" for name, why in refused.items())
        remedy = f"Leave their rows out, or where you may: --allow {' '.join(refused)}"
        raise UserError(f"rows that nobody may pass on as things stand ({what})", where="data push", remedy=remedy)


def table_sizes(path: Path, format: str) -> list[int]:
    """Rows of each table, by the bytes of their pictures. Raises UserError for a row that cannot be sent."""
    sizes, held = [0], 0
    for row in exported(path, format):
        more = sum(os.path.getsize(image) for image in row.sample.images)
        if sizes[-1] and held + more > TABLE_BYTES:
            sizes, held = [*sizes, 0], 0
        sizes[-1] += 1
        held += more
    return sizes


def table_names(of: str, count: int) -> Iterator[str]:
    return (f"{of}/train-{n:05}-of-{count:05}.parquet" for n in range(count))


def send(facts: SetFacts, plan: dict[str, list[int]], text: str, config: DataPushConfig) -> str:
    """The address of what was sent; tables that an earlier call sent and this one did not are removed there."""
    repo, kind = config.repo, "dataset"
    with hub(repo) as api:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api.create_repo(repo, repo_type=kind, private=not config.public, exist_ok=True)
        before = api.list_repo_files(repo, repo_type=kind)
    commit = [CommitOperationAdd("README.md", text.encode())]
    with tempfile.TemporaryDirectory(prefix="seethink-") as folder:
        for of, sizes in plan.items():
            rows = map(TABLES[config.format], exported(facts.sets[of], config.format))
            for name, size in zip(table_names(of, len(sizes)), sizes, strict=True):
                file = Path(folder) / name
                write_parquet(file, islice(rows, size), SCHEMAS[config.format])
                commit.append(CommitOperationAdd(name, file))
                with hub(repo) as api:
                    api.preupload_lfs_files(repo, [commit[-1]], repo_type=kind)
                if commit[-1].path_or_fileobj == b"":  # it is there; a small one may go with the commit
                    file.unlink()
        sent = {part.path_in_repo for part in commit}
        old = [name for name in before if name.endswith(".parquet") and name.split("/")[0] in plan and name not in sent]
        with hub(repo) as api:
            api.create_commit(
                repo, [*commit, *map(CommitOperationDelete, old)], repo_type=kind, commit_message="from seethink"
            )
    return f"https://huggingface.co/datasets/{repo}"
