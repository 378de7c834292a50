"""Data sent to a Hub that is pretended: what arrives loads, and its card says what it is, from where and under which licences."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import load_examples, load_samples, read_json, save_examples, save_samples, write_jsonl
from seethink.data import curate, split
from seethink.data.card import card, licence_id, read_sets
from seethink.data.config import CurateConfig, DataPushConfig, ImportConfig, SplitConfig
from seethink.data.imports.run import run as import_rows
from seethink.data.pipeline import run as run_data
from seethink.data.push import run
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import settings

pytest.importorskip("huggingface_hub")
ALLOWED = ("docvqa", "geoqa170k")


class FakeHub:
    """A Hub in a folder. `lfs`: tables are taken before the commit, as the real one does; else with it."""

    def __init__(self, folder: Path, lfs: bool = True):
        self.folder, self.lfs, self.calls = folder, lfs, []

    def create_repo(self, repo, repo_type, private, exist_ok):
        self.calls.append(("repo", repo, repo_type, private))
        self.folder.mkdir(exist_ok=exist_ok)

    def list_repo_files(self, repo, repo_type):
        return [str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file()]

    def preupload_lfs_files(self, repo, additions, repo_type):
        for part in additions if self.lfs else ():
            self._take(part)
            part.path_or_fileobj = b""

    def create_commit(self, repo, operations, repo_type, commit_message):
        self.calls.append(("commit", len(operations)))
        for part in operations:
            if not hasattr(part, "path_or_fileobj"):
                (self.folder / part.path_in_repo).unlink()
            elif part.path_or_fileobj != b"":
                self._take(part)

    def _take(self, part):
        with part.as_file() as file:
            data = file.read()
        path = self.folder / part.path_in_repo
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of a data run over four of the nine sources."""
    folder = tmp_path_factory.mktemp("data")
    with FakeApi(teacher) as api:
        run_data(settings(make_samples(folder, 60), folder / "run", api.base_url))
    return folder / "run"


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    there = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: there)
    return there


def push(data, **more):
    run(DataPushConfig(data=data, repo="me/own", **{"allow": ALLOWED, **more}))


@pytest.mark.parametrize("lfs", [True, False])
def test_what_was_sent_loads_and_comes_back_equal(data, fake_hub, tmp_path, monkeypatch, lfs):
    """As two tables and more, read by `datasets` through the card's head, and by our own import."""
    datasets = pytest.importorskip("datasets")
    fake_hub.lfs = lfs
    monkeypatch.setattr("seethink.data.push.TABLE_BYTES", 400)
    push(data)
    assert fake_hub.calls[0] == ("repo", "me/own", "dataset", True)
    examples, samples = load_examples(data / "sft.jsonl"), load_samples(data / "rl.jsonl")
    assert len(list((fake_hub.folder / "sft").iterdir())) > 1
    for name, ours in (("sft", [e.sample for e in examples]), ("rl", samples)):
        rows = datasets.load_dataset(str(fake_hub.folder), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert [row["id"] for row in rows] == [sample.id for sample in ours]
        assert [row["images"][0].size for row in rows] == [(8, 8)] * len(ours)
        import_rows(ImportConfig(format="hf", source=fake_hub.folder / name, out=tmp_path / f"{name}.jsonl"))
        back = load_samples(tmp_path / f"{name}.jsonl")
        held = [[Path(image).read_bytes() for image in sample.images] for sample in back]
        assert held == [[Path(image).read_bytes() for image in sample.images] for sample in ours]
        assert [replace(sample, images=()) for sample in back] == [replace(sample, images=()) for sample in ours]
    assert load_examples(tmp_path / "sft.jsonl")[0].completion == examples[0].completion


def test_tables_of_an_earlier_call_are_removed_and_nothing_else(data, fake_hub, monkeypatch):
    monkeypatch.setattr("seethink.data.push.TABLE_BYTES", 400)
    push(data)
    (fake_hub.folder / "sft" / "notes.md").write_text("mine")
    (fake_hub.folder / "other").mkdir()
    (fake_hub.folder / "other" / "train-00000-of-00001.parquet").write_text("mine")
    monkeypatch.setattr("seethink.data.push.TABLE_BYTES", 1 << 30)
    push(data, public=True)
    left = sorted(fake_hub.list_repo_files("", ""))
    assert left == [
        "README.md", "other/train-00000-of-00001.parquet", "rl/train-00000-of-00001.parquet", "sft/notes.md",
        "sft/train-00000-of-00001.parquet",
    ]  # fmt: skip
    assert fake_hub.calls[-2] == ("repo", "me/own", "dataset", False)


def test_a_card_says_what_the_run_folder_says(data):
    """Every count is held against the files; the head against huggingface_hub's own reader."""
    from huggingface_hub import DatasetCard

    facts = read_sets(data)
    text = card(facts, "me/own")
    assert (data / "card.md").read_text() == card(facts)
    head = DatasetCard(text).data
    assert head["license"] == "other" and head["size_categories"] == ["n<1K"]
    assert head["license_name"].startswith("cc-by-4.0, cc-by-sa-4.0, terms of the challenge") and head[
        "license_name"
    ].endswith(", unknown")
    assert [config["config_name"] for config in head["configs"]] == ["sft", "rl"]
    rows = {row[0]: row[1:] for row in cells(text, "## Sources")}
    sft, rl = load_examples(data / "sft.jsonl"), load_samples(data / "rl.jsonl")
    for source, paper in (("clevr_math", ("5,923", "2,000")), ("geoqa170k", ("-", "6,499"))):
        counts = sum(e.sample.source == source for e in sft), sum(s.source == source for s in rl)
        assert (rows[source][:2], rows[source][2:4]) == ([str(n) for n in counts], list(paper))
    assert rows["arxivqa"][5] == "CC BY-SA 4.0" and rows["arxivqa"][6] == "hf.co/datasets/MMInstruction/ArxivQA"
    funnel = [
        [r["source"], r["step"], str(r["in"]), ", ".join(f"{w} {n}" for w, n in r["dropped"].items()), str(r["out"])]
        for r in read_json(data / "funnel.json")
    ]
    assert cells(text, "## Who left") == funnel
    models = {row[0]: row[1:3] for row in cells(text, "## How it was made")}
    assert models == {
        "caption": ["captioner", "captioner-0001"], "distill": ["reasoner", "reasoner-0001"],
        "rewrite": ["rewriter", "rewriter-0001"], "verify": ["judge", "judge-0001"],
    }  # fmt: skip
    assert len(re.findall(r"(?:caption|distill|rewrite|verify)(?:_context)? [0-9a-f]{16}", text)) == 6
    assert "Split by cues paper" in text and str(data.parent) not in text


def cells(text: str, heading: str) -> list[list[str]]:
    """The first table below a heading, without its first two lines, escapes undone."""
    lines = text.split(heading)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| "))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return table


def test_a_curated_or_split_set_names_what_it_was_made_of(data, tmp_path):
    curate.run(CurateConfig(data=data / "traces.jsonl", keep=("unhesitating",), out=tmp_path / "curated"))
    split.run(SplitConfig(traces=data / "traces.jsonl", preset="strict", out=tmp_path / "split"))
    for name, verb in (("curated", "curate"), ("split", "split")):
        text = (tmp_path / name / "card.md").read_text()
        assert f"`seethink {verb}` of" in text and "`seethink data` of" in text and "reasoner-0001" in text
        assert str(tmp_path) not in text and str(data) not in text
    shutil.copytree(data.parent, tmp_path / "moved")
    traces = tmp_path / "moved" / data.name / "traces.jsonl"
    curate.run(CurateConfig(data=traces, out=tmp_path / "second"))
    with open(traces, "a") as file:  # no longer what the rows were taken from
        file.write("\n")
    assert [manifest["verb"] for _, manifest in read_sets(tmp_path / "second").runs] == ["curate"]


@pytest.mark.parametrize(
    ("licences", "license", "name"),
    [
        (["CC BY 4.0", "cc-by-4.0"], "cc-by-4.0", None),
        (["Apache 2.0"], "apache-2.0", None),
        (["", ""], "unknown", None),
        (["MIT", ""], "other", "mit, unknown"),
        (["my own: ask me"], "other", "my own: ask me"),
    ],
)
def test_licences_of_rows_are_combined_and_never_guessed(tmp_path, licences, license, name):
    from huggingface_hub import DatasetCard

    rows = [Sample(str(n), "mine", (), "?", "3", "digit", licence=text) for n, text in enumerate(licences)]
    save_samples(tmp_path / "rows.jsonl", rows)
    head = DatasetCard(card(read_sets(tmp_path / "rows.jsonl"))).data
    assert (head["license"], head.get("license_name")) == (license, name)


def test_every_declared_licence_is_known_to_the_hub_or_closed():
    from seethink.data.sources import SOURCES

    closed = {source.name for source in SOURCES.values() if source.closed}
    assert closed == {*ALLOWED}
    assert closed == {source.name for source in SOURCES.values() if licence_id(source.licence) in ("", "unknown")}


def test_what_others_wrote_cannot_shape_a_card(tmp_path):
    source = "x|y\n---\nlicense: mit\n<script>[a](b)`"
    save_samples(tmp_path / "rows.jsonl", [Sample("1", source, (), "?", "3", "digit", licence="a\n---\nb: c")])
    text = card(read_sets(tmp_path / "rows.jsonl"))
    assert text.count("\n---\n") == 1 and "<script>" not in text and "\nb: c" not in text
    assert [row[0] for row in cells(text, "## Sources")] == ["x|y --- license: mit &lt;script&gt;[a](b)`"]


def test_sources_that_nobody_may_pass_on_are_named_first(data, fake_hub, capsys):
    call = ["data", "push", "--data", str(data), "--repo", "me/own"]
    assert main(call) == 2 and not fake_hub.calls
    said = capsys.readouterr().err
    assert "docvqa: the challenge hands it out itself" in said and "--allow docvqa geoqa170k" in said
    assert main([*call, "--allow", "docvqa"]) == 2 and "(geoqa170k: " in capsys.readouterr().err
    assert main([*call, "--allow", "docvq"]) == 2 and "--allow docvq: no row is of it" in capsys.readouterr().err
    assert (
        main(["push", "--run", str(data), "--repo", "me/own"]) == 2 and "seethink data push" in capsys.readouterr().err
    )
    assert main([*call, "--allow", *ALLOWED, "--dry-run"]) == 0 and not fake_hub.calls
    said = capsys.readouterr().out
    assert (
        "sft/train-00000-of-00001.parquet" in said
        and "license: other" in said
        and "2 tables to me/own (private)" in said
    )


def test_what_cannot_be_sent_is_named(tmp_path, data, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.jsonl").write_text("")
    write_jsonl(tmp_path / "bad.jsonl", [{"id": "a", "question": "?", "gold": "3"}])
    shutil.copytree(data, tmp_path / "cut")
    (tmp_path / "cut" / "done.json").unlink()
    for name, what in [
        ("empty", "no data here"), ("gone", "no data here"), ("none.jsonl", "no rows"), ("bad.jsonl", "bad.jsonl:1: row has no"),
        ("cut", "has not finished"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=what):
            push(tmp_path / name, allow=() if name != "cut" else ALLOWED)
    with pytest.raises(UserError, match="'own' is no name on the Hub"):
        run(DataPushConfig(data=data, repo="own", allow=ALLOWED))


def test_a_hub_that_cannot_be_reached_is_said_and_no_key_shown(data, monkeypatch, capsys):
    """The real client, at an address where nobody listens."""
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    from huggingface_hub import HfApi

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9", token="hf_canary"))
    assert main(["data", "push", "--data", str(data), "--repo", "me/own", "--allow", *ALLOWED]) == 1
    said = capsys.readouterr()
    assert "the Hub refuses it" in said.err and "hf_canary" not in said.out + said.err


@pytest.mark.parametrize("format", ["verl", "easyr1"])
def test_other_layouts_are_sent_too(tmp_path, fake_hub, format, capsys):
    datasets = pytest.importorskip("datasets")
    save_examples(tmp_path / "own.jsonl", [Example(Sample("1", "mine", (), "How many?", "3", "digit"), "")])
    push(tmp_path / "own.jsonl", format=format, allow=())
    assert "licence unknown: mine" in capsys.readouterr().err
    (row,) = datasets.load_dataset(str(fake_hub.folder), "own", split="train", cache_dir=str(tmp_path / "cache"))
    told = row["extra_info"] if format == "verl" else json.loads(row["answer"])
    assert told["solution"] == "3"
