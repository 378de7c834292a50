"""The doctor says what it found, and fails only where something failed."""

import sys

import pytest

from seethink.core.errors import UserError
from seethink.doctor import DoctorConfig, checks, packages, run
from tests.fake_api import FakeApi


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
