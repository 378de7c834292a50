"""What `pip install` gives: one wheel of bounded size with settings, prompts and bases inside, which runs a study from an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import seethink
from seethink.core.shipped import SHIPPED, shipped_names
from tests.test_study import TINY

ROOT = Path(__file__).parents[1]
LARGEST = 10e6
"""Bytes of the wheel; three bases of 3 MB are most of it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the files as they are here."""
    folder = tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "seethink", folder / "source" / "seethink", ignore=hidden)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    environment = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": "1.2.3"}
    pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(folder / "source"), environment=environment)
    return next(folder.glob("*.whl"))


def pip(python: str | Path, *arguments: str, environment: dict | None = None) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    if "No matching distribution" in done.stderr or "Failed to establish" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert seethink.__version__ == version("seethink") and seethink.__version__[0].isdigit()


@pytest.mark.slow
@pytest.mark.long
def test_the_wheel_holds_what_a_run_reads(wheel):
    assert wheel.stat().st_size <= LARGEST and wheel.name.startswith("seethink-1.2.3-")
    inside = set(zipfile.ZipFile(wheel).namelist())
    held = {
        str(p.relative_to(ROOT)) for p in (ROOT / "seethink").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert held <= inside, f"not in the wheel: {sorted(held - inside)}"
    assert {f"seethink/configs/{name}" for name in shipped_names()} <= inside and SHIPPED.is_dir()


@pytest.mark.slow
@pytest.mark.long
def test_an_empty_environment_runs_a_study(wheel, tmp_path):
    """Nothing of this checkout is on the way: another folder, no PYTHONPATH, an environment of its own."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip(python, "install", "-c", str(ROOT / "requirements.lock"), f"{wheel}[train]")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    (tmp_path / "here").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [str(python.parent / "seethink"), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path / "here", env=environment, timeout=900
        )

    assert run("--version").stdout == "seethink 1.2.3\n"
    planned = run("study", "@studies/pocket/placebo.toml", "--out", "p", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    done = run("study", "--out", "runs/study", *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    study = tmp_path / "here" / "runs" / "study"
    assert json.loads((study / "study.json").read_text())["arms"] and (study / "report.html").stat().st_size > 10_000
