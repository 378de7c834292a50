"""One row in each format that `seethink export` writes, and the columns of those that are tables.

Every format carries the sample itself (`_truth`), so that `seethink import` reads back an equal one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from seethink.core.fields import PLACEHOLDER, with_marks
from seethink.core.images import portable
from seethink.core.nouns import Sample
from seethink.core.prompt import prompt_text
from seethink.core.tags import THINK, THINK_END, extract


@dataclass(frozen=True, slots=True)
class Exported:
    """What a row function needs."""

    sample: Sample
    completion: str | None
    system: str
    where: str
    """file:row"""


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


def hf_row(row: Exported) -> dict[str, Any]:
    """A column each: what `datasets` loads, its pictures as pictures, and any trainer can be pointed at."""
    return {**_truth(row.sample), "completion": row.completion, "images": _bytes_of(row)}


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


TEXT = pa.string()
IMAGES = pa.list_(pa.struct({"bytes": pa.binary(), "path": TEXT}))
"""The layout of the datasets library's Image."""
TRUTH = {
    **dict.fromkeys(("id", "source", "question", "kind", "solution"), TEXT),
    **dict.fromkeys(("alternatives", "choices"), pa.list_(TEXT)),
    **dict.fromkeys(("context", "licence", "meta"), TEXT),
}


def _named_features(columns: dict[str, pa.DataType]) -> pa.Schema:
    """With what `datasets` goes by: that the structs are pictures."""
    text = {"dtype": "string", "_type": "Value"}
    parts = {
        name: {"_type": "Sequence", "feature": {"_type": "Image"} if kind is IMAGES else text} if kind != TEXT else text
        for name, kind in columns.items()
    }
    return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": parts}})})


LINES: dict[str, Callable[[Exported], dict[str, Any]]] = {
    "trl": trl_row, "messages": messages_row, "swift": swift_row, "sharegpt": sharegpt_row,
}  # fmt: skip
"""Formats of JSON: a line, or an element of an array, a row."""
TABLES = {"verl": verl_row, "easyr1": easyr1_row, "hf": hf_row}
"""Formats of parquet."""
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
    "hf": _named_features({**TRUTH, "completion": TEXT, "images": IMAGES}),
}
