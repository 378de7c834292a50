"""Write a data set in another trainer's format.

    seethink export --data runs/data/rl.jsonl --format verl --out rl.parquet

    hf        parquet: a column each, pictures inside; what `datasets` loads, and `seethink import --format hf` reads
    trl       JSONL for TRL's GRPO: prompt (messages), images (paths), solution, kind, choices
    messages  JSONL for TRL's SFT and other chat trainers: messages, images
    verl      parquet: data_source, prompt with <image>, images (bytes), reward_model, extra_info
    easyr1    parquet: problem with <image>, images (bytes), answer (JSON: only the answer reaches a reward there)
    swift     JSONL for ms-swift: messages with <image>, images, solution
    sharegpt  JSON or JSONL for LLaMA-Factory: conversations with <image>, images; dataset_info.json beside it
    paper     JSON as the paper publishes it: id, image, question, gt, ds_answer, caption, meta

`messages` and `sharegpt` need completions (sft.jsonl). Image paths are absolute; parquet holds the images themselves. The
sample travels with every row, so that `seethink import` reads back an equal one. Rows pass one by one: FILE appears when all are
written, so a bad row leaves none, and memory holds no more for many of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.fields import PLACEHOLDER
from seethink.core.store import (
    atomic,
    read_examples,
    read_json,
    read_lines,
    read_text,
    write_json,
    write_json_list,
    write_jsonl,
)
from seethink.core.tags import extract
from seethink.data.config import ExportConfig
from seethink.data.formats import LINES, SCHEMAS, TABLES, Exported, paper_row

SUFFIXES = {**dict.fromkeys(LINES, (".jsonl",)), **dict.fromkeys(TABLES, (".parquet",))}
SUFFIXES |= {"sharegpt": (".json", ".jsonl"), "paper": (".json",)}
"""What the program that reads a format goes by."""
MARKED = ("verl", "easyr1", "swift", "sharegpt", "hf")
"""Formats in which <image> marks the place of an image."""
NO_SYSTEM = ("easyr1", "paper", "hf")
GROUP_BYTES, GROUP_ROWS, PAGE_ROWS = 128 << 20, 10_000, 16
"""Of a row group: half of the 256 MB that readers can be trusted with, because memory holds it twice."""


def run(config: ExportConfig, dry_run: bool = False) -> dict[str, Any]:
    """The verb; how many rows. Raises UserError for a bad file, a name of another kind of file, or rows that the format cannot hold."""
    suffixes = SUFFIXES[config.format]
    if config.out.suffix not in suffixes:
        what = f"{config.format} is written as {' or '.join(suffix[1:] for suffix in suffixes)}"
        raise UserError(what, where=config.out, remedy=f"Name it {config.out.with_suffix(suffixes[0])}")
    system = read_text(config.system) if config.system else ""
    if config.system and (not system or "\0" in system):
        raise UserError("no system prompt in this file", where=config.system, remedy="Name a text, or leave it out")
    rows = exported(config.data, config.format, system)
    count = sum(1 for _ in rows) if dry_run else write(rows, config)
    print(f"export: {count} rows as {config.format}, {config.out}{' (not written)' if dry_run else ''}")
    return {"out": str(config.out), "rows": count}


def exported(data: Path, format: str, system: str = "") -> Iterator[Exported]:
    """Rows of a data file, each looked at. Raises UserError for one that is none, or that the format cannot hold."""
    if system and format in NO_SYSTEM:
        raise UserError(f"{format} has no place for a system prompt", remedy="Leave --system out")
    for row in read_examples(data):
        if isinstance(row.read, UserError):
            raise row.read
        sample = row.read.sample
        sample = replace(sample, images=tuple(map(os.path.abspath, sample.images)))
        found = Exported(sample, row.read.completion or None, system, row.where)
        check(found, format)
        yield found


def check(row: Exported, format: str) -> None:
    """Raises UserError for a row that the format cannot hold."""
    where = f"{row.where} ({row.sample.id!r})"
    if format in ("messages", "sharegpt") and not (row.completion or "").strip():
        remedy = "Give sft.jsonl, or a format for RL: trl, verl, easyr1, swift"
        raise UserError(f"row has no completion, which {format} needs", where=where, remedy=remedy)
    if format == "paper" and row.completion is not None and extract(row.completion).status != "ok":
        what = "completion has no thinking and answer in tags, which the published format tells apart"
        raise UserError(what, where=where, remedy="Repair the row, or export as messages")
    if row.sample.places and format in ("trl", "messages"):
        what = f"the question has its images in places, and {format} only takes them before the text"
        raise UserError(what, where=where, remedy=f"Export as {', '.join(MARKED)}")
    text = (row.completion or "") + row.system
    if PLACEHOLDER in text and format in MARKED:
        what = f"text holds {PLACEHOLDER}, which would be taken for one more image"
        raise UserError(what, where=where, remedy="Remove it, or export as trl or messages")


def write(rows: Iterable[Exported], config: ExportConfig) -> int:
    """Number of rows written."""
    if config.format in TABLES:
        return write_parquet(config.out, map(TABLES[config.format], rows), SCHEMAS[config.format])
    if config.format == "paper":
        root = common_folder(config.data)
        count = write_json_list(config.out, map(partial(paper_row, root=root), rows))
        print(f"images are named as below {root}: read back with --format paper --images {root}")
        return count
    index, entries = dataset_info(config.out) if config.format == "sharegpt" else (None, {})
    write_lines = write_json_list if config.out.suffix == ".json" else write_jsonl
    count = write_lines(config.out, map(LINES[config.format], rows))
    if index:
        write_json(index, entries)
        print(f"LLaMA-Factory finds it by dataset: {config.out.stem}, dataset_dir: {config.out.absolute().parent}")
    return count


def common_folder(data: Path) -> str:
    """The folder that all pictures of a data file lie below, however deep; a row that is none is another's business."""
    folders, here = set(), data.resolve().parent
    for _, row in read_lines(data):
        images = [] if isinstance(row, UserError) else row.get("images") or row.get("image") or []
        for image in [images] if isinstance(images, str) else images:
            folders.add(os.path.dirname(os.path.realpath(here / str(image))))
    return os.path.commonpath(folders) if folders else "."


def dataset_info(out: Path) -> tuple[Path, dict[str, Any]]:
    """The file in which LLaMA-Factory looks data sets up, and its entries with ours: others stay as they are.

    Raises UserError where our name is taken there, or the file is no table of entries.
    """
    index = out.with_name("dataset_info.json")
    if index.name == out.name:
        raise UserError("this is where LLaMA-Factory lists data sets", where=out, remedy="Choose another --out")
    entries = read_json(index) if index.exists() else {}
    if not isinstance(entries, dict):
        raise UserError("not a JSON object of data sets", where=index, remedy="Repair it, or choose another folder")
    taken = entries.get(out.stem, {"file_name": out.name})
    if not isinstance(taken, dict) or taken.get("file_name") != out.name:
        raise UserError(f"{out.stem!r} is already an entry for other data", where=index, remedy="Choose another --out")
    columns = {"messages": "conversations", "system": "system", "images": "images"}
    entry = {"file_name": out.name, "formatting": "sharegpt", "columns": columns}
    return index, {**entries, out.stem: {**taken, **entry}}


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema, group: int = GROUP_BYTES) -> int:
    """Rows as they come, in row groups of at most `group` bytes of images: readers choke on larger ones.

    One row whose images are larger is a row group by itself. Returns the number of rows.
    """
    count = 0
    # pages end between so many values: by default a page would hold a thousand pictures, and so would any reader
    writer = partial(pq.ParquetWriter, compression="zstd", write_batch_size=PAGE_ROWS)
    with atomic(path) as temporary, open(temporary, "wb") as f, writer(f, schema) as file:
        waiting, size = [], 0
        for row in rows:
            more = sum(len(image["bytes"]) for image in row["images"])
            if waiting and (size + more > group or len(waiting) == GROUP_ROWS):
                file.write_table(pa.Table.from_pylist(waiting, schema))
                waiting, size = [], 0
            waiting.append(row)
            size, count = size + more, count + 1
        if waiting:
            file.write_table(pa.Table.from_pylist(waiting, schema))
    return count
