"""How items ended, kept beside the ledger: taken only where nothing that decides has changed, and never needed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Drop, Sample, Verdict
from seethink.core.store import load_samples
from seethink.data import checked, outcomes, pipeline, steps
from seethink.data.cache import Damaged
from seethink.data.config import DataConfig, Role
from seethink.data.kept import Draft
from seethink.data.outcomes import FILE, Outcome, OutcomeStore, outcome_keys, row_hash
from seethink.data.pipeline import run
from seethink.data.steps import load_prompts
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import MODELS, settings, tables, wait_until

DRAFT = Draft("I see \ud800 three.", "3", "teacher", 70)
ENDS = [
    Outcome("a", "s", "split", "a caption", DRAFT, replace(DRAFT, think="three é"), Verdict(True, "rule", "why")),
    Outcome("b", "s", "rewrite", "", DRAFT, DRAFT, None, Drop("b", "s", "rewrite", "gap", "16 words")),
    Outcome("c", "geoqa170k", "split"),
]


@pytest.fixture
def source(tmp_path):
    return make_samples(tmp_path, 60)


@pytest.fixture
def walked(monkeypatch):
    """Ids of the samples that were walked: what was settled is not."""
    ids = []

    async def counted(item, those):
        ids.append(item.id)
        return await steps.walk(item, those)

    monkeypatch.setattr(pipeline, "walk", counted)
    return ids


def test_an_outcome_reads_back_equal_and_takes_the_place_of_an_older_one(tmp_path):
    path = tmp_path / FILE
    with OutcomeStore(path) as store:
        for n, end in enumerate(ENDS):
            store.put(f"old-{n}", replace(end, caption="another"))
            store.put(f"key-{n}", end)
        assert store.find("key-0") == ENDS[0], "what waits for its commit is there already"
    assert path.stat().st_mode & 0o777 == 0o600
    with OutcomeStore(path) as store:
        assert list(store.read()) == ENDS and store.find("key-1") == ENDS[1] and store.find("old-1") is None
        assert store.settled()["key-1"] == ("rewrite", ENDS[1].drop, "") and store.settled()["key-0"].by == "rule"
        store.keep(["key-2"])
        assert list(store.read()) == ENDS[2:] and store.find("key-0") is None


@pytest.mark.parametrize("reason", ["refused", "filtered", "timeout"])
def test_what_was_not_answered_is_no_outcome(tmp_path, reason):
    end = replace(ENDS[1], drop=Drop("b", "s", "rewrite", reason), failed=reason == "timeout")
    with OutcomeStore(tmp_path / FILE) as store, pytest.raises(ValueError, match="no outcome to keep"):
        store.put("key", end)


def test_a_key_is_everything_that_decides(tmp_path, monkeypatch):
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)
    sample = Sample("a", "arxivqa", (str(picture),), "q", "3", "digit", meta={"n": 1})
    config = DataConfig(source=tmp_path, out=tmp_path, base_url="http://127.0.0.1:9/v1")
    prompts = load_prompts(None)

    def keys(sample=sample, prompts=prompts, **settings):
        return outcome_keys([(sample.source, row_hash(sample))], config.model_copy(update=settings), prompts)

    key = keys()

    def other(*sample, **changed):
        return keys(*sample, **changed) != key

    assert not other(in_flight=7, base_url="http://127.0.0.1:8/v1", context_is_caption=("docvqa",), budget=3.0)
    assert not other(
        captioner=config.captioner.model_copy(update={"base_url": "http://127.0.0.1:8/v1", "price": (1, 2)})
    )
    for changed in ({"gold": "4"}, {"choices": ("3",)}, {"meta": {"n": "1"}}, {"alternatives": ("4",)}, {"id": "b"}):
        assert other(replace(sample, **changed)), changed
    for changed in ({"max_gap": 16}, {"rule_first": False}, {"reuse": True}, {"context_is_caption": ("arxivqa",)}):
        assert other(**changed), changed
    assert other(split=config.split.model_copy(update={"rl_only": ("arxivqa",)}))
    for role in ("captioner", "reasoner", "rewriter", "judge"):
        given = getattr(config, role)
        assert other(**{role: Role(model="x", params=given.params)}), role
        assert other(**{role: Role(model=given.model, params={**given.params, "seed": 1})}), role
    for name, prompt in prompts.items():
        assert other(prompts={**prompts, name: type(prompt)(prompt.template + " ")}), name
    (tmp_path / "b.png").write_bytes(picture.read_bytes())
    assert not other(replace(sample, images=(str(tmp_path / "b.png"),))), "a moved picture is the same"
    Image.new("RGB", (4, 4), "white").save(picture)
    assert other()
    key = keys()
    monkeypatch.setattr(outcomes, "_code", lambda: "a changed rule")
    assert other()


def test_what_is_settled_is_not_walked_again(tmp_path, source, walked):
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        assert len(walked) == 60
        before = tables(out)
        (out / "traces.jsonl").unlink()
        run(settings(source, out, api.base_url))
        assert len(walked) == 60 and tables(out) == before, "the tables come from the outcomes"
        (out / FILE).unlink()
        (out / "traces.jsonl").unlink()
        asked = len(api.bodies)
        run(settings(source, out, api.base_url))
        assert len(walked) == 120 and len(api.bodies) == asked and tables(out) == before, "or from the ledger"


def test_a_changed_prompt_or_picture_is_walked_again(tmp_path, source, walked):
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        walked.clear()
        Image.new("RGB", (8, 8), "white").save(tmp_path / "images" / "8.png")
        rows = source.read_text().splitlines()
        rows[12] = json.dumps(json.loads(rows[12]) | {"gold": "99"})
        source.write_text("\n".join(rows))
        run(settings(source, out, api.base_url, "--overwrite"))
        assert sorted(walked) == ["item-12", "item-8"]
        walked.clear()
        (tmp_path / "prompts").mkdir()
        (tmp_path / "prompts" / "verify.txt").write_text("Yes? $question <reference>\n$gold\n</reference> $answer")
        run(settings(source, out, api.base_url, "--prompts", str(tmp_path / "prompts"), "--overwrite"))
        assert len(walked) == 60


def test_a_picture_is_looked_at_once_unless_it_changes(tmp_path, source, monkeypatch):
    out, looked = tmp_path / "run", []
    check = checked.find_broken

    def counted(samples, path, unseen):
        looked.extend(sorted(unseen))
        return check(samples, path, unseen)

    monkeypatch.setattr(checked, "find_broken", counted)
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        assert len(looked) == 60
        looked.clear()
        broken = tmp_path / "images" / "3.png"
        status = broken.stat()
        broken.write_bytes(broken.read_bytes()[:30].ljust(status.st_size, b"x"))  # as long and as old as before
        os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
        run(settings(source, out, api.base_url, "--overwrite"))
        assert looked == [str(broken)]
    drops = {drop["sample_id"]: drop["reason"] for drop in tables(out)[2]}
    assert drops["item-3"] == "image"


@pytest.fixture
def loaded(monkeypatch):
    """How often the file of rows was read."""
    times, load = [], checked.load_source

    def counted(*arguments):
        times.append(1)
        return load(*arguments)

    monkeypatch.setattr(checked, "load_source", counted)
    return times


def test_rows_are_read_once_unless_something_changed(tmp_path, source, loaded):
    out = tmp_path / "run"
    given = load_samples(source)
    (tmp_path / "images" / "5.png").write_text("no picture")
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        before = tables(out)
        (out / "traces.jsonl").unlink()
        run(settings(source, out, api.base_url))
        assert len(loaded) == 1 and tables(out) == before
        with closing(checked.check_rows(settings(source, out, api.base_url))) as rows:
            assert [rows.sample(n) for n in range(60)] == given and rows.rows[5].drop.reason == "image"
        assert len(loaded) == 1

        Image.new("RGB", (8, 8), "white").save(tmp_path / "images" / "5.png")  # the broken one is repaired
        run(settings(source, out, api.base_url, "--overwrite"))
        assert len(loaded) == 2 and "item-5" not in [d["sample_id"] for d in tables(out)[2]]
        run(settings(source, out, api.base_url, "--overwrite", "--limit", "20"))
        assert len(loaded) == 3
        source.write_text(source.read_text().replace("What is 7 plus", "What, please, is 7 plus"))
        run(settings(source, out, api.base_url, "--overwrite", "--limit", "20"))
        assert len(loaded) == 4
        (tmp_path / "images" / "9.png").unlink()
        with pytest.raises(UserError, match=r"9\.png does not exist"):
            run(settings(source, out, api.base_url, "--overwrite", "--limit", "20"))


@pytest.mark.parametrize("meta", [{"n": 1.5, "list": [1, [2]], "none": None, "text": "é\u2028"}, {"n": float("nan")}])
def test_a_sample_that_would_not_read_back_equal_stays_in_memory(tmp_path, meta):
    sample = Sample("a", "s", (), "q\n<x>", "3", "digit", ("1", "3"), "c", "l", meta, ("4",), ())
    rows = checked.CheckedRows([checked.CheckedRow("a", "s", "hash", None)], "", None, [sample]).keep_as("key", [])
    rows.keep(tmp_path / checked.FILE)
    assert (tmp_path / checked.FILE).exists() == ("list" in meta)
    assert rows.sample(0) == sample or rows.sample(0) is sample
    rows.close()


def test_damaged_rows_are_read_again_with_a_word(tmp_path, source, loaded, capsys):
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        before, asked = tables(out), len(api.bodies)
        (out / checked.FILE).write_bytes((out / checked.FILE).read_bytes()[:5000])
        (out / "traces.jsonl").unlink()
        run(settings(source, out, api.base_url))
        assert len(loaded) == 2 and tables(out) == before and len(api.bodies) == asked
    assert "the rows are read again" in capsys.readouterr().err


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_database(path):
    path.write_bytes(b"something else " * 1000)


def of_another_version(path):
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE outcome ADD COLUMN more TEXT")


@pytest.mark.parametrize("harm", [cut_in_half, no_database, of_another_version])
def test_a_damaged_file_is_made_anew_with_a_word_and_without_calls(tmp_path, source, capsys, harm):
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        before, asked = tables(out), len(api.bodies)
        harm(out / FILE)
        (out / "traces.jsonl").unlink()
        capsys.readouterr()
        run(settings(source, out, api.base_url))
        assert len(api.bodies) == asked and tables(out) == before
    assert "made anew from the ledger" in capsys.readouterr().err
    with OutcomeStore(out / FILE) as store:
        assert len(list(store.read())) == 60


def test_a_damaged_text_names_the_file_and_the_remedy(tmp_path):
    with OutcomeStore(tmp_path / FILE) as store:
        store.put("key", ENDS[0])
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE written SET body = substr(body, 1, 20)")
    with (
        OutcomeStore(tmp_path / FILE) as store,
        pytest.raises(Damaged, match="'a' is damaged.*Remove it.*without calls") as error,
    ):
        store.find("key")
    assert str(tmp_path / FILE) in str(error.value)


def test_without_the_ledger_there_are_no_outcomes(tmp_path, source):
    """Who moves the ledger away wants the answers asked for again."""
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        asked = len(api.bodies)
        (out / "ledger.sqlite").rename(tmp_path / "ledger.sqlite")
        (out / "traces.jsonl").unlink()
        run(settings(source, out, api.base_url))
        assert len(api.bodies) == 2 * asked


def test_a_full_disk_is_named(tmp_path):
    with OutcomeStore(tmp_path / FILE) as store:
        store.db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(UserError, match="Make room") as error:
            for n in range(100):
                store.put(f"key-{n}", replace(ENDS[0], sample_id=str(n)))
        assert not isinstance(error.value, Damaged)


def test_a_killed_run_ends_with_the_tables_of_a_calm_one(tmp_path):
    source = make_samples(tmp_path, 240)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "calm", api.base_url))
        calm = len(api.bodies)
    out = tmp_path / "killed"
    with FakeApi(teacher, latency=0.005) as api:
        config = ["--source", str(source), "--out", str(out), "--base_url", api.base_url, *MODELS, "--in_flight", "8"]
        script = "import sys; from seethink.cli import main; sys.exit(main(['data', *sys.argv[1:]]))"
        command = [sys.executable, "-c", script, *config]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(api.bodies) >= 0.7 * calm)
        assert process.poll() is None, "finished before the kill"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with OutcomeStore(out / FILE) as store:
            assert 60 < len(store.settled()) < 240, "some were settled by the kill"
        assert subprocess.run(command, capture_output=True, timeout=600).returncode == 0
        assert calm <= len(api.bodies) <= calm + 4 * 8
    assert tables(tmp_path / "calm") == tables(out)
    with OutcomeStore(tmp_path / "calm" / FILE) as one, OutcomeStore(out / FILE) as other:
        assert {o.sample_id: o for o in one.read()} == {o.sample_id: o for o in other.read()}
