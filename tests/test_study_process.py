"""Stages as forks of a process that has imported torch: the command that it would be, ended when the study ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import seethink
from seethink.core.tables import read_table
from seethink.study.process import start

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are used on Linux")
BASE = Path(seethink.__file__).parent / "pocket" / "base"
SCRIPT = """
import sys
from pathlib import Path
from seethink.study.process import start
if __name__ == "__main__":
    child = start(["pocket", "teach", "--world", sys.argv[1], "--port", "0", "--minutes", "5"], Path(sys.argv[2]), "")
    print(child.process.pid, flush=True)
    child.wait()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from seethink.cli import main

    out = tmp_path_factory.mktemp("process") / "world"
    sizes = [
        f"--{name}={count}" for name, count in {"sft": 5, "rl": 5, "board": 12, "unseen": 0, "ood": 0, "old": 0}.items()
    ]
    assert main(["pocket", "build", "--out", str(out), *sizes]) == 0
    return out


def test_a_fork_is_the_command_that_it_stands_for(world, tmp_path):
    """Same scores as a process that started from nothing, and one thread; its output is in the log."""
    command = ["eval", "--model", str(BASE), "--data", str(world / "board.jsonl"), "--max_tokens", "40"]
    forked, alone = tmp_path / "forked", tmp_path / "alone"
    assert start([*command, "--out", str(forked)], tmp_path / "log", "").wait() == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "seethink", *command, "--out", str(alone)]
    subprocess.run(program, env=environment, check=True, capture_output=True, timeout=300)
    tables = [[{**row, "seconds": 0} for row in read_table(out / "scores.parquet")] for out in (forked, alone)]
    assert tables[0] == tables[1] and len(tables[0]) == 12
    assert "12 answers" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("arguments", "code", "said"), [(["--version"], 0, "seethink "), (["evaal"], 2, "evaal")])
def test_exit_codes_and_output_are_those_of_the_command(tmp_path, arguments, code, said):
    (tmp_path / "log").write_text("before\n")
    assert start(arguments, tmp_path / "log", "").wait() == code
    before, *rest = (tmp_path / "log").read_text().splitlines()
    assert before == "before" and said in "".join(rest)


def test_a_terminated_stage_tells_the_signal(world, tmp_path):
    child = start(["pocket", "teach", "--world", str(world), "--port", "0", "--minutes", "5"], tmp_path / "log", "")
    wait_for(lambda: serves(tmp_path / "log"))
    child.terminate()
    assert child.wait() == -signal.SIGTERM


def test_stages_end_with_a_killed_study(world, tmp_path):
    (tmp_path / "study.py").write_text(SCRIPT)
    program = [sys.executable, str(tmp_path / "study.py"), str(world), str(tmp_path / "log")]
    study = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert study.stdout
        stage = int(study.stdout.readline())
        wait_for(lambda: serves(tmp_path / "log"))
    finally:
        study.kill()
        study.communicate()
    wait_for(lambda: not Path(f"/proc/{stage}").exists())


def serves(log: Path) -> bool:
    return log.exists() and "127.0.0.1" in log.read_text()


def wait_for(happened, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
