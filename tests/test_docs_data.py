"""docs/data.md: its tables are those of the code, its lines bring parquet, ShareGPT and JSONL to a GRPO step with their pictures."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import datasets
import pytest
from PIL import Image, ImageDraw

import seethink
from seethink.cli import VERBS, load, main, split_verb
from seethink.core.config import resolve
from seethink.core.nouns import KEYS
from seethink.core.run import read_log
from seethink.core.store import load_samples, read_jsonl, write_jsonl
from seethink.core.tables import read_table
from seethink.data.imports.layouts import FORMATS
from seethink.train.model.policy import encode_prompt
from tests.tiny import plain_policy

ROOT = Path(__file__).parents[1]
BASE = Path(seethink.__file__).parent / "pocket" / "base"
sys.path.insert(0, str(ROOT / "docs"))
TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
LINES = re.findall(r"(?m)^seethink .*$", TEXT) + re.findall(r"\| `(seethink import [^`]+)` \|", TEXT)
IMPORTS = {source: line for line in LINES if (source := line.partition("--source ")[2].partition(" ")[0])}
COUNTS = [1 + n % 5 for n in range(10)]


def test_the_tables_are_those_of_the_code():
    from row_tables import row_tables

    for name, table in row_tables().items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in TEXT, "render it: python docs/render.py"


def test_every_key_is_there_and_what_reaches_the_model_is_said():
    from row_tables import FIELDS, is_shown

    values = {"images": ["mark.png"], "image": "mark.png", "choices": ["mark", "other"], "meta": {"mark": "mark"}}
    assert tuple(FIELDS) == KEYS
    told = {key: reader.startswith("the model") or key == "image" for key, (_, reader) in FIELDS.items()}
    for key in set(KEYS) - {"kind", "completion"}:
        value = values.get(key, "mark")
        shown = is_shown(key, value) if key != "image" else is_shown("images", [value])
        assert shown == told[key], key


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_understood(line):
    verb, arguments = split_verb(shlex.split(line, comments=True)[1:])
    dry = [word for word in arguments if word != "--dry-run"]
    config = resolve(load(VERBS[verb][0]), dry)
    assert verb != "import" or config.format in FORMATS


def test_the_size_that_a_model_sees_is_computed_as_the_page_says():
    from row_tables import RESIZED, SIZE

    (source,) = re.findall(r"(?s)```python\n(.*?)```", TEXT)
    found: dict = {}
    exec(re.sub(r"(?m)^ +", "", source), found)
    assert [found["width"], found["height"]] == RESIZED and f"smart_resize({SIZE[1]}, {SIZE[0]}," in source


def drawn(count: int) -> Image.Image:
    picture = Image.new("RGB", (96, 72), "white")
    for n in range(count):
        ImageDraw.Draw(picture).ellipse((4 + 15 * n, 20, 14 + 15 * n, 30 + count), fill="red")
    return picture


def parquet(folder: Path) -> None:
    """As `datasets` writes it: the picture a struct of bytes and path."""
    features = {"image": datasets.Image(), "problem": datasets.Value("string"), "solution": datasets.Value("int64")}
    columns = {
        "image": [drawn(n) for n in COUNTS],
        "problem": ["How many red things?"] * len(COUNTS),
        "solution": COUNTS,
    }
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(folder / "train.parquet")


def sharegpt(folder: Path) -> None:
    pictures(folder)
    rows = [
        {
            "conversations": [
                {"from": "human", "value": "<image>How many red things?"},
                {"from": "gpt", "value": f"<think>I count {n}.</think>\n<answer>{n}</answer>" if n > 2 else str(n)},
            ],
            **({"images": [f"{at}.png"]} if at % 2 else {"image": f"{at}.png"}),
        }
        for at, n in enumerate(COUNTS)
    ]
    (folder / "chat.json").write_text(json.dumps(rows, indent=1))


def plain(folder: Path) -> None:
    pictures(folder)
    rows = (
        {"prompt_text": "How many red things?", "label_text": n, "photo": f"{at}.png"} for at, n in enumerate(COUNTS)
    )
    write_jsonl(folder / "plain.jsonl", rows)


def pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    for at, n in enumerate(COUNTS):
        drawn(n).save(folder / "pictures" / f"{at}.png")


GRPO = (
    "--model.path", str(BASE), "--model.dtype", "float32", "--rounds", "1", "--prompts", "10", "--update_prompts", "10",
    "--group", "2", "--max_tokens", "12", "--out", "run",
)  # fmt: skip


@pytest.mark.parametrize("make", [parquet, sharegpt, plain])
def test_a_line_and_a_step_with_every_picture_and_every_gold(make, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    name = {parquet: "train.parquet", sharegpt: "chat.json", plain: "plain.jsonl"}[make]
    assert main(["grpo", "--data", name, *GRPO]) == 2  # not as it is, and what to do instead
    format = {parquet: "parquet", sharegpt: "sharegpt", plain: "hf"}[make]
    assert f"seethink import --format {format} --source {name}" in capsys.readouterr().err
    assert main(shlex.split(IMPORTS[name])[1:]) == 0
    samples = load_samples(tmp_path / "rows.jsonl")
    assert [s.gold for s in samples] == [str(n) for n in COUNTS] and {s.kind for s in samples} == {"digit"}
    assert {s.question for s in samples} == {"How many red things?"}
    for sample, count in zip(samples, COUNTS, strict=True):
        with Image.open(sample.images[0]) as image:
            assert len(sample.images) == 1 and image.tobytes() == drawn(count).tobytes()
    assert main(["reward", "check", "rows.jsonl"]) == 0
    assert main(["grpo", "--data", "rows.jsonl", *GRPO]) == 0
    policy = plain_policy(BASE, (BASE / "system.txt").read_text().strip())
    prompts = [encode_prompt(policy, sample) for sample in samples]
    shown = sum(int((prompt.ids == policy.image_token).sum()) for prompt in prompts)
    assert shown == sum(int(prompt.grids.prod(1).sum()) // 4 for prompt in prompts) > 0
    (log,) = read_log(tmp_path / "run" / "metrics.jsonl")
    assert log["tokens/prompt"] == sum(len(prompt.ids) for prompt in prompts)  # image tokens among them
    rollouts = read_table(tmp_path / "run" / "rollouts.parquet")
    assert {row["sample_id"] for row in rollouts} == {s.id for s in samples} and len(rollouts) == 20
    assert all(row["reward"] is not None for row in rollouts), "every gold can be judged by"
    if make is sharegpt:
        rows = [row for _, row in read_jsonl(tmp_path / "rows.jsonl")]
        assert [row.get("completion", "")[:7] == "<think>" for row in rows] == [n > 2 for n in COUNTS]
