"""How a verb ends: its numbers, whether it was done before, what is next, and what happens when nobody reads any more."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seethink import cli
from seethink.core.config import resolve
from seethink.core.next import NEXT, what_next
from seethink.core.run import PARENT
from seethink.core.stats import clustered, wilson
from seethink.core.store import write_jsonl
from seethink.core.tags import compose
from seethink.core.terminal import print_table
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import MODELS

ROOT = Path(__file__).parents[1]
ROWS = [
    {"id": f"q{n}", "question": "How many?", "kind": kind, "gold": "2", "choices": ["a", "b"] if kind == "choice" else [],
     "meta": {"part": "iid" if n < 6 else "ood"}}
    for n, kind in enumerate(["digit"] * 7 + ["math"] * 3)
]  # fmt: skip


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def board(tmp_path):
    """Ten questions and answers to them: five right, three wrong, one cut, one without an answer."""
    write_jsonl(tmp_path / "board.jsonl", ROWS)
    said = [compose("x", "2")] * 5 + [compose("x", "3")] * 3 + ["<think>x", "<think>x</think>"]
    write_jsonl(tmp_path / "answers.jsonl", [{"id": r["id"], "text": t} for r, t in zip(ROWS, said, strict=True)])
    return tmp_path


def evaluation(board: Path) -> list[object]:
    return ["eval", "--data", board / "board.jsonl", "--predictions", board / "answers.jsonl", "--out", board / "eval"]


def test_an_evaluation_ends_with_its_numbers_by_part_and_kind(board, capsys):
    assert call(*evaluation(board)) == 0
    said = capsys.readouterr().out
    summary = json.loads((board / "eval/done.json").read_text())["summary"]
    low, high = summary["score_interval"]
    lines = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert lines["all"][1:] == ["10", "5", "5", "0", "0", "50.00", f"[{low:.2f},", f"{high:.2f}]"]
    assert lines["part iid"][2:5] == ["6", "5", "1"] and lines["kind math"][2:5] == ["3", "0", "3"]
    known = wilson(5, 6)
    assert summary["by_part"]["iid"]["score_interval"] == pytest.approx([100 * known.low, 100 * known.high])
    assert "eval: finished, score 50.00" in said and f"report: {board}/eval/report.html" in said
    assert said.splitlines()[-1] == f"next: seethink view {board}/eval"
    assert call(*evaluation(board)) == 0
    again = capsys.readouterr().out
    assert "eval: done before, score 50.00" in again and "finished" not in again and "kind math" in again


def test_traces_end_with_intervals_over_questions(board, capsys):
    call(*evaluation(board))
    capsys.readouterr()
    line = ["traces", "--input", board / "eval/scores.parquet", "--out", board / "traces"]
    assert call(*line) == 0
    said = capsys.readouterr().out
    found = json.loads((board / "traces/done.json").read_text())["summary"]["all"]["ok"]
    low, high = (100 * limit for limit in found["interval"])
    row = next(line for line in said.splitlines() if line.startswith("right, %")).split()
    assert row[2:] == [f"{100 * found['mean']:.1f}", f"[{low:.1f},", f"{high:.1f}]", "10", "of", "10"]
    assert "not measured: " in said and "true share, %" in said.partition("not measured: ")[2]
    assert call(*line) == 0 and "traces: done before, 10 analysed" in capsys.readouterr().out


def test_undecided_rewards_are_no_zeros(tmp_path, capsys):
    rows = [{"id": "a", "kind": "digit", "gold": "7", "response": compose("", "7")}]
    rows += [{"id": str(n), "kind": "math", "gold": "", "response": compose("", "5")} for n in range(3)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert call("reward", "score", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["mean_reward"], found["decided"], found["undecided"]) == (1.0, 1, 3)
    assert found["by_kind"]["math"] == {
        "decided": 0, "undecided": 3, "mean_reward": None, "mean_reward_interval": None,
    }  # fmt: skip


def test_answers_to_one_question_are_one_draw():
    """Four equal answers to each of ten questions tell as much as one answer to each."""
    once = clustered([1, 0, 1, 1, 0, 1, 0, 1, 1, 0.5], range(10))
    four = clustered([v for v in [1, 0, 1, 1, 0, 1, 0, 1, 1, 0.5] for _ in range(4)], [n // 4 for n in range(40)])
    assert once is not None and four is not None
    assert (four.low, four.high) == pytest.approx((once.low, once.high))
    alone = clustered([1.0, 0.0, 1.0], "abc", share=True)
    assert alone == wilson(2, 3) and clustered([], []) is None
    uneven = clustered([1, 1, 1, 0], "aaab", share=True)
    assert uneven is not None and uneven.estimate == 0.75 and 0 <= uneven.low < 0.75 < uneven.high <= 1


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [30, 60, 100, 140])
def test_a_table_fits_the_terminal(monkeypatch, width):
    stream = Screen()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    print_table(
        ("arm", "answers", "right", "wrong", "score [95 %]"),
        [("漢字 arm\x1b[31m", 123456, 12, 3, "80.00 [52.1, 93.4]")],
    )
    lines = stream.getvalue().splitlines()
    assert (
        max(map(len, lines)) <= width and lines == [line.rstrip() for line in lines] and "\x1b" not in stream.getvalue()
    )
    for part in ("漢字 arm", "123456", "80.00", "93.4]"):
        assert part in stream.getvalue()


def test_a_table_in_a_pipe_keeps_its_lines_whole(capsys):
    print_table(("name", "why", "n"), [("x" * 100, "y " * 60 + "z", 1)], texts=2)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 2 and said.isascii()


# ------------------------------------------------------------------------------------------------------------ what is next


def test_what_is_next_is_a_command_of_ours(tmp_path, monkeypatch):
    for verb, then in NEXT.items():
        assert verb in cli.VERBS
        named, rest = cli.split_verb(then.format(out="o", input="i", other="p", subset="s").split())
        resolve(cli.load(cli.VERBS[named][0]), rest)  # all that it needs is named
    config = type("Config", (), {"out": tmp_path / "a run", "input": None, "other": None})
    assert (
        what_next("grpo", config)
        == f"seethink eval --model '{tmp_path}/a run'/model --data BOARD.jsonl --out runs/eval"
    )
    assert what_next("watch", config) == what_next("eval", config) == ""
    monkeypatch.setenv(PARENT, "1")
    assert what_next("grpo", config) == "", "a study says itself what is next"


def test_data_says_what_to_train_with(tmp_path, capsys):
    source = make_samples(tmp_path, 6)
    with FakeApi(teacher) as api:
        line = ["data", "--source", source, "--base_url", api.base_url, "--out", tmp_path / "run", *MODELS]
        said = [(call(*line), capsys.readouterr().out) for _ in range(2)]
    assert "data: finished, " in said[0][1] and "data: done before, " in said[1][1]
    kept = json.loads((tmp_path / "run/done.json").read_text())["summary"]
    for code, text in said:
        assert code == 0 and f"--data {tmp_path}/run/{'rl' if kept['rl'] else 'sft'}.jsonl" in text.splitlines()[-1]


# --------------------------------------------------------------------------------------------------------- nobody reads it


def started(*arguments: object, **streams: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "seethink", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **streams)  # type: ignore[call-overload]


@pytest.mark.parametrize("arguments", [["--help"], ["grpo", "--help"], ["nonsense"]])
def test_a_closed_pipe_is_met_in_silence(arguments):
    read, write = os.pipe()
    os.close(read)
    with started(*arguments, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        said = process.communicate(timeout=60)[1].decode()
    expected = (2, True) if arguments == ["nonsense"] else (cli.UNREAD, False)
    assert (process.returncode, bool(said)) == expected, said
    assert "Traceback" not in said and "Broken" not in said


@pytest.mark.parametrize(("lost", "code"), [(("stdout",), 141), (("stderr",), 0), (("stdout", "stderr"), 141)])
def test_a_run_ends_its_work_though_nobody_listens(board, lost, code):
    read, write = os.pipe()
    os.close(read)
    streams = {name: write if name in lost else subprocess.PIPE for name in ("stdout", "stderr")}
    with started(*evaluation(board), **streams) as process:
        os.close(write)
        said = b"".join(part or b"" for part in process.communicate(timeout=100)).decode()
    assert process.returncode == code and "Traceback" not in said and "Broken" not in said
    assert (board / "eval/done.json").is_file() and (board / "eval/report.html").is_file()


def test_json_is_cut_in_silence(board):
    with started(*evaluation(board), "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == cli.UNREAD and "Traceback" not in said and (board / "eval/done.json").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_behind_standard_output_is_said():
    with open("/dev/full", "w") as full, started("--help", stdout=full, stderr=subprocess.PIPE) as process:
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1 and said == "seethink: standard output: No space left on device\n"
