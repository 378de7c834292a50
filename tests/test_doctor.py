"""The doctor says what it found, and fails only where something failed."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import save_examples
from seethink.core.tags import compose
from seethink.doctor import DoctorConfig, checks, packages, run
from tests.fake_api import FakeApi

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"


def found(config, dry_run=False):
    return {check.name: check for check in checks(config, dry_run)}


def test_a_healthy_machine(tmp_path, capsys):
    with FakeApi(lambda body: "ready") as api:
        run(DoctorConfig(out=tmp_path / "runs", base_url=api.base_url, model="m"))
        assert len(api.bodies) == 1
    printed = capsys.readouterr().out
    assert "answered 'ready' as m-0001" in printed and "FAIL" not in printed
    assert list((tmp_path / "runs").iterdir()) == []


def test_reaching_an_endpoint_costs_nothing(tmp_path):
    with FakeApi() as api:
        assert found(DoctorConfig(out=tmp_path, base_url=api.base_url))["endpoint"].ok
        assert not api.bodies


@pytest.mark.parametrize("model", ["", "m"])
def test_a_dead_endpoint_fails_with_a_remedy(tmp_path, model, capsys):
    with pytest.raises(UserError, match="1 checks failed: endpoint"):
        run(DoctorConfig(out=tmp_path, base_url="http://127.0.0.1:9/v1", model=model))
    assert "fix --base_url" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").write_text("")
    assert found(DoctorConfig(out=tmp_path / "file" / "runs"))["writing"].ok is False


def test_a_missing_package_fails_only_where_it_is_needed():
    assert packages("x", ("pydantic", "no-such-package"), needed=True).ok is False
    missing = packages("x", ("no-such-package",), needed=False)
    assert missing.ok is None and "without no-such-package" in missing.found


def test_dry_run_writes_and_calls_nothing(tmp_path):
    names = found(DoctorConfig(out=tmp_path / "new", base_url="http://127.0.0.1:9/v1"), dry_run=True)
    assert "endpoint" not in names and "torch" not in names and not (tmp_path / "new").exists()


def test_missing_libraries_are_reported_and_not_stumbled_over(tmp_path, monkeypatch):
    for name in ("math_verify", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with FakeApi() as api:
        checks = found(DoctorConfig(out=tmp_path, base_url=api.base_url, model="m"))
    assert (checks["answers"].ok, checks["torch"].ok, checks["endpoint"].ok) == (None, None, True)


@pytest.mark.parametrize("verb", ["sft", "grpo"])
def test_a_run_is_examined_as_its_own_dry_run_says_it(tmp_path, verb, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    rows = [Example(Sample("a", "s", (), "how many ?", "2", "digit"), compose("so", "2"))]
    save_examples(tmp_path / "runs" / "rows.jsonl", rows)
    run = ["--model.path", str(BASE), "--data", "runs/rows.jsonl", "--gpus", "2", "--export_every", "1"]
    assert main([verb, *run, "--gpu_gb", "80", "--out", "o", "--dry-run"]) == 0
    page = capsys.readouterr().out
    assert "it fits into 80 GB" in page and "AdamW's moments" in page
    assert main(["doctor", verb, *run, "--gpu_gb", "80", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert page in said and "ok    run            a GPU needs" in said and "GB, which it has" in said
    assert main(["doctor", verb, *run, "--gpu_gb", "1", "--dry-run"]) == 2
    said = capsys.readouterr().out
    assert "does NOT fit" in said and "FAIL  run " in said and "ok    disk " in said
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    assert main(["doctor", verb, *run, "--dry-run"]) == 2
    said = capsys.readouterr().out
    assert "-     run " in said and "say --gpu_gb" in said
    assert "FAIL  disk           0 GB free" in said and "choose another --out" in said
    assert main(["doctor", verb, *run, "--data", "none.jsonl"]) == 2
    assert "FAIL  run            none.jsonl: file not found" in capsys.readouterr().out
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "rows.jsonl"]
