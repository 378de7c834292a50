"""What docs/distilling.md says: the Slurm script makes parts, the function of rows does what the verb does."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seethink.cli import VERBS, load, split_verb
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.nouns import sample_to_row
from seethink.core.store import load_samples, read_json, read_jsonl
from seethink.core.tables import read_table
from seethink.data.distil import COLUMNS, distil
from seethink.data.pipeline import run
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import MODELS, settings

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "data_slurm.sh"
PAGE = (ROOT / "docs" / "distilling.md").read_text()
COMMANDS = re.findall(r"^seethink (.+)$", PAGE.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_understood(command, tmp_path, monkeypatch):
    (tmp_path / "teacher.toml").write_text('base_url = "http://127.0.0.1:8000/v1"\n')
    monkeypatch.chdir(tmp_path)
    verb, rest = split_verb(shlex.split(command, comments=True))
    resolve(load(VERBS[verb][0]), [word for word in rest if word != "--dry-run"])


def slurm(task, count, *words, **more):
    """The script as task `task` of an array of `count`."""
    array = {"TASK_ID": task, "TASK_COUNT": count, "TASK_MIN": 1, "TASK_MAX": count}
    env = os.environ | {f"SLURM_ARRAY_{name}": str(value) for name, value in array.items()} | more
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", str(SCRIPT), *words], env=env, capture_output=True, text=True)


def test_the_tasks_of_an_array_make_the_whole(tmp_path):
    source = make_samples(tmp_path, 12)
    assert subprocess.run(["bash", "-n", str(SCRIPT)]).returncode == 0
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "whole", api.base_url))
        words = (str(tmp_path / "run"), "--source", str(source), "--base_url", api.base_url, *MODELS)
        for task in (1, 2):
            done = slurm(task, 2, *words)
            assert done.returncode == 0, done.stderr
        parts = [read_json(tmp_path / f"run-{task}" / "manifest.json")["inputs"]["shard"] for task in (1, 2)]
        assert parts == ["1/2", "2/2"]
        alone = slurm(2, 1, *words, SLURM_ARRAY_TASK_MIN="2", SLURM_ARRAY_TASK_MAX="2")
        assert alone.returncode != 0 and "say of how many parts" in alone.stderr, "one part sent again is none of one"
        again = slurm(2, 1, *words, SLURM_ARRAY_TASK_MIN="2", SLURM_ARRAY_TASK_MAX="2", PARTS="2")
        assert again.returncode == 0 and "done before" in again.stdout
    merge = ["merge", *(str(tmp_path / f"run-{task}") for task in (1, 2)), "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "seethink", "data", *merge], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "sft.jsonl").read_bytes() == (tmp_path / "whole" / "sft.jsonl").read_bytes()


def test_batches_end_as_the_run_does(tmp_path):
    """The class that Ray would start, on plain batches; and what it has answered is not asked again."""
    source = make_samples(tmp_path, 24)
    (tmp_path / "images" / "4.png").write_bytes(b"no picture")
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "run", api.base_url))
        asked = len(api.bodies)
        made = runpy.run_path(str(ROOT / "examples" / "ray_data.py"))["Distil"](["--base_url", api.base_url, *MODELS])
        rows = [json.dumps(sample_to_row(sample)) for sample in load_samples(source)]
        batches = [made({"row": np.array(rows[at : at + 9])}) for at in range(0, 24, 9)]
        assert len(api.bodies) == 2 * asked
        made({"row": np.array(rows[:9])})
        assert len(api.bodies) == 2 * asked
    assert all(tuple(batch) == COLUMNS for batch in batches)
    ended = {}
    for batch in batches:
        ended |= {
            name: dict(zip(batch, values, strict=True))
            for name, *values in zip(batch["sample_id"], *batch.values(), strict=True)
        }
    drops = {
        d["sample_id"]: (d["step"], d["reason"], d["detail"]) for d in read_table(tmp_path / "run" / "drops.parquet")
    }
    kept = {row["id"]: row for _, row in read_jsonl(tmp_path / "run" / "traces.jsonl")}
    assert drops.keys() | kept.keys() == ended.keys() and drops["item-4"][:2] == ("metadata", "image")
    for name, end in ended.items():
        if name in kept:
            assert (end["step"], end["reason"]) == ("split", None)
            assert [end[key] for key in ("think", "answer", "model")] == [
                kept[name][key] for key in ("think", "answer", "model")
            ]
        elif drops[name][0] != "split":
            assert (end["step"], end["reason"]) == drops[name][:2]


def test_a_row_that_is_none_is_named(tmp_path):
    config = settings(tmp_path, tmp_path / "run", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="row 1"):
        distil([{"id": "a", "question": "b", "gold": "1", "kind": "digit"}, {"id": "b"}], config, tmp_path / "l.sqlite")
