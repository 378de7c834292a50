"""The tables of docs/data.md, computed: what a row may hold, which golds are good, how boxes are read, how rows are refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import KEYS, KINDS, sample_from_row
from seethink.core.preflight import check_pictures
from seethink.core.prompt import prompt_text
from seethink.core.store import read_examples
from seethink.core.tags import extract
from seethink.rewards.box import box
from seethink.rewards.check import check_gold
from seethink.rewards.config import BoxConfig, RewardConfig
from seethink.rewards.maths.decide import text_only

ROW = {"id": "1", "question": "Which colour?", "gold": "A", "kind": "choice"}
FIELDS = {
    "id": ("text or number, unique in the file", "order of the data, rollouts, scores, drops"),
    "source": ("text", "tables by source, cards"),
    "images": (
        "a path, or a list of paths, of files; relative ones start at the folder of this file, not where you are",
        "the model, before the question",
    ),
    "image": ("another name for `images`; where both stand they must be equal", "the same"),
    "question": (
        "text. `<image>` marks where a picture stands; then there are as many marks as pictures",
        "the model, word for word",
    ),
    "gold": (
        "text or number; a list means alternatives, any of which is right ([golds](#golds))",
        "rewards and `eval`; a teacher of `data` is checked by it",
    ),
    "alternatives": ("a list of further right answers; the same as a list of golds", "rewards and `eval`"),
    "kind": (
        f"{', '.join(f'`{kind}`' for kind in KINDS)} (or the paper's `mcq`, `iou`)",
        "which reward reads the gold",
    ),
    "choices": (
        "a list of option texts, or one text in which they are lettered (`A. red B. blue`)",
        "the model, as lines `A. red`, where the question does not list them itself; the reward of `choice`",
    ),
    "context": ("text that the source knows of the picture", "the captioner of `seethink data` alone"),
    "licence": ("text", "cards, `data push`"),
    "meta": (
        "an object; of boxes the [frame](#boxes-and-their-frames). Keys of a row that are not in this table end up here",
        "the reward of `box`, rewards and checkers of your own; no model",
    ),
    "completion": ("text in the [tags](#what-the-model-writes)", "sft imitates it; grpo and eval do not read it"),
}
"""Key of a row -> what may stand there, and who reads it. Whether it is needed and what stands for it otherwise is computed."""

GOLDS: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "digit": [(gold, {}) for gold in (7, "7", "-3", "1,000", "7.0", "seven", "7 apples", "3 or 4", "many", "")],
    "choice": [
        *((gold, {"choices": ["red", "blue", "black"]}) for gold in ("B", "(b)", "B.", "blue", "AC", "E", "green", 1)),
        ("B", {"question": "Which colour? A. red B. blue"}),
    ],
    "math": [
        *((g, {}) for g in (r"\frac{1}{2}", "0.5", "x = 3", "x > 2", "(1, 2)", "50%", "12 cm", r"\boxed{7}")),
        *((g, {}) for g in ("blue", r"x^2 \equiv 1 \pmod 8", r"\frac{1}{", "a + b =")),
    ],
    "box": [
        ([0.1, 0.2, 0.5, 0.6], {}),
        ("[0.1, 0.2, 0.5, 0.6]", {}),
        ([[0.1, 0.2, 0.5, 0.6], [0.7, 0.7, 0.9, 0.9]], {}),
        (["[0.1, 0.2, 0.5, 0.6]", "[0.1, 0.2, 0.5, 0.7]"], {}),
        ([64, 48, 320, 288], {"coords": "pixel", "image_size": [640, 480]}),
        ([64, 48, 320, 288], {}),
        ([64, 48, 320, 288], {"coords": "pixel"}),
        ([0.5, 0.2, 0.1, 0.6], {}),
        ([0.1, 0.2, 0.5], {}),
        ([0.1, 0.2, 0.4, 0.4], {"coords": "xywh"}),
    ],
    "open": [(gold, {}) for gold in ("a red bicycle against a wall", ["a dog", "a puppy"], "3", "", None)],
}
ANSWERS = (
    "<think>Two rows of three.</think><answer>6</answer>",
    "\n<think>Two rows\nof three.</think>\n<answer> 6 </answer><|im_end|>",
    "6",
    "<answer>6</answer>",
    "Let me see. <think>Two rows.</think><answer>6</answer>",
    "<think>Two rows.</think> So: <answer>6</answer>",
    "<think>Two rows.</think><answer>6</answer> I am sure.",
    "<think>a</think><answer>5</answer><answer>6</answer>",
    "<think>Two rows.</think><answer></answer>",
    "Two rows.</think><answer>6</answer>",
)
SIZE, RESIZED = [640, 480], [644, 476]
FRAMES = (
    ("fractions of the picture", "norm1", {}, [0.1, 0.2, 0.5, 0.6]),
    ("0 to 1000, as Qwen2-VL and Qwen3-VL write them", "norm1000", {"coords": "norm1000"}, [100, 200, 500, 600]),
    ("pixels of the picture file", "pixel", {"coords": "pixel", "image_size": SIZE}, [64, 96, 320, 288]),
    (
        "pixels of the resized picture, as Qwen2.5-VL writes them",
        "pixel",
        {"coords": "pixel", "image_size": RESIZED},
        [64.4, 95.2, 322, 285.6],
    ),
)
"""The same box of a picture of SIZE, which the model sees as RESIZED: whose frame, `coords`, what the row declares, the box."""
REFUSED: tuple[dict[str, Any], ...] = (
    {"id": None},
    {"kind": "number"},
    {"gold": None},
    {"question": "Before <image> and after <image>?"},
    {"image": "gone.png"},
    {"image": "cut.png"},
    {"image": "https://example.org/a.png"},
    {"image": "data:image/png;base64,iVBORw0KGgo="},
    {"image": None, "img_path": "a.png"},
    {"options": ["red", "blue"]},
    {"hint": "It is not red."},
    {"question": "What is <|image_pad|>?"},
)


def row_tables() -> dict[str, str]:
    """Marker of docs/data.md -> its table."""
    return {
        "fields": fields_table(),
        "answers": answers_table(),
        "golds": golds_table(),
        "frames": frames_table(),
        "refused": refused_table(),
    }


def fields_table() -> str:
    """Every key of a row."""
    rows = []
    for key in KEYS:
        what, reader = FIELDS[key]
        rows.append([f"`{key}`", needed(key), what, reader])
    return table(["key", "needed", "what may stand there", "who reads it"], rows)


def needed(key: str) -> str:
    """yes, or what a row without the key has."""
    if key == "completion":
        return "by sft"
    try:
        sample = sample_from_row({name: value for name, value in ROW.items() if name != key})
    except UserError:
        return "yes"
    value = getattr(sample, {"image": "images"}.get(key, key))
    return f"no: {json.dumps(list(value) if isinstance(value, tuple) else value)}"


def is_shown(key: str, value: Any) -> bool:
    """Whether a value of a row stands in the prompt."""
    sample = sample_from_row({**ROW, "images": ["p.png"], key: value})
    said = str(value[0] if isinstance(value, list) else value)
    return said in prompt_text(sample, mark=f"[{''.join(sample.images)}]")


def golds_table() -> str:
    """Golds of every kind, and what `reward check` says of each."""
    rows = []
    for kind, golds in GOLDS.items():
        for gold, more in golds:
            shown = ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in more.items())
            rows.append(
                [f"`{kind}`", f"`{json.dumps(gold)}`" + (f" with {shown}" if shown else ""), said_of(gold, kind, more)]
            )
    return table(["kind", "gold", "what `seethink reward check` says"], rows)


def said_of(gold: Any, kind: str, more: dict[str, Any]) -> str:
    """good, or why not."""
    try:
        sample = sample_from_row({**ROW, "kind": kind, "gold": gold, **more})
    except UserError as error:
        return f"**bad**: {error.what}"
    if problem := check_gold(sample):
        return f"**bad**: {problem}"
    literal = kind == "math" and text_only(list(sample.golds), RewardConfig())
    return "good, but can only be compared as text; any other text is wrong" if literal else "good"


def answers_table() -> str:
    """Completions, and what is read from each."""
    rows = []
    for text in ANSWERS:
        found = [extract(text, mode) for mode in ("strict", "prefilled", "lenient")]
        rows.append([f"`{json.dumps(text)}`", *(f"**{p.answer}**" if p.answer else f"`{p.status}`" for p in found)])
    return table(["the model wrote", "strict", "prefilled", "lenient"], rows)


def frames_table() -> str:
    """The same box in every frame, with what an answer in it earns against the gold in fractions."""
    rows = []
    gold = json.dumps(FRAMES[0][3])
    for whose, coords, declared, numbers in FRAMES:
        answer = box(gold, json.dumps(numbers), {**declared, "gold_coords": "norm1"}, BoxConfig()).value
        row = json.dumps(declared)[1:-1] or '"coords": "norm1"'
        rows.append([whose, f"`{coords}`", f"`{row}`", f"`{json.dumps(numbers)}`", f"{answer:.3f}"])
    return table(["numbers are", "`coords`", "in the row", "the box", "overlap with the gold"], rows)


def refused_table() -> str:
    """What is wrong with a row -> what is said of it."""
    rows = []
    for changes, said in refusals():
        rows.append([f"`{json.dumps(changes)[1:-1]}`", said])
    return table(["in a row that is sound otherwise", "what is said"], rows)


def refusals() -> list[tuple[dict[str, Any], str]]:
    """Each change of a sound row, and the message without its place."""
    sound = {"id": "1", "image": "a.png", "question": "Which colour?", "gold": "A", "kind": "choice"}
    with tempfile.TemporaryDirectory() as folder:
        file, found = Path(folder) / "rows.jsonl", []
        Image.effect_noise((32, 32), 50).save(file.with_name("a.png"))
        file.with_name("cut.png").write_bytes(file.with_name("a.png").read_bytes()[:-200])
        for changes in REFUSED:
            row = {key: value for key, value in {**sound, **changes}.items() if value is not None}
            file.write_text(json.dumps({**sound, "id": "0", "gold": "B"}) + "\n" + json.dumps(row), encoding="utf-8")
            rows, _ = check_pictures(list(read_examples(file)))
            fault = rows[1].read
            assert isinstance(fault, UserError), changes
            found.append((changes, f"{fault.what}. {fault.remedy}".replace(f"{folder}/", "")))
    return found


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown; a bar in a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )
