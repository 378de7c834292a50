"""VizWiz: what blind people asked about their own photographs, answered by ten others each.

Annotations/train.json: [{image, question, answers: [{answer, answer_confidence}], answer_type, answerable}], pictures in train/.
"""

from __future__ import annotations

from seethink.data.sources.golds import answers, majority
from seethink.data.sources.source import Counts, Fields, Picture, Source, Unusable

NO_ANSWER = {"unanswerable", "unsuitable", "unsuitable image"}


def row(record: Fields, picture: Picture) -> Fields:
    """What most said; all of a tie are right, and meta says that it was one. Raises Unusable for `unanswerable`."""
    said = answers(record["answers"], "answer")
    best, votes = majority(said)
    golds = [answer for answer in best if answer not in NO_ANSWER]
    if not golds:
        raise Unusable("unanswerable", f"so say {votes} of {len(said)}")
    meta = {"votes": votes, "of": len(said)} | ({"tie": best} if len(best) > 1 else {})
    return {"question": record["question"], "gold": golds, "given": golds, "meta": meta}


VIZWIZ = Source(
    name="vizwiz",
    title="VizWiz",
    published="vizwiz.org/tasks-and-datasets/vqa",
    licence="CC BY 4.0",
    kind="open",
    counts=Counts(20_523, 6_528, 4_266, 1_000),
    files=("Annotations/train.json", "annotations/train.json", "train.json"),
    row=row,
    pictures=("", "train", "images", "images/train"),
)
