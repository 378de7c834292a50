"""The paper's published JSON as samples: reward kinds per source, options and golds repaired by rules, images found.

A record holds id, image, question, gt, ds_answer (the trace), caption and meta (arXiv 2504.11468; facts on its golds in
section 4.1 and appendix). Nothing is guessed silently: a repaired gold keeps the original in `meta.gt`, and a record
that fits no rule is refused by name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Kind, Sample, kind_of
from seethink.core.store import read_json

# first part of the id: (source, reward kind)
KNOWN: dict[str, tuple[str, str]] = {
    "clevr_math": ("clevr_math", "digit"),
    "geoqa170k": ("geoqa170k", "choice"),
    "synthesis": ("math_puma", "math"),
    "arxivqa": ("arxivqa", "choice"),
    "docvqa": ("docvqa", "open"),
    "vizwiz": ("vizwiz", "open"),
    "allava": ("allava_laion", "open"),
    "coco": ("coco", "box"),
    "vg": ("vg", "box"),
}
KIND_KEYS = ("kind", "reward_kind", "reward")  # a record may name its kind itself

_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[).:]\s*(\S.*?)[ \t]*$", re.MULTILINE)
_OPTION_INLINE = re.compile(r"(?:^|\s)\(?([A-Z])[).:]\s*(\S.*?)(?=\s+\(?[A-Z][).:]\s|\s*$)", re.DOTALL)
_LETTER = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\].:](?:\s.*)?|)\s*", re.DOTALL)
_ANSWER = re.compile(r"answer\s*[:：]\s*", re.IGNORECASE)
_FUNCTION = re.compile(r"(?<![\w])(?:y|f\(x\))\s*=\s*[^\n,;]+")
_ASKS_FUNCTION = re.compile(r"\b(?:equation|function|expression|formula)\b", re.IGNORECASE)
_SOLVED = re.compile(r"([a-xz])\s*=\s*(\S.*)")
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
        for file, name in zip(sample.images, _image_names(row), strict=True):
            if files.setdefault(file, name) != name:
                what = f"images {files[file]!r} and {name!r} lead to the same file {file}"
                raise UserError(what, where=where, remedy="Give --images the folder that holds the source folders")
        samples.append(sample)
    return samples


def paper_sample(row: Any, where: str, roots: list[Path]) -> Sample:
    """One record. Raises UserError for a missing key, an unknown source or a missing image."""
    if not isinstance(row, dict):
        raise UserError("record is not a JSON object", where=where, remedy="Repair or remove it")
    for key in ("id", "question", "gt"):
        if row.get(key) is None or not str(row[key]).strip():
            raise UserError(f"record has no {key!r}", where=where, remedy="Repair or remove it")
    source, kind = _source_and_kind(row, where)
    meta = dict(row.get("meta") or {})
    context = str(meta.pop("text_question", "") or "")
    question, given = str(row["question"]), row["gt"]
    gold = repair_gold(kind, given, question, context)
    if kind == "box" and not _FOUR_NUMBERS.fullmatch(gold):
        kind = "open"  # the sources of boxes also hold plain questions
    meta = {"coords": "norm1", **meta} if kind == "box" else meta
    meta |= {"gt": given} if gold != str(given) else {}
    meta |= {key: row[key] for key in ("caption", "ds_answer") if row.get(key)}
    return Sample(
        id=str(row["id"]),
        source=source,
        images=tuple(str(_find_image(name, roots, where)) for name in _image_names(row)),
        question=question,
        gold=gold,
        kind=kind,
        choices=tuple(meta.pop("choices", None) or read_choices(question)) if kind == "choice" else (),
        context=context,
        meta=meta,
    )


def read_choices(question: str) -> tuple[str, ...]:
    """Option texts in order, from lines `A) ..`, `A: ..`, `(A) ..`, or from one line that holds them all."""
    for pattern in (_OPTION, _OPTION_INLINE):
        options = dict(pattern.findall(question))
        letters = sorted(options)
        if len(letters) >= 2 and letters == [chr(ord("A") + i) for i in range(len(letters))]:
            return tuple(options[letter] for letter in letters)
    return ()


def repair_gold(kind: str, given: Any, question: str, context: str) -> str:
    """The checkable part of a published gold: the letter of an option, the final line of a worked solution."""
    text = json.dumps(given) if isinstance(given, list) else str(given).strip()
    if kind == "choice" and (match := _LETTER.fullmatch(text)):
        return match[1].upper()
    return worked_answer(text, question, context) if kind == "math" else text


def worked_answer(solution: str, question: str, context: str) -> str:
    """Final answer of a worked solution; the whole function where the question asks for it.

    Some solutions end with the unknown alone (`a = -5`). Then the function stands in an earlier line, or follows from
    putting the unknown into the function of the textual problem.
    """
    marks = list(_ANSWER.finditer(solution))
    final = _line(solution[marks[-1].end() :] if marks else (solution.splitlines() or [""])[-1])
    if not _ASKS_FUNCTION.search(question) or _FUNCTION.match(final):
        return final
    solved = _SOLVED.fullmatch(final)
    earlier = [_line(m[0]) for m in _FUNCTION.finditer(solution)]
    if earlier and (not solved or not re.search(rf"\b{solved[1]}\b", earlier[-1])):
        return earlier[-1]
    asked = _FUNCTION.search(context)
    if solved and asked:
        template = re.split(r"\s+(?:goes|passes|and|is|has|with|where|through)\b", asked[0])[0]
        return re.sub(rf"\b{solved[1]}\b", f"({solved[2]})", template).strip()
    return final


def _line(text: str) -> str:
    first = text.strip().splitlines()[0].strip() if text.strip() else ""
    return first[:-1].rstrip() if first.endswith(".") else first


def _source_and_kind(row: dict[str, Any], where: str) -> tuple[str, Kind]:
    prefix = str(row["id"]).split("-")[0]
    source, kind = KNOWN.get(prefix, (prefix, ""))
    source = str(row.get("source") or source)
    named = next((row[key] for key in KIND_KEYS if isinstance(row.get(key), str)), kind)
    if not named:
        remedy = f"Ids begin with {', '.join(KNOWN)}; or add a 'kind'"
        raise UserError(f"unknown source {prefix!r}", where=where, remedy=remedy)
    return source, kind_of(named, where)


def _image_names(row: dict[str, Any]) -> list[str]:
    named = row.get("local_image") or row.get("image") or []
    return [named] if isinstance(named, str) else [str(name) for name in named]


def _find_image(name: str, roots: list[Path], where: str) -> Path:
    """The file below one of the roots; leading folders of the name that do not exist there are dropped one by one."""
    parts = PurePosixPath(name.lstrip("/")).parts
    if ".." in parts:
        raise UserError(f"image {name!r} leads out of its folder", where=where, remedy="Repair or remove the record")
    for root in roots:
        for start in range(len(parts)):
            candidate = root.joinpath(*parts[start:])
            if candidate.is_file():
                return candidate.resolve()
    tried = " and ".join(str(root) for root in roots)
    raise UserError(f"image {name!r} is not below {tried}", where=where, remedy="Give --images the folder of images")
