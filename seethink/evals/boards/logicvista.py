"""LogicVista: 448 puzzles whose options stand in the picture, by five skills of reasoning (arXiv 2407.04973).

Nobody reads a response by rules: a judge extracts letters, which must be the right ones, all of them and no other. One item
has neither a question nor an answer, one is answered by a digit, three by two letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Verdict
from seethink.core.store import DataRow
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.files.records import Record, data_row, read_records
from seethink.evals.judge.questions import ask_letters
from seethink.evals.metrics import right_share
from seethink.evals.prompts import LETTERS, direct, with_reasoning
from seethink.evals.rules.options import NONE
from seethink.evals.strict import STRICT
from seethink.evals.verdicts import REFUSAL, UNREADABLE

SKILLS = ("inductive", "deductive", "numerical", "spatial", "mechanical")
EMPTY = "v1_382"
"""The item without a question and an answer."""
NO_LETTER = "zzzzz"
"""What the authors' judge writes where a response chooses nothing."""
_GOLD = re.compile(r"[A-H](?:, [A-H])*|[0-9]")


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Items of dataset.json, of VLMEvalKit's TSV or of parquet."""
    for record in read_records(path, pictures):
        name = record.key or str(record.row.get("id") or record.row.get("index") or "")
        name = f"v1_{name}" if name.isdecimal() else name
        yield data_row(record, name, partial(_sample, name, record, path))


def _sample(name: str, record: Record, path: Path) -> Sample:
    row = record.row
    question, gold, picture = row.get("question"), row.get("answer"), row.get("imagename")
    if not (isinstance(question, str) and question and isinstance(gold, str) and _GOLD.fullmatch(gold)):
        what = "no question with letters as its answer"
        raise UserError(what, where=record.where, remedy=f"Give dataset.json; only {EMPTY} of it has none")
    return Sample(
        id=name,
        source="logicvista",
        images=(str(path.parent / "images" / picture),) if isinstance(picture, str) else record.pictures,
        question=question,
        gold=gold,
        kind="digit" if gold.isdecimal() else "choice",
        meta={
            "part": next((skill for skill in SKILLS if skill in str(row.get("skill"))), "all"),
            "options": dict.fromkeys("ABCDEFGH", ""),  # their texts are in the picture
            "several": True,
        },
    )


def letters(text: str) -> list[str]:
    """The parts of `A, C`, in lower case and order."""
    return sorted(part.strip() for part in text.lower().split(","))


def official_read(sample: Sample, text: str) -> Reading | None:
    """Only that a single odd character is no answer; the rest is the judge's. Source: eval/extract_accuracy.py."""
    text = text.strip()
    odd = len(text) == 1 and not text.isnumeric() and text.lower() not in "abcde"
    return Reading(NO_LETTER, "odd character") if odd else None


def official_score(sample: Sample, answer: str) -> Verdict:
    if answer.strip().lower() == NO_LETTER:
        return Verdict(None, "letters", UNREADABLE)
    return Verdict(letters(answer) == letters(sample.gold), "letters")


def leaderboard_score(sample: Sample, answer: str) -> Verdict:
    """Capitals in any order. Source: vlmeval/dataset/utils/logicvista.py, whose judge is asked for `AC` where ours is for `A, C`."""
    answer = answer.strip().replace(", ", "")
    if not (answer.isalpha() and answer.isupper()):
        return Verdict(None, "letters", UNREADABLE)
    right = sorted(answer.lower()) == letters(sample.gold)
    return Verdict(right, "letters", REFUSAL if answer == NONE else "")


BOARD = Board(
    title="LogicVista",
    load=load,
    profiles={
        "leaderboard": Profile(
            read=lambda sample, text: None,
            score=per_item(leaderboard_score),
            extract=ask_letters,
            quirks=("the item whose answer is the digit 3 is never right",),
        ),
        "official": Profile(official_read, per_item(official_score), extract=ask_letters),
        "strict": STRICT,
    },
    prompts={
        "leaderboard": asked_as(lambda sample: sample.question),
        "official": asked_as(lambda sample: sample.question),
        "direct": asked_as(lambda sample: direct(sample.question, LETTERS)),
        "reasoning": asked_as(lambda sample: with_reasoning(sample.question, LETTERS)),
    },
    metric=right_share,
    sizes=(448, 447),
    left_out={EMPTY: "it has no question and no answer"},
)
