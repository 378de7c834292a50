"""LLaVA-CoT, rows on COCO pictures: some ask for a box or show one, most are plain questions.

train.jsonl: {id, image, conversations}, `image` below coco/; a reply has SUMMARY, CAPTION, REASONING and CONCLUSION in tags, and the
conclusion is the answer. Boxes are fractions of the picture, `[x1, y1, x2, y2]`.
"""

from __future__ import annotations

import re

from seethink.core.fields import as_text
from seethink.data.sources.golds import one_box, out_of_square
from seethink.data.sources.source import Counts, Fields, Picture, Source, Unusable, named, turns

_CONCLUSION = re.compile(r"<CONCLUSION>(.*?)(?:</CONCLUSION>|$)", re.DOTALL)


def below(folder: str, frame: str, sft: int) -> Source:
    """The rows of LLaVA-CoT whose pictures are in this folder, boxes brought from that frame to fractions of the picture."""

    def questions(record: Fields) -> list[Fields]:
        return turns(record) if named(record).lstrip("/").startswith(f"{folder}/") else []

    def row(record: Fields, picture: Picture) -> Fields:
        """A conclusion with a box is one; any other is a reference text."""
        reply = as_text(record["answer"], "answer", "")
        concluded = _CONCLUSION.findall(reply)
        given = (concluded[-1] if concluded else reply).strip()
        if not given:
            raise Unusable("gold", "an empty conclusion")
        question, said = as_text(record["question"], "question", ""), given
        if frame == "square":
            question, said = out_of_square(question, picture), out_of_square(said, picture)
        box = one_box(said)
        if box:
            return {"question": question, "gold": box, "given": given, "meta": {"coords": "norm1"}}
        return {"question": question, "gold": said, "given": given, "kind": "open"}

    return Source(
        name=folder,
        title=f"LLaVA-CoT {folder.upper()}",
        published="hf.co/datasets/Xkev/LLaVA-CoT-100k",
        licence="Apache 2.0",
        kind="box",
        counts=Counts(3_000, 3_000, sft, 2_000),
        files=("train.jsonl",),
        questions=questions,
        row=row,
        pictures=("", "image", "images"),
        frame=frame,
    )


COCO = below("coco", frame="norm1", sft=8_727)
