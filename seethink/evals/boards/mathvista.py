"""MathVista testmini: 1000 questions about pictures of all kinds, 540 with options (arXiv 2310.02255).

Answers are a letter, a whole number, a number with one or two decimals, or (twice) a list. The authors give a language model
every response that is not plainly one of these, and compare what it extracts as a string; VLMEvalKit reads letters by rules first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Verdict
from seethink.core.store import DataRow
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.files.records import Record, data_row, read_records, texts
from seethink.evals.judge.questions import ask_answer
from seethink.evals.metrics import right_share
from seethink.evals.prompts import LETTER, VALUE, direct, with_options, with_reasoning
from seethink.evals.rules.nearest import nearest
from seethink.evals.rules.options import NONE, can_infer, lettered
from seethink.evals.strict import STRICT
from seethink.evals.verdicts import REFUSAL, UNREADABLE

ANSWER_TYPES = ("text", "integer", "float", "list")
FORMS = {
    "text": "the letter of an option, as in A or C",
    "integer": "a whole number, as in 4 or 17",
    "float": "a number with {decimals}",
    "list": "a Python list, as in [3, 5]",
}


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Items of testmini.json, of VLMEvalKit's TSV or of Hugging Face parquet."""
    for record in read_records(path, pictures, ("decoded_image", "image")):
        name = str(record.row.get("pid") or record.row.get("index") or record.key)
        yield data_row(record, name, partial(_sample, name, record))


def _sample(name: str, record: Record) -> Sample:
    row, where = record.row, record.where
    question, answer, form = row.get("question"), row.get("answer"), row.get("answer_type")
    if not (isinstance(question, str) and isinstance(answer, str) and answer and form in ANSWER_TYPES):
        what = "no question with an answer and its type"
        raise UserError(what, where=where, remedy="Give testmini, the split whose answers are published")
    chosen = row.get("question_type") == "multi_choice"
    options = lettered(texts(row.get("choices"), where)) if chosen else {}
    letters = [letter for letter, text in options.items() if text == answer]
    if chosen and not letters:
        raise UserError("its answer is none of its choices", where=where, remedy="Download the file again")
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else row
    query = row.get("query") or (question if question.startswith("Hint:") else "")
    unit = f" (Unit: {row['unit']})" if row.get("unit") else ""
    meta = {
        "part": metadata.get("task") or "all",
        "level": metadata.get("grade") or "",
        "answer_type": form,
        "query": query,
        **({"precision": _precision(row, question)} if form == "float" else {}),
        **({"options": options} if chosen else {}),
    }
    return Sample(
        id=name,
        source="mathvista",
        images=record.pictures,
        question=_bare(question) + unit,
        gold=row.get("answer_option") or letters[0] if chosen else answer,
        kind="choice" if chosen else "math",
        choices=tuple(options.values()),
        meta=meta,
    )


def _precision(row: dict[str, Any], question: str) -> int:
    """Decimals of a float; VLMEvalKit's table tells them in the question's hint alone."""
    given = row.get("precision")
    return int(float(given)) if given not in (None, "") else 2 if "two decimal" in question else 1


def _bare(question: str) -> str:
    """The question of a query, which puts a hint before and the choices after it."""
    if not question.startswith("Hint:"):
        return question
    return question.partition("Question: ")[2].partition("\nChoices:")[0] or question


# What is asked.


def query(sample: Sample) -> str:
    """As the data ask it, where they do; else the same things in other words: form, question, options."""
    if sample.meta["query"]:
        return sample.meta["query"]
    decimals = "two decimals, as in 1.25" if sample.meta.get("precision") == 2 else "one decimal, as in 1.5"
    form = FORMS[sample.meta["answer_type"]].format(decimals=decimals)
    return f"Hint: The answer is {form}; give it at the end.\nQuestion: {_listed(sample)}"


def _listed(sample: Sample) -> str:
    options = sample.meta.get("options", {})
    return with_options(sample.question + ("\nChoices:" if options else ""), options)


def _form(sample: Sample) -> str:
    return LETTER if sample.kind == "choice" else VALUE


# As VLMEvalKit scores (vlmeval/dataset/utils/mathvista.py).


def leaderboard_read(sample: Sample, text: str) -> Reading | None:
    """A letter, right or wrong; a number only if it is the right one, and zero never."""
    if sample.kind == "choice":
        letter = can_infer(text, sample.meta["options"])
        return Reading(letter, "option rules") if letter else None
    value = _number(text, sample.meta["answer_type"])
    return Reading(text.strip(), "equal value") if value and value == _gold(sample) else None


def leaderboard_score(sample: Sample, answer: str) -> Verdict:
    form = sample.meta["answer_type"]
    if sample.kind == "choice":
        letter = can_infer(answer, sample.meta["options"])
        if letter is None:
            return Verdict(None, "letter", UNREADABLE)
        return Verdict(letter == sample.gold, "letter", REFUSAL if letter == NONE else "")
    if form == "list":
        return Verdict(False, "list")
    value = _number(answer, form)
    return Verdict(None, form, UNREADABLE) if value is None else Verdict(value == _gold(sample), form)


def _number(text: str, form: str) -> float | None:
    """What Python's `int` or `float` reads of the whole text, as the form wants it."""
    try:
        return int(text) if form == "integer" else float(text) if form == "float" else None
    except ValueError:
        return None


def _gold(sample: Sample) -> float | None:
    return _number(sample.gold, sample.meta["answer_type"])


# As the authors score (evaluation/extract_answer.py and calculate_score.py of lupantech/MathVista).


def official_read(sample: Sample, text: str) -> Reading | None:
    """A response that is an answer and nothing else: the text of an option, or a number."""
    if sample.kind == "choice":
        return Reading(text, "equal option") if text in sample.meta["options"].values() else None
    value = _number(text, sample.meta["answer_type"])
    return None if value is None else Reading(str(value), "number")


def official_score(sample: Sample, answer: str) -> Verdict:
    """Equality of strings, once the answer has the form of the gold. What cannot get it is wrong there, too."""
    form = sample.meta["answer_type"]
    if sample.kind == "choice":
        text = nearest(answer, sample.meta["options"])
        return Verdict(text == sample.meta["options"][sample.gold], "option")
    if form == "list":
        return Verdict(answer == sample.gold, "list")
    said = _rounded(answer, sample.meta.get("precision"))
    return Verdict(said == sample.gold, form, UNREADABLE if said is None else "")


def _rounded(answer: str, decimals: int | None) -> str | None:
    """A number as the authors write it: rounded to decimals, or cut to a whole number without any."""
    try:
        value = float(answer)
        return str(int(value)) if decimals is None else str(round(value, decimals))
    except (ValueError, OverflowError):
        return None


BOARD = Board(
    title="MathVista testmini",
    load=load,
    profiles={
        "leaderboard": Profile(
            leaderboard_read,
            per_item(leaderboard_score),
            extract=ask_answer,
            rules_first=True,
            quirks=(
                "the two items whose answer is a list are never right",
                "a float must be equal, not equal when rounded; a whole number written 7.0 is not read",
                "a letter A that is an article counts as option A",
            ),
        ),
        "official": Profile(
            official_read,
            per_item(official_score),
            extract=ask_answer,
            quirks=(
                "an answer that is no letter and no option becomes the option with the least edit distance",
                "a whole number is cut, not rounded: 7.9 is 7",
            ),
        ),
        "strict": STRICT,
    },
    prompts={
        "leaderboard": asked_as(query),
        "official": asked_as(lambda sample: f"{query(sample)}\nSolution: "),
        "direct": asked_as(lambda sample: direct(_listed(sample), _form(sample))),
        "reasoning": asked_as(lambda sample: with_reasoning(_listed(sample), _form(sample))),
    },
    metric=right_share,
    sizes=(1000,),
)
