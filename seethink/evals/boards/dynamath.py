"""DynaMath: 501 seed questions in 10 variants each, 5,010 items (arXiv 2411.00836).

The leaderboard's number is the worst case: the share of seed questions that are right in all ten variants. The average over
items, two to three times larger, stands beside it. Data: the folder that holds 10trials/trialK/dataset.json (variant K),
VLMEvalKit's TSV, or the parquet of the splits sample_variant1 .. 10.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.store import DataRow
from seethink.evals.board import Board, Profile, asked_as, per_item
from seethink.evals.files.records import Record, column, data_row, in_groups, read_records, shards
from seethink.evals.judge.questions import ask_answer
from seethink.evals.metrics import figures, right_share
from seethink.evals.rules import dynamath as rules
from seethink.evals.strict import STRICT

VARIANTS = 10
_VARIANT_OF = re.compile(r"(?:trial|sample_variant|variant)(\d{1,2})(?!\d)")
FORMS = {
    "multiple choice": "the letter of the option alone, for instance A, B, C or D",
    "float": "a decimal number with three digits after the point",
}
OTHER_FORM = "the answer alone; decimal numbers in it have three digits after the point"


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Items question by question, each with its variants. Raises UserError naming file and row."""
    yield from in_groups(row for file in files(Path(path)) for row in _file(file, pictures))


def files(path: Path) -> list[Path]:
    """The files of the board: of trials in a folder, parquet in a folder, or the one file itself."""
    if not path.is_dir():
        return [path]
    trials = [*path.glob("10trials/trial*/dataset.json"), *path.glob("trial*/dataset.json")]
    return sorted(trials, key=lambda file: (_variant_in(file.parent.name), file)) or shards(path)


def _file(file: Path, pictures: Path | None) -> Iterator[DataRow]:
    variant = _variant_in(file.parent.name) or _variant_in(file.name)
    for record in read_records(file, pictures, ("decoded_image", "image")):
        name = f"{record.row.get('qid', record.row.get('id', record.key))}/{record.row.get('varid', variant)}"
        yield data_row(record, name, partial(_sample, record, variant))


def _variant_in(name: str) -> int:
    """Which variant the name of a folder or file says; 0 where it says none."""
    found = _VARIANT_OF.search(name)
    return int(found[1]) if found else 0


def _sample(record: Record, variant: int) -> Sample:
    row, where = record.row, record.where
    name = column(row, where, "qid", "id", default=record.key)
    number = column(row, where, "varid", default=str(variant or ""))
    if number not in map(str, range(1, VARIANTS + 1)):
        raise UserError(
            f"variant {number[:20]!r} is none of 1 to {VARIANTS}", where=where, remedy="Give 10trials/trialK"
        )
    if not name:
        raise UserError(
            "row has no id of a question", where=where, remedy="Give trialK/dataset.json as it is published"
        )
    answer_type = column(row, where, "answer_type").strip()
    gold = column(row, where, "answer", "ground_truth")
    if answer_type == "float" and rules.number(gold) is None:
        raise UserError(f"answer {gold[:80]!r} is no number", where=where, remedy="Repair or remove the row")
    return Sample(
        id=f"{name}/{number}",
        source="dynamath",
        images=record.pictures,
        question=column(row, where, "question"),
        gold=gold,
        kind="choice" if answer_type == "multiple choice" else "math",  # options stand in the question
        meta={
            "part": " ".join(column(row, where, "subject", default="all").split()),  # one is spelled with extra blanks
            "level": column(row, where, "level", "knowledge_level", default=""),
            "cluster": name,
            "answer_type": answer_type,
        },
    )


def metric(scores: list[Score]) -> dict[str, Any]:
    """Worst case as `score`, `average` and best case beside it, and both by subject and level.

    The worst case is None, and `no_score` says why, where a variant of a question is missing or there twice: the product over
    fewer variants would be too kind.
    """
    average = right_share(scores)
    questions = by_question(scores)
    problem = _incomplete(scores)
    worst = figures("score", [] if problem else [float(min(right)) for right in questions.values()])
    return {
        **worst,
        **({"no_score": problem} if problem else {}),
        "average": average["score"],
        "average_interval": average["score_interval"],
        "best": figures("best", [float(max(right)) for right in questions.values()])["best"] if not problem else None,
        "questions": len(questions),
        "worst_by_part": _worst_by("part", scores),
        "worst_by_level": _worst_by("level", scores),
    }


def by_question(scores: Sequence[Score]) -> dict[str, list[bool]]:
    """question -> whether each of its items is right."""
    questions: defaultdict[str, list[bool]] = defaultdict(list)
    for score in scores:
        questions[score.cluster].append(score.ok is True)
    return dict(questions)


def _incomplete(scores: Sequence[Score]) -> str:
    """What keeps the worst case from being one, in words; '' for nothing."""
    counts = Counter(score.sample_id for score in scores)
    twice = [name for name, n in counts.items() if n > 1]
    missing = [
        f"{question}/{variant}"
        for question in dict.fromkeys(score.cluster for score in scores)
        for variant in range(1, VARIANTS + 1)
        if f"{question}/{variant}" not in counts
    ]
    said = [
        f"{len(names)} of (question, variant) {what}, the first {names[0]}"
        for names, what in ((missing, "missing"), (twice, "given more than once"))
        if names
    ]
    return f"no worst case: {'; '.join(said)}" if said else ""


def _worst_by(name: str, scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """{value: questions, average, worst case in percent} of a column."""
    groups: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[getattr(score, name)].append(score)
    found = {}
    for value, rows in sorted(groups.items()):
        questions = by_question(rows).values()
        worst = None if _incomplete(rows) else 100 * sum(map(all, questions)) / len(questions)
        average = 100 * sum(map(sum, questions)) / len(rows)
        found[value] = {"questions": len(questions), "average": average, "worst": worst}
    return found


def _json_prompt(sample: Sample, form: str) -> str:
    return (
        f"## Question\n{sample.question}\n\n## Format of the answer\n"
        'Reply with a JSON object that has two keys: "solution", the steps that lead to the answer, and "short answer", '
        f'the answer in brief. Write under "short answer" {form}.\n\n'
        '{\n    "solution": "<steps>",\n    "short answer": "<answer>"\n}'
    )


def ask_leaderboard(sample: Sample) -> str:
    return _json_prompt(sample, FORMS.get(sample.meta["answer_type"], OTHER_FORM))


def ask_official(sample: Sample) -> str:
    return _json_prompt(sample, f"{FORMS['multiple choice']}, or {FORMS['float']}, as the question demands")


def ask_reasoning(sample: Sample) -> str:
    form = FORMS.get(sample.meta["answer_type"], OTHER_FORM)
    return f"{sample.question}\n\nThink step by step first. Then give, as the last line, {form}."


BOARD = Board(
    title="DynaMath",
    load=load,
    profiles={
        "leaderboard": Profile(
            rules.read_leaderboard,
            per_item(rules.score_leaderboard),
            extract=ask_answer,
            rules_first=True,
            quirks=rules.QUIRKS_LEADERBOARD,
        ),
        "official": Profile(rules.read_official, per_item(rules.score_official), quirks=rules.QUIRKS_OFFICIAL),
        "strict": STRICT,
    },
    prompts={
        "leaderboard": asked_as(ask_leaderboard),
        "official": asked_as(ask_official),
        "direct": asked_as(lambda sample: sample.question),
        "reasoning": asked_as(ask_reasoning),
    },
    metric=metric,
    sizes=(501 * VARIANTS,),
)
