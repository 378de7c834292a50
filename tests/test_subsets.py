"""docs/subsets.md: each of its commands is run as it stands, one after the other, at a thousandth of its sizes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from seethink import cli
from seethink.core.config import load_file
from seethink.core.nouns import Sample
from seethink.core.shipped import SHIPPED
from seethink.core.store import load_examples, load_samples, read_jsonl, save_samples
from seethink.data.sources.table import NINE
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi, last_text

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "subsets.md").read_text(encoding="utf-8")
COMMANDS = [line for line in PAGE.split("```")[1].splitlines() if line.startswith("seethink ")]


def by_default_models(body):
    """The scripted teacher under the names that the settings give to its roles."""
    role = {"gpt-4o": "captioner", "deepseek-reasoner": "reasoner"}.get(body["model"])
    return teacher({**body, "model": role or ("rewriter" if "<text>" in last_text(body) else "judge")})


def test_the_papers_split_has_the_papers_counts():
    settings = load_file(SHIPPED / "paper" / "split.toml")
    assert settings["rl_caps"] == {source.name: source.counts.rl for source in NINE}
    assert settings["rl_only"] == [source.name for source in NINE if source.rl_only]


@pytest.mark.slow
@pytest.mark.long
def test_every_command_of_the_page_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_samples(tmp_path, 180)
    picture = str(tmp_path / "images" / "8.png")
    save_samples(tmp_path / "board.jsonl", [Sample("7", "", (picture,), "What is 8 plus one? (item 8)", "9", "digit")])
    models = set(re.findall(r"Qwen[\w.-]+", " ".join(COMMANDS)))
    for model in models:
        (tmp_path / model).symlink_to(ROOT / "seethink" / "pocket" / "base")
    with FakeApi(by_default_models) as api:
        for command in COMMANDS:
            small = command.replace("http://127.0.0.1:8000/v1", "URL")
            small = re.sub(r"(\d+)000\b", r"\1", small).replace("URL", api.base_url)
            small += " --sizes 25 10 5" if " select " in small else ""  # which the settings of the paper hold
            small += " --max_tokens 40 --limit 24" if " eval " in small else ""
            assert cli.main(shlex.split(small)[1:]) == 0, small
    rows = {p.parent.name: [row for _, row in read_jsonl(p)] for p in tmp_path.rglob("selected.jsonl")}
    traces = [row for _, row in read_jsonl(Path("runs/data/traces.jsonl"))]
    told = {row["id"]: row for row in traces if row["think"]}
    assert len(traces) == 100
    sft, rl = load_examples(Path("runs/split/sft.jsonl")), load_samples(Path("runs/split/rl.jsonl"))
    assert {e.sample.id for e in sft} == {name for name, row in told.items() if not row["cues"]["paper"]}
    assert not {e.sample.id for e in sft} & {s.id for s in rl} and "geoqa170k" in {s.source for s in rl}
    assert [row["id"] for row in rows["no-aha"]] == [e.sample.id for e in sft]
    assert {row["id"] for row in rows["aha"]} == told.keys() - {e.sample.id for e in sft}
    nested = [{e.sample.id for e in load_examples(Path(f"runs/select/highest-{n}.jsonl"))} for n in (25, 10, 5)]
    assert [len(part) for part in nested] == [25, 10, 5] and nested[2] < nested[1] < nested[0]
    assert len(rows["curated"]) == len(rows["drawn"]) == 5 and "Wait" not in str(rows["curated"])
    assert len({row["kind"] for row in rows["balanced"]}) == 3 and len(rows["balanced"]) % 3 == 0
    assert {row["meta"]["difficulty_draws"] for row in rows["difficulty"][24:]} == {0} and len(
        rows["difficulty"]
    ) == len(rl)
    assert {row["meta"]["difficulty"] for row in rows["difficulty"][24:]} == {None}
    assert all(0.1 <= row["meta"]["difficulty"] <= 0.9 for row in rows["learnable"])
    assert len(rows["clean"]) == len(told) - ("item-8" in told)
