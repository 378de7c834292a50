"""GeoQA test as G-LLaVA asks it: 754 plane-geometry questions with four options (arXiv 2312.11370).

`test_answers.jsonl` holds the letters; the questions stand beside it in `test_questions.jsonl`. Items of GeoQA also are training
data of the paper, so a score here says something about what was learned, not about what is new.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, Verdict
from seethink.core.store import DataRow, read_jsonl
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.files.records import read_records
from seethink.evals.metrics import right_share
from seethink.evals.prompts import LETTER, direct, with_options, with_reasoning
from seethink.evals.strict import STRICT

_OPTION = re.compile(r"(?m)^([A-D]):(.*)$")
_SAID = tuple(
    re.compile(before + "([A-D])" + after)
    for before, after in (
        ("Answer:", ""),
        ("the correct answer is option ", ""),
        ("option ", " is selected"),
        ("the answer is option ", ""),
        (r"the answer is \(", r"\)"),
    )
)
"""Ways to say an answer that the official scorer knows; the first of them that occurs at all decides, by its first place."""
_IN_LAST_SENTENCE = re.compile("is ([A-D])")


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Answers with their questions. Raises UserError where those do not stand beside them, but are to be asked."""
    beside = path.with_name("test_questions.jsonl")
    if pictures is not None and not beside.is_file():
        raise UserError("no test_questions.jsonl beside it", where=path, remedy="Put both files into one folder")
    questions = {row.get("question_id"): row for _, row in read_jsonl(beside)} if beside.is_file() else {}
    for where, _, row, _ in read_records(path):
        number, gold = row.get("question_id"), row.get("text")
        if not isinstance(number, int) or not isinstance(gold, str) or gold not in tuple("ABCD"):
            fault = UserError("no question_id with a letter", where=where, remedy="Give test_answers.jsonl")
            yield DataRow(where, str(number), fault)
            continue
        sample = _sample(number, gold, questions.get(number, {}), path.parent)
        yield DataRow(where, sample.id, Example(sample, ""))


def _sample(number: int, gold: str, asked: dict[str, Any], folder: Path) -> Sample:
    query, image = str(asked.get("text", "")).strip(), asked.get("image")
    question, _, listed = query.partition("Question:")[2].partition("\nChoices:")
    options = {letter: text.strip() for letter, text in _OPTION.findall(listed)} or dict.fromkeys("ABCD", "")
    return Sample(
        id=str(number),
        source="geoqa",
        images=(str(folder / image),) if isinstance(image, str) else (),
        question=question.strip(),
        gold=gold,
        kind="choice",
        choices=tuple(text or letter for letter, text in options.items()),
        meta={"options": options, "query": query},
    )


def read(sample: Sample, text: str) -> Reading | None:
    """The letter that G-LLaVA's scorer finds (scripts/geo_acc_calculate.py of pipilurj/G-LLaVA)."""
    for pattern in _SAID:
        if found := pattern.search(text):
            return Reading(found[1], "phrase")
    sentences = text.rsplit(".", 2)
    found = _IN_LAST_SENTENCE.search(sentences[-2]) if len(sentences) > 1 else None
    return Reading(found[1], "last sentence") if found else None


def score(sample: Sample, answer: str) -> Verdict:
    return Verdict(answer.strip() == sample.gold, "letter")


def _listed(sample: Sample) -> str:
    return with_options(sample.question, sample.meta["options"])


NOT_THERE = "GeoQA is not on the leaderboard: these are the rules of G-LLaVA's authors"
BOARD = Board(
    title="GeoQA test",
    load=load,
    profiles={
        "official": Profile(read, per_item(score)),
        "leaderboard": Profile(read, per_item(score), quirks=(NOT_THERE,)),
        "strict": STRICT,
    },
    prompts={
        "official": asked_as(lambda sample: sample.meta["query"]),
        "direct": asked_as(lambda sample: direct(_listed(sample), LETTER)),
        "reasoning": asked_as(lambda sample: with_reasoning(_listed(sample), LETTER)),
    },
    metric=right_share,
    sizes=(754,),
)
