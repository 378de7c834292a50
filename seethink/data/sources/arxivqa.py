"""ArxivQA: questions with options about figures of papers, written by GPT-4V.

arxivqa.jsonl: {id, image, question, options, label, rationale}; pictures in images.tgz. Labels come as `A`, `A)`, `(a)`, `A. text`
or as the text of an option.
"""

from __future__ import annotations

from seethink.core.fields import read_choices
from seethink.data.sources.golds import letter
from seethink.data.sources.source import Counts, Fields, Picture, Source, Unusable


def row(record: Fields, picture: Picture) -> Fields:
    """Options without their letters; the author's rationale is kept in meta."""
    choices = read_choices(record["options"], "")
    if len(choices) < 2:
        raise Unusable("gold", "fewer than two options")
    gold, meta = letter(record["label"], choices), {"rationale": str(record.get("rationale") or "")}
    return {
        "question": record["question"],
        "gold": gold,
        "given": record["label"],
        "choices": list(choices),
        "meta": meta,
    }


ARXIVQA = Source(
    name="arxivqa",
    title="ArxivQA",
    published="hf.co/datasets/MMInstruction/ArxivQA",
    licence="CC BY-SA 4.0",
    kind="choice",
    counts=Counts(54_399, 51_348, 34_604, 1_000),
    files=("arxivqa.jsonl",),
    id_key="id",
    row=row,
)
