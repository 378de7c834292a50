"""DocVQA: questions about scanned pages, answered by a span of their text; any of several answers is right.

The challenge's train_v1.0.json: {"data": [{questionId, question, image, docId, answers, ...}]}, pictures in documents/.
It has 39,463 questions on 10,194 pages: the paper's number is that of the pages.
"""

from __future__ import annotations

from seethink.data.sources.golds import answers
from seethink.data.sources.source import Counts, Fields, Picture, Source


def row(record: Fields, picture: Picture) -> Fields:
    """The first answer is the one to imitate, as the organisers advise; the others are as right."""
    golds = list(dict.fromkeys(answers(record["answers"])))
    meta = {"docId": record["docId"]} if "docId" in record else {}
    return {"question": record["question"], "gold": golds, "given": golds, "meta": meta}


DOCVQA = Source(
    name="docvqa",
    title="DocVQA",
    published="rrc.cvc.uab.es/?ch=17",
    licence="terms of the challenge; pages of the UCSF Industry Documents Library",
    closed="the challenge hands it out itself, under terms that name no licence",
    kind="open",
    counts=Counts(10_194, 8_206, 4_897, 1_000),
    files=("train_v1.0_withQT.json", "train_v1.0.json", "**/train_v1.0*.json"),
    key="data",
    id_key="questionId",
    row=row,
)
