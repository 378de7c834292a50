"""GeoQA test as G-LLaVA asks it: 754 plane-geometry questions with four options (arXiv 2312.11370).

`test_answers.jsonl` holds the letters; the questions stand beside it in `test_questions.jsonl`. Items of GeoQA also are training
data of the paper, so a score here says something about what was learned, not about what is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, Verdict
from seethink.core.store import DataRow, read_jsonl
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.metrics import right_share
from seethink.evals.records import read_records


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Answers with their questions, where those stand beside them. Raises UserError naming file and row."""
    beside = path.with_name("test_questions.jsonl")
    questions = {row["question_id"]: row for _, row in read_jsonl(beside)} if beside.is_file() else {}
    for where, _, row, _ in read_records(path):
        number, gold = row.get("question_id"), row.get("text")
        if not isinstance(number, int) or not isinstance(gold, str) or len(gold) != 1:
            fault = UserError("no question_id with a letter", where=where, remedy="Give test_answers.jsonl")
            yield DataRow(where, str(number), fault)
            continue
        asked = questions.get(number, {})
        image = asked.get("image")
        sample = Sample(
            id=str(number),
            source="geoqa",
            images=(str(path.parent / image),) if image else (),
            question=str(asked.get("text", "")).partition("Question:")[2].strip(),
            gold=gold,
            kind="choice",
            choices=("A", "B", "C", "D"),  # their texts are part of the question
        )
        yield DataRow(where, sample.id, Example(sample, ""))


def read(sample: Sample, text: str) -> Reading | None:
    raise NotImplementedError


def score(sample: Sample, answer: str) -> Verdict:
    return Verdict(answer == sample.gold, "letter")


BOARD = Board(
    title="GeoQA test",
    load=load,
    profiles={"official": Profile(read, per_item(score))},
    prompts={"official": asked_as(lambda sample: sample.question)},
    metric=right_share,
    sizes=(754,),
)
