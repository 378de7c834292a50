"""GeoQA170K: geometry with options, rephrased from GeoQA+ and Geometry3K. It goes to RL only: captions hallucinate on it.

qa_tuning.json or its parquet: {image, conversations}; the human turn is an instruction, `Question:...` and
`Choices:` with lines `A:40°`, the reply reasons and ends `Answer:A`. Pictures in images.zip. Rows have no ids.
"""

from __future__ import annotations

from seethink.core.fields import as_text, lettered
from seethink.data.sources.golds import last_answer, letter
from seethink.data.sources.source import Counts, Fields, Picture, Source, Unusable, turns


def row(record: Fields, picture: Picture) -> Fields:
    """The instruction before `Question:` is left out: how to answer is said by the trainer's prompt."""
    _, mark, asked = as_text(record["question"], "question", "").partition("Question:")
    question = asked.strip() if mark else record["question"]
    choices = lettered(question)
    if not choices:
        raise Unusable("gold", "the question has no options")
    given = last_answer(as_text(record["answer"], "answer", ""))
    return {"question": question, "gold": letter(given, choices), "given": given, "choices": list(choices)}


GEOQA170K = Source(
    name="geoqa170k",
    title="GeoQA170K",
    published="hf.co/datasets/Luckyjhg/Geo170K",
    licence="none stated",
    closed="its card states no licence",
    kind="choice",
    counts=Counts(None, None, None, 6_499),
    files=("qa_tuning.json", "data/qa_tuning-*.parquet"),
    questions=turns,
    row=row,
    rl_only=True,
)
