"""Write a data set in another trainer's format.

    seethink export --data runs/data/rl.jsonl --format verl --out rl.parquet

    trl       JSONL for TRL's GRPO: prompt (messages), images (paths), solution, kind, choices
    messages  JSONL for TRL's SFT and other chat trainers: messages, images
    verl      parquet: data_source, prompt with <image>, images (bytes), reward_model, extra_info
    easyr1    parquet: problem with <image>, images (bytes), answer (JSON: only the answer reaches a reward there)
    swift     JSONL for ms-swift: messages with <image>, images, solution
    sharegpt  JSON for LLaMA-Factory: conversations with <image>, images; dataset_info.json beside it
    paper     JSON as the paper publishes it: id, image, question, gt, ds_answer, caption, meta

`messages` and `sharegpt` need completions (sft.jsonl). Image paths are absolute; parquet holds the images themselves. The
sample travels with every row, so that `seethink import` reads back an equal one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.fields import PLACEHOLDER, with_marks
from seethink.core.images import portable
from seethink.core.nouns import Sample
from seethink.core.prompt import prompt_text
from seethink.core.store import (
    atomic,
    read_json,
    read_rows,
    read_text,
    typed,
    write_json,
    write_json_list,
    write_jsonl,
)  # fmt: skip
from seethink.core.tags import THINK, THINK_END, extract
from seethink.data.config import ExportConfig

PLACEHOLDER_FORMATS = ("verl", "easyr1", "swift", "sharegpt")
GROUP_BYTES, GROUP_ROWS = 128 << 20, 10_000
"""Of a row group: half of the 256 MB that readers can be trusted with, because memory holds it twice."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a row function needs."""

    sample: Sample
    completion: str | None
    system: str
    where: str
    """file:row"""


def run(config: ExportConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a bad file, or rows that the format cannot hold."""
    system = read_text(config.system) if config.system else ""
    if config.system and (not system or "\0" in system):
        raise UserError("no system prompt in this file", where=config.system, remedy="Name a text, or leave it out")
    rows = read_exported(config, system)  # one by one: the file is there when the last of them is sound
    count = sum(1 for _ in rows) if dry_run else write(rows, config, system)
    print(f"export: {count} rows as {config.format}, {config.out}{' (not written)' if dry_run else ''}")


def read_exported(config: ExportConfig, system: str) -> Iterator[Exported]:
    """Every row, checked. Raises UserError for one that the format cannot hold."""
    for data, row in read_rows(config.data):
        if isinstance(data.read, UserError):
            raise data.read
        sample = data.read.sample
        sample = replace(sample, images=tuple(map(os.path.abspath, sample.images)))
        exported = Exported(sample, typed(row, "completion", str, data.where), system, data.where)
        check(exported, config)
        yield exported


def check(row: Exported, config: ExportConfig) -> None:
    """Raises UserError for a row that the format cannot hold."""
    where = f"{row.where} ({row.sample.id!r})"
    if config.format in ("messages", "sharegpt") and not (row.completion or "").strip():
        remedy = "Give sft.jsonl, or a format for RL: trl, verl, easyr1, swift"
        raise UserError(f"row has no completion, which {config.format} needs", where=where, remedy=remedy)
    if config.format == "paper" and row.completion is not None and extract(row.completion).status != "ok":
        what = "completion has no thinking and answer in tags, which the published format tells apart"
        raise UserError(what, where=where, remedy="Repair the row, or export as messages")
    if row.system and config.format in ("easyr1", "paper"):
        raise UserError(f"{config.format} has no place for a system prompt", remedy="Leave --system out")
    if row.sample.places and config.format in ("trl", "messages"):
        what = f"the question has its images in places, and {config.format} only takes them before the text"
        raise UserError(what, where=where, remedy=f"Export as {', '.join(PLACEHOLDER_FORMATS)}")
    text = (row.completion or "") + row.system
    if PLACEHOLDER in text and config.format in PLACEHOLDER_FORMATS:
        what = f"text holds {PLACEHOLDER}, which would be taken for one more image"
        raise UserError(what, where=where, remedy="Remove it, or export as trl or messages")


def write(rows: Iterable[Exported], config: ExportConfig, system: str) -> int:
    """Number of rows written."""
    if config.format in JSONL:
        return write_jsonl(config.out, map(JSONL[config.format], rows))
    if config.format in PARQUET:
        return write_parquet(config.out, map(PARQUET[config.format], rows), SCHEMAS[config.format])
    if config.format == "sharegpt":
        index, entries = dataset_info(config.out)  # before anything is written
        count = write_json_list(config.out, map(sharegpt_row, rows))
        write_json(index, entries)
        return count
    folders = {os.path.dirname(os.path.realpath(image)) for row in rows for image in row.sample.images}
    root = os.path.commonpath(folders) if folders else "."
    count = write_json_list(config.out, (paper_row(row, root) for row in read_exported(config, system)))
    print(f"images are named as below {root}: read back with --format paper --images {root}")
    return count


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


def trl_row(row: Exported) -> dict[str, Any]:
    """TRL puts the images before the text of the first user message by itself."""
    turns = _turns(row, prompt_text(row.sample))
    return {"prompt": turns, "images": list(row.sample.images), **_truth(row.sample)}


def messages_row(row: Exported) -> dict[str, Any]:
    answer = {"role": "assistant", "content": row.completion}
    turns = [*_turns(row, prompt_text(row.sample)), answer]
    return {"messages": turns, "images": list(row.sample.images), **_truth(row.sample)}


def swift_row(row: Exported) -> dict[str, Any]:
    turns = _turns(row, _with_placeholders(row.sample))
    if row.completion is not None:
        turns.append({"role": "assistant", "content": row.completion})
    return {"messages": turns, "images": list(row.sample.images), **_truth(row.sample)}


def sharegpt_row(row: Exported) -> dict[str, Any]:
    turns = [{"from": "human", "value": _with_placeholders(row.sample)}, {"from": "gpt", "value": row.completion}]
    return {"conversations": turns, "system": row.system, "images": list(row.sample.images), **_truth(row.sample)}


def verl_row(row: Exported) -> dict[str, Any]:
    sample = row.sample
    return {
        "data_source": sample.source,
        "prompt": _turns(row, _with_placeholders(sample)),
        "images": _bytes_of(row),
        "ability": sample.kind,
        "reward_model": {"style": "rule", "ground_truth": sample.gold},
        "extra_info": _truth(sample),
    }


def easyr1_row(row: Exported) -> dict[str, Any]:
    """Nothing but `answer` reaches a reward function there, so the kind travels inside it."""
    sample = row.sample
    answer = json.dumps(_truth(sample), ensure_ascii=False)
    return {"problem": _with_placeholders(sample), "answer": answer, "images": _bytes_of(row)}


def paper_row(row: Exported, root: str) -> dict[str, Any]:
    """The published keys, and `source`, `kind` and `licence`, which ids of other origin do not tell."""
    sample = row.sample
    images = [os.path.relpath(os.path.realpath(image), root) for image in sample.images]
    meta = {key: value for key, value in sample.meta.items() if key not in ("caption", "gt", "ds_answer")}
    meta |= {"text_question": sample.context} if sample.context else {}
    meta |= {"choices": list(sample.choices)} if sample.choices else {}
    parsed = extract(row.completion) if row.completion is not None else None
    trace = f"{THINK}\n{parsed.think}\n{THINK_END}\n\n{parsed.answer}" if parsed else sample.meta.get("ds_answer", "")
    return {
        "id": sample.id,
        "image": images[0] if len(images) == 1 else images,
        "question": with_marks(sample.question, sample.places),
        "gt": sample.meta.get("gt", list(sample.golds) if sample.alternatives else sample.gold),
        "ds_answer": trace,
        "caption": sample.meta.get("caption", ""),
        "meta": meta,
        "source": sample.source,
        "kind": sample.kind,
        "licence": sample.licence,
    }


def _turns(row: Exported, question: str) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": row.system}] if row.system else []
    return [*system, {"role": "user", "content": question}]


def _with_placeholders(sample: Sample) -> str:
    return prompt_text(sample, PLACEHOLDER)


def _truth(sample: Sample) -> dict[str, Any]:
    """The sample itself: what a reward needs, and what `seethink import` reads back to an equal one.

    `meta` travels as JSON text: its keys differ from row to row, which tables cannot hold.
    """
    return {
        "id": sample.id,
        "source": sample.source,
        "question": with_marks(sample.question, sample.places),
        "kind": sample.kind,
        "solution": sample.gold,
        "alternatives": list(sample.alternatives),
        "choices": list(sample.choices),
        "context": sample.context,
        "licence": sample.licence,
        "meta": json.dumps(sample.meta, ensure_ascii=False, default=str),
    }


def _bytes_of(row: Exported) -> list[dict[str, Any]]:
    pictures = []
    for image in row.sample.images:
        data, suffix = portable(image, row.where)
        pictures.append({"bytes": data, "path": Path(image).with_suffix(suffix).name})
    return pictures


JSONL = {"trl": trl_row, "messages": messages_row, "swift": swift_row}
PARQUET = {"verl": verl_row, "easyr1": easyr1_row}
TEXT = pa.string()
IMAGES = pa.list_(pa.struct({"bytes": pa.binary(), "path": TEXT}))
"""The layout of the datasets library's Image."""
TRUTH = {
    "id": TEXT,
    "source": TEXT,
    "question": TEXT,
    "kind": TEXT,
    "solution": TEXT,
    "alternatives": pa.list_(TEXT),
    "choices": pa.list_(TEXT),
    "context": TEXT,
    "licence": TEXT,
    "meta": TEXT,
}
SCHEMAS = {
    "verl": pa.schema(
        {
            "data_source": TEXT,
            "prompt": pa.list_(pa.struct({"role": TEXT, "content": TEXT})),
            "images": IMAGES,
            "ability": TEXT,
            "reward_model": pa.struct({"style": TEXT, "ground_truth": TEXT}),
            "extra_info": pa.struct(TRUTH),
        }
    ),
    "easyr1": pa.schema({"problem": TEXT, "answer": TEXT, "images": IMAGES}),
}


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema, group: int = GROUP_BYTES) -> int:
    """Number of rows written. Rows as they come, in row groups of at most `group` bytes of images: readers choke on larger ones.

    One row whose images are larger is a row group by itself.
    """
    with atomic(path) as temporary, open(temporary, "wb") as f, pq.ParquetWriter(f, schema, compression="zstd") as file:
        waiting, size, count = [], 0, 0
        for row in rows:
            count += 1
            more = sum(len(image["bytes"]) for image in row["images"])
            if waiting and (size + more > group or len(waiting) == GROUP_ROWS):
                file.write_table(pa.Table.from_pylist(waiting, schema))
                waiting, size = [], 0
            waiting.append(row)
            size += more
        if waiting:
            file.write_table(pa.Table.from_pylist(waiting, schema))
    return count
