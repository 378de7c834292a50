"""ALLaVA-LAION: long questions and answers about pictures of the web, by GPT-4V, with captions of its own.

allava_laion/ALLaVA-Instruct-LAION-4V.json: {id, image, conversations, url}; ALLaVA-Caption-LAION-4V.json has the same pictures, with
a caption as the reply. Pictures are unpacked into allava_laion/images.
"""

from __future__ import annotations

from seethink.core.fields import as_text
from seethink.data.sources.source import Counts, Fields, Picture, Source, turns


def row(record: Fields, picture: Picture) -> Fields:
    """The reply is the reference of an open question; the caption saves asking for one."""
    meta = {"url": record["url"]} if record.get("url") else {}
    gold = as_text(record["answer"], "answer", "").strip()
    return {"question": record["question"], "gold": gold, "given": gold, "context": picture.context, "meta": meta}


def caption(record: Fields) -> tuple[str, str]:
    """The picture's caption."""
    return record["image"], as_text(turns(record)[0]["answer"], "caption", "")


ALLAVA_LAION = Source(
    name="allava_laion",
    title="ALLaVA-LAION",
    published="hf.co/datasets/FreedomIntelligence/ALLaVA-4V",
    licence="CC BY-NC 4.0",
    kind="open",
    counts=Counts(47_066, 18_123, 10_496, 3_000),
    files=("allava_laion/ALLaVA-Instruct-LAION-4V.json", "ALLaVA-Instruct-LAION-4V.json"),
    id_key="id",
    questions=turns,
    row=row,
    context_files=("allava_laion/ALLaVA-Caption-LAION-4V.json", "ALLaVA-Caption-LAION-4V.json"),
    context=caption,
    prefix="allava",
)
