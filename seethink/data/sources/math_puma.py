"""Math-PUMA, its synthetic part: functions, plane and solid geometry drawn by program, with worked solutions.

Synthesis/train.json, pictures in Synthesis/images.tar.gz. The keys are those that its training code reads: image_url,
instruction, output, and the same with `_2` for the other variant of the problem. One variant tells in words what the other
leaves to the picture; the shorter is the question, the longer its context.
"""

from __future__ import annotations

from seethink.core.fields import as_text
from seethink.data.sources.golds import whole_answer
from seethink.data.sources.source import Counts, Fields, Picture, Source


def variants(record: Fields) -> list[tuple[str, str, str]]:
    """(instruction, output, picture) of both variants, the one that says least first."""
    found = [(record["instruction"], record["output"], record.get("image_url") or "")]
    if record.get("instruction_2"):
        found.append((record["instruction_2"], record.get("output_2") or found[0][1], record.get("image_url_2") or ""))
    return sorted(((as_text(i, "instruction", ""), as_text(o, "output", ""), str(p)) for i, o, p in found), key=_length)


def row(record: Fields, picture: Picture) -> Fields:
    """The solution's last answer, or the function that it solves for."""
    (question, solution, _), *others = variants(record)
    context = next((text for text, _, _ in others if text != question), "")
    gold = whole_answer(solution, question, context)
    return {"question": question, "gold": gold, "given": solution, "context": context}


def image(record: Fields) -> str:
    """The picture of the shorter variant, or the only one."""
    return next((path for _, _, path in variants(record) if path), "")


def _length(variant: tuple[str, str, str]) -> int:
    return len(variant[0])


MATH_PUMA = Source(
    name="math_puma",
    title="Math-PUMA (synthesis)",
    published="hf.co/datasets/Math-PUMA/Math-PUMA_Data_Stage2",
    licence="GPL 3.0",
    kind="math",
    counts=Counts(30_000, 26_672, 19_258, 6_696),
    files=("Synthesis/train.json", "train.json", "Synthesis/train.jsonl", "train.jsonl"),
    row=row,
    image=image,
    pictures=("", "Synthesis", "images", "Synthesis/images"),
    prefix="synthesis",
)
