"""Samples and a scripted teacher for the tests of the data pipeline."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from seethink.core.store import save_samples
from seethink.core.types import Sample
from tests.fake_api import Body, last_text

SOURCES = ("clevr_math", "arxivqa", "docvqa", "geoqa170k")


def make_samples(folder: Path, count: int) -> Path:
    """samples.jsonl: item n asks for n + 1; even items of `docvqa` are open questions, `arxivqa` is multiple choice."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples = []
    for n in range(count):
        source = SOURCES[n % len(SOURCES)]
        image = folder / "images" / f"{n}.png"
        Image.new("RGB", (8, 8), (n % 256, n // 256, 7)).save(image)
        kind = {"arxivqa": "choice", "docvqa": "open", "geoqa170k": "choice"}.get(source, "digit")
        question = f"What is {n} plus one? (item {n})"
        gold = "B" if kind == "choice" else str(n + 1)
        choices = (str(n), str(n + 1)) if kind == "choice" else ()
        samples.append(Sample(f"item-{n}", source, (str(image),), question, gold, kind, choices))
    save_samples(folder / "samples.jsonl", samples)
    return folder / "samples.jsonl"


def teacher(body: Body) -> str:
    """Captioner, reasoner, rewriter and judge by model name. Every answer depends on the item alone.

    Of ten items in a row: 1 gives an answer without thinking tags, 2 a wrong answer, 3 is rewritten far too long,
    4 puzzles the judge, 5 and 6 hesitate; the others are plain.
    """
    text = last_text(body)
    if body["model"] == "captioner":
        return "A picture with a number."
    if body["model"] == "rewriter":
        trace = text.split("<text>\n")[1].split("\n</text>")[0]
        n = int(re.search(r"item (\d+)", trace)[1])
        return trace.replace("the caption says", "the image shows") + (" and so on" * 10 if n % 10 == 3 else "")
    n = int(re.search(r"item (\d+)", text)[1])
    if body["model"] == "judge":
        if n % 10 == 4:
            return "Well, it depends."
        reference = text.split("<reference>\n")[1].split("\n</reference>")[0]
        return "Yes." if f"Answer: {reference}" in text else "No"
    answer = n + 1 if n % 10 != 2 else n + 5
    if "arxivqa" in SOURCES[n % len(SOURCES)]:
        answer = "B" if n % 10 != 2 else "A"
    hesitation = "Wait, let me check. " if n % 10 in (5, 6) else ""
    think = f"For item {n} the caption says a number. {hesitation}I add one."
    return (
        f"So it is.\nAnswer: {answer}" if n % 10 == 1 else f"<think>\n{think}\n</think>\n\nSo it is.\nAnswer: {answer}"
    )
