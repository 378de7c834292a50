"""A data run in parts on several machines: merged, it is byte for byte the run of one."""

import json
import sqlite3
from collections import Counter

import pytest
from PIL import Image

from seethink.ask import client as asking
from seethink.cli import main
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.store import load_samples, read_json, read_jsonl, save_samples
from seethink.data.config import MergeConfig
from seethink.data.parts import in_shard
from seethink.data.pipeline import run
from seethink.data.shards import run as merge
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi, last_text
from tests.test_data import TABLES, settings

PRICES = [x for role in ("captioner", "reasoner", "rewriter", "judge") for x in (f"--{role}.price", "[1, 2]")]


def parts_of(source, folder, api, n, *more):
    """Run all n parts; their folders."""
    folders = [folder / f"part-{i}" for i in range(1, n + 1)]
    for i, out in enumerate(folders, 1):
        run(settings(source, out, api.base_url, "--shard", f"{i}/{n}", *PRICES, *more))
    return folders


def merged(folders, out, *more):
    merge(resolve(MergeConfig, [*map(str, folders), "--out", str(out), *more]))
    return out


def spent(out):
    return {row["step"]: (row["attempts"], round(row["usd"], 9)) for _, row in read_jsonl(out / "spend.jsonl")}


def test_a_row_is_of_one_part_whatever_the_others_are():
    names = [f"item-{n}" for n in range(3000)]
    parts = {name: [i for i in range(1, 4) if in_shard(name, f"{i}/3")] for name in names}
    assert all(len(of) == 1 for of in parts.values())
    sizes = [sum(of == [i] for of in parts.values()) for i in range(1, 4)]
    assert min(sizes) > 900, sizes  # binomial, 26 a standard deviation


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "١/3"])
def test_what_is_no_shard_is_refused(tmp_path, shard):
    with pytest.raises(UserError, match="i/n, from 1/n to n/n"):
        settings(tmp_path, tmp_path / "run", "http://127.0.0.1:9/v1", "--shard", shard)


def test_merged_parts_are_the_whole_run(tmp_path, monkeypatch):
    """With caps on RL, an item that the endpoint refuses, one that it never answers, and a duplicate in another part."""
    monkeypatch.setitem(asking.TRIES, "empty", 1)
    source = make_samples(tmp_path, 60)
    samples = load_samples(source)
    first = samples[0]
    twin = next(n for n in range(99) if in_shard(f"twin-{n}", "1/3") != in_shard(first.id, "1/3"))
    samples.append(type(first)(f"twin-{twin}", *(getattr(first, name) for name in first.__slots__[1:])))
    save_samples(source, samples)
    caps = ("--split.rl_cap", "3")

    def fault(n, body):
        known = {"(item 8)": "400", "(item 5)": "empty"} if body["model"] == "reasoner" else {}
        return next((name for mark, name in known.items() if mark in last_text(body)), None)

    with FakeApi(teacher, fault=fault) as api:
        run(settings(source, tmp_path / "whole", api.base_url, *PRICES, *caps))
        whole = len(api.bodies)
        folders = parts_of(source, tmp_path, api, 3, *caps)
        in_parts = len(api.bodies) - whole
        out = merged(folders, tmp_path / "merged")
        assert len(api.bodies) == whole + in_parts, "merging asks nothing"
        for name in TABLES:
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
        assert in_parts == whole + 3, "the twin is asked for once more: its part knows nothing of the other"
        parts = [spent(folder) for folder in folders]
        total = {
            step: tuple(sum(part[step][n] for part in parts) for n in (0, 1)) for step in spent(tmp_path / "whole")
        }
        assert {step: (n, round(usd, 9)) for step, (n, usd) in total.items()} == spent(out)
        assert read_json(out / "done.json")["summary"] == read_json(tmp_path / "whole" / "done.json")["summary"]

        before = (out / "spend.jsonl").read_bytes()
        merged(folders, out)
        assert (out / "spend.jsonl").read_bytes() == before, "merged again, nothing is counted twice"

        asked, api.fault = len(api.bodies), lambda n, body: None
        run(settings(source, out, api.base_url, *PRICES, *caps))  # goes on like any other: two have no answer yet
        assert Counter(b["model"] for b in api.bodies[asked:]) == {"reasoner": 2, "rewriter": 2}
        assert read_json(out / "done.json")["summary"]["failed"] == 0


def test_a_part_folder_is_no_other_part(tmp_path):
    source = make_samples(tmp_path, 12)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "run", api.base_url, "--shard", "1/2"))
        with pytest.raises(UserError, match="shard: 1/2 -> 2/2"):
            run(settings(source, tmp_path / "run", api.base_url, "--shard", "2/2"))


def unfinish(folders):
    (folders[1] / "done.json").unlink()


def other_settings(folders):
    manifest = read_json(folders[1] / "manifest.json")
    manifest["config"]["max_gap"] = 99
    (folders[1] / "manifest.json").write_text(json.dumps(manifest))


def no_ledger(folders):
    (folders[1] / "ledger.sqlite").write_text("not a ledger")


def another_ledger(folders):
    (folders[1] / "ledger.sqlite").unlink()
    with sqlite3.connect(folders[1] / "ledger.sqlite") as db:
        db.execute("CREATE TABLE call (key TEXT)")


def other_rows(folders):
    path = folders[0].parent / "samples.jsonl"
    path.write_text(path.read_text().replace("plus one", "plus 1"))


@pytest.mark.parametrize(
    ("harm", "pick", "words"),
    [
        (unfinish, (0, 1), "part 2/2 is not finished"),
        (other_settings, (0, 1), "part 2/2 with other max_gap"),
        (no_ledger, (0, 1), "cannot read the ledger .file is not a database"),
        (another_ledger, (0, 1), "cannot read the ledger .its table call has other columns: key"),
        (other_rows, (0, 1), "not the rows that the parts were made of"),
        (None, (0,), "part 2/2 is missing"),
        (None, (0, 1, 1), "part 2/2 is here twice"),
        (None, (0, 2), "part 1/3 with other|it is one of 3 parts"),
        (None, (0, 3), "this is no part of a data run"),
    ],
)
def test_parts_that_do_not_make_a_whole_are_named(tmp_path, harm, pick, words):
    source = make_samples(tmp_path, 8)
    with FakeApi(teacher) as api:
        folders = parts_of(source, tmp_path, api, 2)
        (tmp_path / "third").mkdir()
        folders += [tmp_path / "third" / "part-1", tmp_path / "plain"]
        if 2 in pick:
            parts_of(source, tmp_path / "third", api, 3)
        if 3 in pick:
            run(settings(source, tmp_path / "plain", api.base_url))
    if harm:
        harm(folders)
    with pytest.raises(UserError, match=words):
        merged([folders[n] for n in pick], tmp_path / "merged")
    assert not (tmp_path / "merged" / "done.json").exists()


def test_a_changed_picture_is_said_and_nothing_is_asked(tmp_path, capsys):
    source = make_samples(tmp_path, 8)
    with FakeApi(teacher) as api:
        folders = parts_of(source, tmp_path, api, 2)
        asked = len(api.bodies)
        Image.new("RGB", (8, 8), "white").save(tmp_path / "images" / "4.png")
        assert main(["data", "merge", *map(str, folders), "--out", str(tmp_path / "merged"), "--dry-run"]) == 0
        assert not (tmp_path / "merged").exists()
        assert main(["data", "merge", *map(str, folders), "--out", str(tmp_path / "merged")]) == 2
        assert "no part has asked a question of step caption" in capsys.readouterr().err and len(api.bodies) == asked


def test_a_password_in_the_address_is_no_hindrance(tmp_path):
    source = make_samples(tmp_path, 8)
    with FakeApi(teacher) as api:
        url = api.base_url.replace("http://", "http://me:secret@")
        folders = [tmp_path / "a", tmp_path / "b"]
        for i, out in enumerate(folders, 1):
            run(settings(source, out, url, "--shard", f"{i}/2"))
        out = merged(folders, tmp_path / "merged")
    assert read_json(out / "done.json")["summary"]["samples"] == 8
    assert not any("secret" in path.read_text() for path in out.glob("*.json*"))
