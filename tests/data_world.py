"""Samples and a scripted teacher for the tests of the data pipeline."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from seethink.core.nouns import Sample
from seethink.core.store import save_samples
from tests.fake_api import Body, last_text

SOURCES = ("clevr_math", "arxivqa", "docvqa", "geoqa170k")


def make_samples(folder: Path, count: int) -> Path:
    """samples.jsonl: item n asks for n + 1; `docvqa` asks openly, `arxivqa` and `geoqa170k` give two options."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples = []
    for n in range(count):
        source = SOURCES[n % len(SOURCES)]
        image = folder / "images" / f"{n}.png"
        Image.new("RGB", (8, 8), (n % 256, n // 256, 7)).save(image)
        kind = {"arxivqa": "choice", "docvqa": "open", "geoqa170k": "choice"}.get(source, "digit")
        question = f"What is {n} plus one? (item {n})"
        gold = {"choice": "B", "open": f"the number {n + 1}"}.get(kind, str(n + 1))
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
    wrong = n % 10 == 2
    answer = {"arxivqa": "A" if wrong else "B", "docvqa": f"the number {n + 5 if wrong else n + 1}"}.get(
        SOURCES[n % len(SOURCES)], str(n + 5 if wrong else n + 1)
    )
    hesitation = "Wait, let me check. " if n % 10 in (5, 6) else ""
    think = f"<think>\nFor item {n} the caption says a number. {hesitation}I add one.\n</think>\n\n"
    return f"{'' if n % 10 == 1 else think}So it is.\nAnswer: {answer}"
