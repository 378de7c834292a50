"""MathVision (MATH-V) test: 3040 problems with a picture from competitions, 1532 of them with five options (arXiv 2402.14804).

Answers are a letter or a value in LaTeX. The authors score by rules alone; VLMEvalKit reads letters by rules and gives a language
model what is left. The markers <image1>, ... of a question stay in its text: the file holds one picture an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Verdict
from seethink.core.store import DataRow
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.files.records import Record, data_row, read_records, texts
from seethink.evals.judge.questions import ask_answer
from seethink.evals.metrics import right_share
from seethink.evals.prompts import LETTER, VALUE, direct, with_options, with_reasoning
from seethink.evals.rules.mathv_numbers import OverBudget
from seethink.evals.rules.mathv_text import answer_in, same
from seethink.evals.rules.mathv_vlmevalkit import is_equal
from seethink.evals.rules.options import NONE, can_infer, lettered
from seethink.evals.strict import STRICT
from seethink.evals.verdicts import REFUSAL, SCORING, UNREADABLE


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Items of test.jsonl or testmini.jsonl, of VLMEvalKit's TSV or of Hugging Face parquet."""
    for record in read_records(path, pictures, ("decoded_image", "image")):
        row = record.row
        name = next((str(row[key]) for key in ("id", "index") if row.get(key) not in (None, "")), record.key)
        yield data_row(record, name, partial(_sample, name, record))


def _sample(name: str, record: Record) -> Sample:
    row, where = record.row, record.where
    question, answer = row.get("question"), row.get("answer")
    answer = str(answer) if isinstance(answer, int | float) and not isinstance(answer, bool) else answer
    if not (name and isinstance(question, str) and question and isinstance(answer, str) and answer.strip()):
        raise UserError("no id, question and answer", where=where, remedy="Give the published test or testmini split")
    options = lettered(texts(row.get("options", row.get("choices")), where))
    if options and answer not in options:
        raise UserError("its answer is the letter of no option", where=where, remedy="Download the file again")
    return Sample(
        id=name,
        source="mathvision",
        images=record.pictures,
        question=question,
        gold=answer,
        kind="choice" if options else "math",
        choices=tuple(options.values()),
        meta={
            "part": row.get("subject") or row.get("category") or "all",
            "level": str(row.get("level") or ""),
            "options": options,
        },
    )


# What is asked.


def _listed(sample: Sample) -> str:
    """The question and its options; these once, where a table has them in the question already."""
    if sample.question.startswith("Hint:") or "\nChoices:" in sample.question:
        return sample.question
    return with_options(sample.question, sample.meta["options"])


def _form(sample: Sample) -> str:
    return LETTER if sample.kind == "choice" else VALUE


def stepwise(sample: Sample) -> str:
    """As the authors ask: the way first, one box for the result, then question and options."""
    form = "the letter of the right option" if sample.kind == "choice" else "a single number or expression"
    return f"Work on this problem step by step. Write the result once, in \\boxed{{}}: {form}.\n{_listed(sample)}"


# As VLMEvalKit scores (vlmeval/dataset/utils/mathv.py).


def leaderboard_read(sample: Sample, text: str) -> Reading | None:
    """A letter, right or wrong; a value only if it is the right one."""
    if sample.kind == "choice":
        letter = can_infer(text, sample.meta["options"])
        return Reading(letter, "option rules") if letter else None
    try:
        return Reading(text, "equal value") if is_equal(text, sample.gold) else None
    except OverBudget:
        return None


def leaderboard_score(sample: Sample, answer: str) -> Verdict:
    if sample.kind == "choice":
        letter = can_infer(answer, sample.meta["options"])
        if letter is None:
            return Verdict(None, "letter", UNREADABLE)
        return Verdict(letter == sample.gold, "letter", REFUSAL if letter == NONE else "")
    try:
        return Verdict(is_equal(answer, sample.gold), "value")
    except OverBudget:
        return Verdict(None, "value", SCORING)


# As the authors score (evaluation/evaluate.py and utils.py of mathllm/MATH-V).


def official_read(sample: Sample, text: str) -> Reading:
    return Reading(answer_in(text), "rules")


def official_score(sample: Sample, answer: str) -> Verdict:
    """Right if it equals the letter, or the text of the right option, or the value."""
    golds = (sample.gold, sample.meta["options"].get(sample.gold, ""))
    try:
        return Verdict(any(same(answer, gold) for gold in golds), "letter" if sample.kind == "choice" else "value")
    except OverBudget:
        return Verdict(None, "value", SCORING)


BOARD = Board(
    title="MathVision test",
    load=load,
    profiles={
        "leaderboard": Profile(
            leaderboard_read,
            per_item(leaderboard_score),
            extract=ask_answer,
            rules_first=True,
            quirks=(
                "values closer than a millionth are equal, so 1/3 equals (3^1008-1)/3^1009",
                "numbers with a root, pi or a function equal nothing but their own text",
                "a degree sign is dropped, a percent is a hundredth",
                "a letter A that is an article counts as option A",
            ),
        ),
        "official": Profile(
            official_read,
            per_item(official_score),
            quirks=(
                "numbers are compared after rounding to two decimals: 0.33, 0.333 and 0.334 all equal 1/3",
                "an answer is compared with the letter and with the text of the right option: a bare 12 is right if that says 12",
                "the longest leading part that is understood counts, the rest does not: 3) and 3.abc are 3; 5tr is 5",
                "a:b is a/b; 2\\frac{1}{2} is 2 times 1/2; commas that group three digits are dropped, other lists are no numbers",
                "elements of tuples are compared as text after rounding: 2.0 is 2, 4/2 is not",
                "a unit in letters other than km, m^3 and units, a natural logarithm, an absolute value make an answer wrong",
                "a percent or degree sign is dropped without a conversion",
            ),
        ),
        "strict": STRICT,
    },
    prompts={
        "leaderboard": asked_as(_listed),
        "official": asked_as(stepwise),
        "direct": asked_as(lambda sample: direct(_listed(sample), _form(sample))),
        "reasoning": asked_as(lambda sample: with_reasoning(_listed(sample), _form(sample))),
    },
    metric=right_share,
    sizes=(3040,),
)
