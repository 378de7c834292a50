"""The paper's published JSON as samples: reward kinds per source, options and golds repaired by rules, images found.

A record holds id, image, question, gt, ds_answer (the trace), caption and meta (arXiv 2504.11468; facts on its golds in
section 4.1 and appendix). Nothing is guessed silently: a repaired gold keeps the original in `meta.gt`, and a record
that fits no rule is refused by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.fields import as_text, lettered, read_golds, read_images, read_text_field, refuse_tokens
from seethink.core.nouns import Kind, Sample, kind_of, sample_from_row
from seethink.core.store import read_json
from seethink.data.sources.golds import LETTER, worked_answer
from seethink.data.sources.source import find_image
from seethink.data.sources.table import NINE

KNOWN: dict[str, tuple[str, str]] = {s.prefix or s.name: (s.name, s.kind) for s in NINE}
"""First part of the id: (source, reward kind)."""
KIND_KEYS = ("kind", "reward_kind", "reward")  # a record may name its kind itself

_FOUR_NUMBERS = re.compile(r"[\[(\s]*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)[\])\s]*")


def read(path: Path, images: Path | None) -> list[Sample]:
    """Samples of a published JSON file, image paths absolute. Raises UserError naming file, row and remedy."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UserError("not a JSON array of records", where=path, remedy="Give the published file, or --format rows")
    roots = [root for root in (images, path.resolve().parent) if root is not None]
    samples, seen, files = [], {}, {}
    for number, row in enumerate(rows):
        where = f"{path}[{number}]"
        sample = paper_sample(row, where, roots)
        if sample.id in seen:
            raise UserError(f"id {sample.id!r} was already used in record {seen[sample.id]}", where=where)
        seen[sample.id] = number
        for file, name in zip(sample.images, _image_names(row, where), strict=True):
            if files.setdefault(file, name) != name:
                what = f"images {files[file]!r} and {name!r} lead to the same file {file}"
                raise UserError(what, where=where, remedy="Give --images the folder that holds the source folders")
        samples.append(sample)
    return samples


def paper_sample(row: Any, where: str, roots: list[Path]) -> Sample:
    """One record. Raises UserError for a missing key, an unknown source, a missing image, or what no row may hold."""
    if not isinstance(row, dict):
        raise UserError("record is not a JSON object", where=where, remedy="Repair or remove it")
    for key in ("id", "question", "gt"):
        if row.get(key) is None or not str(row[key]).strip():
            raise UserError(f"record has no {key!r}", where=where, remedy="Repair or remove it")
    source, kind = _source_and_kind(row, where)
    meta = {} if row.get("meta") is None else row["meta"]
    if not isinstance(meta, dict):
        raise UserError("meta must be an object", where=where, remedy="Write {} or leave it out")
    meta = dict(meta)
    context = read_text_field(meta, "text_question", where)
    meta.pop("text_question", None)
    question, given = as_text(row["question"], "question", where), row["gt"]
    golds = [repair_gold(kind, gold, question, context) for gold in read_golds(given, kind, where)]
    if kind == "box" and not all(map(_FOUR_NUMBERS.fullmatch, golds)):
        kind = "open"  # the sources of boxes also hold plain questions
    meta = {"coords": "norm1", **meta} if kind == "box" else meta
    meta |= {"gt": given} if str(golds[0] if len(golds) == 1 else golds) != str(given) else {}
    meta |= {key: row[key] for key in ("caption", "ds_answer") if row.get(key)}
    choices = meta.pop("choices", None) or list(lettered(question)) if kind == "choice" else []
    sample = sample_from_row(
        {
            "id": row["id"],
            "source": source,
            "images": [str(image_below(name, roots, where)) for name in _image_names(row, where)],
            "question": question,
            "gold": golds,
            "kind": kind,
            "choices": choices,
            "context": context,
            "licence": row.get("licence"),
            "meta": meta,
        },
        where,
    )
    refuse_tokens((sample.question, context, *sample.choices), where)
    return sample


def repair_gold(kind: str, given: Any, question: str, context: str) -> str:
    """The checkable part of a published gold: the letter of an option, the final line of a worked solution."""
    text = str(given).strip()
    if kind == "choice" and (match := LETTER.fullmatch(text)):
        return match[1].upper()
    return worked_answer(text, question, context) if kind == "math" else text


def _source_and_kind(row: dict[str, Any], where: str) -> tuple[str, Kind]:
    prefix = str(row["id"]).split("-")[0]
    source, kind = KNOWN.get(prefix, (prefix, ""))
    source = str(row.get("source") or source)
    named = next((row[key] for key in KIND_KEYS if isinstance(row.get(key), str)), kind)
    if not named:
        remedy = f"Ids begin with {', '.join(KNOWN)}; or add a 'kind'"
        raise UserError(f"unknown source {prefix!r}", where=where, remedy=remedy)
    return source, kind_of(named, where)


def _image_names(row: dict[str, Any], where: str) -> tuple[str, ...]:
    return read_images({"images": row.get("local_image") or row.get("image")}, where)


def image_below(name: str, roots: list[Path], where: str) -> Path:
    if path := find_image(name, roots, where):
        return path
    tried = " and ".join(str(root) for root in roots)
    raise UserError(f"image {name!r} is not below {tried}", where=where, remedy="Give --images the folder of images")
