"""MathVerse testmini, Vision Only: 788 problems whose question stands in the picture (arXiv 2403.14624).

testmini.json holds each problem in five versions, of which this board is one; the Text Only version is a file of its own and
can be asked too, under its name. No rule reads a response: a judge extracts a short answer, which is right when it equals the
reference, and another question to the judge settles whether the two mean the same. Sources: MathVerse, evaluation/*.py;
VLMEvalKit, vlmeval/dataset/utils/mathverse.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score, Verdict
from seethink.core.store import DataRow
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.files.records import Record, column, data_row, read_records, unique
from seethink.evals.judge.questions import ask_same, ask_value
from seethink.evals.metrics import right_share
from seethink.evals.strict import STRICT
from seethink.evals.verdicts import UNREADABLE

VERSION, TEXT_ONLY = "Vision Only", "Text Only"
LETTERS = "ABCDEFGH"
LONGEST_DICT = 2_000
"""Characters of a TSV's metadata, which is a dict as Python writes it."""
PREFIX = "extracted answer:"
"""What judges repeat before an answer."""
ABSENT = ("null", "none")
"""What a judge writes where a response gives no answer."""
NOT_REPRODUCED = "not reproduced: the authors' script shows the judge `question`, which is empty in this version"


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Items of the Vision Only version, or all of a file that holds the Text Only version and no other.

    Raises UserError naming file and row, and for a file without these.
    """
    yield from unique(_rows(path, pictures))


def _rows(path: Path, pictures: Path | None) -> Iterator[DataRow]:
    seen: dict[str, int] = {}
    for record in read_records(path, pictures):
        version = str(record.row.get("problem_version") or "")
        seen[version] = seen.get(version, 0) + 1
        if version in (VERSION, TEXT_ONLY):
            name = str(record.row.get("sample_index") or record.row.get("index") or "")
            yield data_row(record, name, partial(_sample, record, version))
    if VERSION not in seen and seen.keys() != {TEXT_ONLY}:
        what = f"no row with problem_version {VERSION!r}, but {', '.join(map(repr, seen)) or 'none at all'}"
        raise UserError(what, where=path, remedy="Give testmini.json, or VLMEvalKit's MathVerse_MINI_Vision_Only.tsv")


def _sample(record: Record, version: str) -> Sample:
    row, where = record.row, record.where
    gold = column(row, where, "answer")
    about = _metadata(row.get("metadata"), where)
    question = column(row, where, "question_for_eval", "question", default="")
    asked = column(row, where, "query_wo", "question")
    part = str(row.get("subject") or about.get("subject") or "all")
    return Sample(
        id=column(row, where, "sample_index", "index"),
        source="mathverse",
        images=record.pictures,
        question=asked,
        gold=gold,
        kind="choice" if gold.strip() in tuple(LETTERS) else "math",  # a few of multiple choice have another answer
        meta={
            "part": part if version == VERSION else f"{version}: {part}",
            "problem_version": version,
            "subfield": str(row.get("subfield") or about.get("subfield") or ""),
            "question_type": column(row, where, "question_type", default=""),
            "question_for_eval": question,
            "query_wo": asked,
            "query_cot": column(row, where, "query_cot", default=asked),
        },
    )


def _metadata(value: Any, where: str) -> dict[str, Any]:
    """An object, or the text of one; {} where there is none."""
    if isinstance(value, str) and value.strip():
        try:
            value = ast.literal_eval(value) if len(value) <= LONGEST_DICT else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = None
        if not isinstance(value, dict):
            raise UserError("'metadata' is no object", where=where, remedy="Download the file again")
    return value if isinstance(value, dict) else {}


def read(sample: Sample, text: str) -> Reading | None:
    """Nothing: neither original has a rule for responses."""
    return None


def score(sample: Sample, answer: str) -> Verdict | None:
    """Right when equal to the reference; else only the meaning tells, unless there is no answer."""
    answer = answer.strip()
    if answer.lower().startswith(PREFIX):
        answer = answer[len(PREFIX) :].strip()
    if not answer or answer.lower() in ABSENT:
        return Verdict(None, "", UNREADABLE)
    return Verdict(True, "equal") if answer == sample.gold.strip() else None


def with_question(sample: Sample) -> Sample:
    """The item with the question in words, for a judge, who sees no picture."""
    return replace(sample, question=sample.meta["question_for_eval"] or sample.question)


def metric(scores: list[Score]) -> dict[str, Any]:
    """Share right, and which version of the problems it is of."""
    text_only = any(s.part.startswith(TEXT_ONLY) for s in scores)
    other = {"another_set": f"{TEXT_ONLY} problems, not {VERSION}"} if text_only else {}
    return {**right_share(scores), "problem_version": TEXT_ONLY if text_only else VERSION, **other}


_TWO_STAGES = Profile(
    read,
    per_item(score),
    extract=lambda sample, text: ask_value(with_question(sample), text),
    grade=lambda sample, answer: ask_same(with_question(sample), answer),
)

BOARD = Board(
    title="MathVerse testmini",  # the summary's problem_version says which version
    load=load,
    profiles={
        "leaderboard": _TWO_STAGES,
        "official": replace(_TWO_STAGES, quirks=(NOT_REPRODUCED,)),
        "strict": STRICT,
    },
    prompts={
        "leaderboard": asked_as(lambda sample: sample.meta["query_wo"]),
        "reasoning": asked_as(lambda sample: sample.meta["query_cot"]),
    },
    metric=metric,
    sizes=(788,),
)
