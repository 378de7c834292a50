"""Write a data set in another trainer's format.

    seethink export --data runs/data/rl.jsonl --format verl --out rl.parquet

    trl       JSONL for TRL's GRPO: prompt (messages), images (paths), solution, kind, choices
    messages  JSONL for TRL's SFT and other chat trainers: messages, images
    verl      parquet: data_source, prompt with <image>, images (bytes), reward_model, extra_info
    easyr1    parquet: problem with <image>, images (bytes), answer (JSON: only the answer reaches a reward there)
    swift     JSONL for ms-swift: messages with <image>, images, solution
    sharegpt  JSON for LLaMA-Factory: conversations with <image>, images; dataset_info.json beside it
    paper     JSON as the paper publishes it: id, image, question, gt, ds_answer, caption, meta

`messages` and `sharegpt` need completions (sft.jsonl). Image paths are absolute; parquet holds the images themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import atomic, load_samples, read_jsonl, write_json, write_jsonl
from seethink.core.tags import THINK, THINK_END, extract
from seethink.data.config import ExportConfig

Row = dict[str, Any]
PLACEHOLDER = "<image>"
PLACEHOLDER_FORMATS = ("verl", "easyr1", "swift", "sharegpt")


@dataclass(frozen=True, slots=True)
class Record:
    """What a row function needs."""

    sample: Sample
    completion: str | None
    system: str


def run(config: ExportConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a bad file, or rows that the format cannot hold."""
    records = read_records(config)
    if config.format in ("messages", "sharegpt") and any(r.completion is None for r in records):
        remedy = "Give sft.jsonl, or a format for RL: trl, verl, easyr1, swift"
        raise UserError(f"rows have no completion, which {config.format} needs", where=config.data, remedy=remedy)
    if config.format in PLACEHOLDER_FORMATS:
        check_placeholders(records, config)
    if not dry_run:
        write(records, config)
    print(f"export: {len(records)} rows as {config.format}, {config.out}{' (not written)' if dry_run else ''}")


def read_records(config: ExportConfig) -> list[Record]:
    """Samples with their completions, where the file has them."""
    samples = [replace(s, images=tuple(map(os.path.abspath, s.images))) for s in load_samples(config.data)]
    completions = [row.get("completion") for _, row in read_jsonl(config.data)]
    try:
        system = config.system.read_text(encoding="utf-8").strip() if config.system else ""
    except OSError as error:
        raise UserError(f"cannot read the system prompt ({error.strerror})", where=config.system) from None
    return [Record(s, c, system) for s, c in zip(samples, completions, strict=True)]


def check_placeholders(records: Iterable[Record], config: ExportConfig) -> None:
    """A text that holds the placeholder would be taken for one more image."""
    for record in records:
        if PLACEHOLDER in record.sample.question + (record.completion or "") + record.system:
            where = f"{config.data} (row {record.sample.id!r})"
            raise UserError(f"text holds {PLACEHOLDER}", where=where, remedy="Remove it, or export as trl or messages")


def write(records: list[Record], config: ExportConfig) -> None:
    if config.format == "trl":
        write_jsonl(config.out, map(trl_row, records))
    elif config.format == "messages":
        write_jsonl(config.out, map(messages_row, records))
    elif config.format == "swift":
        write_jsonl(config.out, map(swift_row, records))
    elif config.format == "sharegpt":
        write_json(config.out, [sharegpt_row(r) for r in records])
        write_json(config.out.with_name("dataset_info.json"), dataset_info(config.out))
    elif config.format == "paper":
        root = image_root(records)
        write_json(config.out, [paper_row(r, root) for r in records])
        print(f"images are named as below {root}: read back with --format paper --images {root}")
    else:
        write_parquet(config.out, [verl_row(r) if config.format == "verl" else easyr1_row(r) for r in records])


def trl_row(record: Record) -> Row:
    """TRL puts the images before the text of the first user message by itself."""
    turns = _turns(record, record.sample.question)
    return {"prompt": turns, "images": list(record.sample.images), **_truth(record.sample)}


def messages_row(record: Record) -> Row:
    answer = {"role": "assistant", "content": record.completion}
    return {"messages": [*_turns(record, record.sample.question), answer], "images": list(record.sample.images)}


def swift_row(record: Record) -> Row:
    turns = _turns(record, _with_placeholders(record.sample))
    if record.completion is not None:
        turns.append({"role": "assistant", "content": record.completion})
    return {"messages": turns, "images": list(record.sample.images), **_truth(record.sample)}


def sharegpt_row(record: Record) -> Row:
    turns = [
        {"from": "human", "value": _with_placeholders(record.sample)},
        {"from": "gpt", "value": record.completion},
    ]
    return {"conversations": turns, "system": record.system, "images": list(record.sample.images)}


def dataset_info(out: Path) -> Row:
    """Entry that LLaMA-Factory looks up by name in its data folder."""
    columns = {"messages": "conversations", "system": "system", "images": "images"}
    return {out.stem: {"file_name": out.name, "formatting": "sharegpt", "columns": columns}}


def verl_row(record: Record) -> Row:
    sample = record.sample
    return {
        "data_source": sample.source,
        "prompt": _turns(record, _with_placeholders(sample)),
        "images": _bytes_of(sample),
        "ability": sample.kind,
        "reward_model": {"style": "rule", "ground_truth": sample.gold},
        "extra_info": {**_truth(sample), "question": sample.question},
    }


def easyr1_row(record: Record) -> Row:
    """Nothing but `answer` reaches a reward function there, so the kind travels inside it."""
    sample = record.sample
    answer = json.dumps(_truth(sample), ensure_ascii=False)
    return {"problem": _with_placeholders(sample), "answer": answer, "images": _bytes_of(sample)}


def image_root(records: list[Record]) -> Path:
    """The folder that holds all images, as the published file has its folders by source in one."""
    folders = [os.path.dirname(os.path.realpath(image)) for r in records for image in r.sample.images]
    return Path(os.path.commonpath(folders)) if folders else Path(".")


def paper_row(record: Record, root: Path) -> Row:
    """The published keys, and `source` and `kind`, which ids of other origin do not tell."""
    sample = record.sample
    images = [os.path.relpath(os.path.realpath(image), root) for image in sample.images]
    meta = {key: value for key, value in sample.meta.items() if key not in ("caption", "gt", "ds_answer")}
    meta |= {"text_question": sample.context} if sample.context else {}
    meta |= {"choices": list(sample.choices)} if sample.choices else {}
    parsed = extract(record.completion) if record.completion is not None else None
    trace = f"{THINK}\n{parsed.think}\n{THINK_END}\n\n{parsed.answer}" if parsed else sample.meta.get("ds_answer", "")
    return {
        "id": sample.id,
        "image": images[0] if len(images) == 1 else images,
        "question": sample.question,
        "gt": sample.meta.get("gt", sample.gold),
        "ds_answer": trace,
        "caption": sample.meta.get("caption", ""),
        "meta": meta,
        "source": sample.source,
        "kind": sample.kind,
    }


def write_parquet(path: Path, rows: list[Row]) -> None:
    """Parquet with pictures as {bytes, path}, the layout of the datasets library's Image."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    types = {
        "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "extra_info": pa.struct(
            {"id": pa.string(), "source": pa.string(), "kind": pa.string(), "solution": pa.string()}
            | {"choices": texts, "meta": pa.string(), "question": pa.string()}
        ),
    }
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    with atomic(path) as temporary:
        table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
        pq.write_table(table, temporary, compression="zstd")


def _turns(record: Record, question: str) -> list[Row]:
    system = [{"role": "system", "content": record.system}] if record.system else []
    return [*system, {"role": "user", "content": question}]


def _with_placeholders(sample: Sample) -> str:
    return PLACEHOLDER * len(sample.images) + sample.question


def _truth(sample: Sample) -> Row:
    """What a reward needs. `meta` travels as JSON text: its keys differ from row to row, which tables cannot hold."""
    return {
        "id": sample.id,
        "source": sample.source,
        "kind": sample.kind,
        "solution": sample.gold,
        "choices": list(sample.choices),
        "meta": json.dumps(sample.meta, ensure_ascii=False, default=str),
    }


def _bytes_of(sample: Sample) -> list[Row]:
    return [{"bytes": Path(image).read_bytes(), "path": Path(image).name} for image in sample.images]
