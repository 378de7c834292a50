"""Real questions about real pictures, where the shared folder is, and a scripted teacher that makes every kind of end.

SIMULATED: the pictures, questions and golds are real, what captioner, reasoner, rewriter and judge say is scripted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from seethink.core.images import portable
from seethink.core.nouns import Sample
from seethink.core.prompt import prompt_text
from seethink.core.store import read_json, read_jsonl
from tests.fake_api import Body, last_text

ENDS = ("plain", "aha", "plain", "wrong", "gap", "aha", "puzzle", "refusal", "plain", "cut", "aha", "filter")
"""What becomes of the questions in turn; only an open question can puzzle the judge."""
MODELS = tuple(
    word
    for role, model in (("captioner", "eye"), ("reasoner", "mind"), ("rewriter", "pen"), ("judge", "judge"))
    for word in (f"--{role}.model", f"simulated-{model}", f"--{role}.price", "[2.5, 10]")
)


def questions(shared: Path) -> list[Sample]:
    """Of six sources, of four kinds: DocVQA pages, COCO boxes, Geometry3K, MathVision, LogicVista, receipts of SROIE."""
    data, found = shared / "data", []

    def add(source: str, image: str, question: str, gold: str, kind: str, choices: Sequence[str] = (), **more) -> None:
        path = str(data / source / image)
        number = sum(s.source == source for s in found)
        found.append(Sample(f"{source}-{number}", source, (path,), question, gold, kind, tuple(choices), **more))

    for row in read_json(data / "docvqa/data.json"):
        gold, *others = row["answers"]
        add("docvqa", row["local_image"], row["question"], gold, "open", alternatives=tuple(others))
    for row in read_json(data / "coco_boxes/data.json"):
        boxes = [a["bbox_xywh"] for a in row["annotations"] if a["bbox_xywh"][2] < row["size"][0] / 2]  # no crowds
        x, y, w, h = max(boxes, key=lambda box: box[2] * box[3])
        meta = {"coords": "pixel", "image_size": row["size"]}
        question = "Where is the person who takes up most room? Give [x1, y1, x2, y2] in pixels."
        add(
            "coco_boxes",
            row["local_image"],
            question,
            json.dumps([round(v, 2) for v in (x, y, x + w, y + h)]),
            "box",
            meta=meta,
        )
    for row in read_json(data / "geometry3k_examples/data.json"):
        told = row["data.json"]
        if (data / "geometry3k_examples" / row["local_image"]).is_file():
            image = row["local_image"]
            add("geometry3k_examples", image, told["problem_text"], told["answer"], "choice", told["choices"])
    for _, row in read_jsonl(data / "mathvision/testmini.jsonl"):
        if (data / "mathvision" / row["image"]).is_file() and row["question"].count("<image") == 1:
            kind = "choice" if row["options"] else "math"
            question = row["question"].replace("<image1>", "").strip()
            add("mathvision", row["image"], question, row["answer"], kind, row["options"], licence="MIT")
        if sum(s.source == "mathvision" for s in found) == 14:
            break
    for row in read_json(data / "logicvista/dataset.json").values():
        image = f"images/{row['imagename']}"
        if (data / "logicvista" / image).is_file() and re.fullmatch("[A-E]", row["answer"]):
            add("logicvista", image, row["question"], row["answer"], "choice", licence="Apache 2.0")
        if sum(s.source == "logicvista" for s in found) == 8:
            break
    for row in read_json(data / "sroie/data.json")[:6]:
        add("sroie", f"images/{row['id']}.jpg", "What is the total of this receipt?", row["key"]["total"], "math")
    return found


def published(shared: Path, folder: Path, captions: bool) -> tuple[Path, Path]:
    """(file, images) of the five published records, with the captions they came with or without."""
    records = read_json(shared / "data/vlaa_examples/data.json")
    for record in records:
        record["caption"] = record["caption"] if captions else ""
    (folder / "data.json").write_text(json.dumps(records))
    return folder / "data.json", shared / "data/vlaa_examples"


class RealTeacher:
    """Knows pictures by their bytes, as they come with a request, and questions by picture and words."""

    def __init__(self, samples: Sequence[Sample]):
        self.ends = {}
        """(mark of the picture, question) -> (sample, what becomes of it)."""
        opens = 0
        for number, sample in enumerate(samples):
            end = ENDS[number % len(ENDS)]
            opens += sample.kind == "open"
            end = "puzzle" if sample.kind == "open" and opens % 5 == 3 else "plain" if end == "puzzle" else end
            self.ends[mark(carried(sample)), prompt_text(sample)] = sample, end
        self.seen: list[bytes] = []
        """Pictures as the captioner got them."""
        self.lost: list[str] = []
        """Prompts that are about none of the questions, or about several: there must be none."""

    def end_of(self, text: str) -> tuple[Sample, str]:
        """By the mark in the caption, where the captioner wrote it, and the question."""
        marks = re.findall(r"the mark ([0-9a-f]{8})", text)
        found = [end for (seen, words), end in self.ends.items() if words in text and (seen in marks or not marks)]
        if len(found) != 1:
            self.lost.append(text)
            return next(iter(self.ends.values()))[0], "refusal"
        return found[0]

    def fault(self, _: int, body: Body) -> str | None:
        if body["model"] == "simulated-mind":
            return {"cut": "length", "filter": "filter"}.get(self.end_of(last_text(body))[1])
        return None

    def __call__(self, body: Body) -> str:
        role, text = body["model"].removeprefix("simulated-"), last_text(body)
        if role == "eye":
            url = next(part["image_url"]["url"] for part in body["messages"][-1]["content"] if "image_url" in part)
            self.seen.append(base64.b64decode(url.partition("base64,")[2]))
            return f"A picture that carries the mark {mark(self.seen[-1])}. It shows what the question is about."
        if role == "pen":
            trace = text.split("<text>\n")[1].split("\n</text>")[0]
            longer = " And so it goes on, as anyone can see who looks at it for long enough and does not tire." * 2
            rewritten = trace.replace("The caption says", "The image shows").replace("the description", "the image")
            return rewritten + (longer if "Let me be brief" in trace else "")
        sample, end = self.end_of(text) if role == "mind" else (None, "")
        if sample is None:
            reference, answer = (
                re.search(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)[1] for tag in ("reference", "answer_to_judge")
            )
            given = answer.rpartition("Answer:")[2].strip()
            return "That is hard to tell." if "I am not sure" in answer else "Yes." if given in reference else "No."
        if end == "refusal":
            return "I'm sorry, but I can't help with that."
        return reasoned(sample, end)


def mark(picture: bytes) -> str:
    return hashlib.blake2b(picture, digest_size=4).hexdigest()


def reasoned(sample: Sample, end: str) -> str:
    """What the scripted reasoner writes; its answer is the gold, or is not."""
    picture = mark(carried(sample))
    wrong = {"choice": "B" if sample.gold == "A" else "A", "box": "[0, 0, 9, 9]", "open": "nothing of the kind"}
    answer = wrong.get(sample.kind, "-12345") if end == "wrong" else sample.gold
    aha = "Wait, let me look at that again: a hasty reading would be a mistake.\n" if end == "aha" else ""
    brief = "Let me be brief.\n" if end == "gap" else ""
    unsure = "I am not sure.\n" if end == "puzzle" else ""
    return (
        f"<think>\nThe caption says that the picture carries the mark {picture}. {brief}The question is: {sample.question}\n"
        f"{aha}According to the description, one thing answers it.\nSo that is the answer.\n</think>\n\n"
        f"{unsure}The picture answers it.\nAnswer: {answer}"
    )


def carried(sample: Sample) -> bytes:
    """The picture as it goes to an endpoint: the file, or a PNG of the same pixels where not every reader shows them."""
    return portable(sample.images[0])[0]
