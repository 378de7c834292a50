"""CLEVR-Math: counting after adding and removing objects, on rendered scenes.

clevr-math.zip holds clevr-math-train.json, {"questions": [{question, answer, image_filename, split, template_filename}]};
pictures and scenes are those of CLEVR_v1.0.zip, images/train and scenes/CLEVR_train_scenes.json.
"""

from __future__ import annotations

from seethink.core.fields import as_text
from seethink.data.sources.golds import count
from seethink.data.sources.source import Counts, Fields, Picture, Source


def row(record: Fields, picture: Picture) -> Fields:
    """The answer is a number, up to ten."""
    meta = {"template": str(record.get("template_filename", "")).removesuffix(".json")}
    gold, given = count(record["answer"]), record["answer"]
    return {"question": record["question"], "gold": gold, "given": given, "context": picture.context, "meta": meta}


def scene(record: Fields) -> tuple[str, str]:
    """What was rendered, object by object: the text that goes to the captioner beside the picture."""
    objects = [" ".join(str(o[part]) for part in ("size", "color", "material", "shape")) for o in record["objects"]]
    return record["image_filename"], f"Objects: {', '.join(objects)}."


CLEVR_MATH = Source(
    name="clevr_math",
    title="CLEVR-Math",
    published="hf.co/datasets/dali-does/clevr-math",
    licence="CC BY 4.0 (its loading script: CC BY-SA 4.0)",
    kind="digit",
    counts=Counts(35_000, 28_018, 5_923, 2_000),
    files=("clevr-math-train.json", "**/clevr-math-train.json"),
    key="questions",
    row=row,
    image=lambda record: as_text(record["image_filename"], "image_filename", ""),
    pictures=("", "images/train", "CLEVR_v1.0/images/train"),
    context_files=("scenes/CLEVR_train_scenes.json", "**/CLEVR_train_scenes.json"),
    context_key="scenes",
    context=scene,
)
