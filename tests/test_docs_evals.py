"""docs/evals.md: its board runs as it stands there, its commands are understood, its numbers and words are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from seethink.cli import VERBS, load, main, split_verb
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.store import read_json, write_jsonl
from seethink.core.tables import read_table
from seethink.evals.boards import BOARDS
from seethink.evals.boards.find import find_board
from seethink.evals.config import TASKS
from seethink.evals.verdicts import REASONS, STATES

TEXT = (Path(__file__).parents[1] / "docs" / "evals.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"(?m)^seethink .*$", TEXT)
(SOURCE,) = re.findall(r"(?s)```python\n(.*?)```", TEXT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command):
    verb, arguments = split_verb(shlex.split(command)[1:])
    config = resolve(load(VERBS[verb][0]), arguments)
    assert config.out and getattr(config, "task", "") in (*TASKS, "", "plates.py:BOARD")
    if verb == "eval" and config.task in BOARDS:
        board = BOARDS[config.task]
        assert config.profile in (*board.profiles, "") and config.prompt in (*board.prompts, "")


def test_every_word_for_a_state_a_reason_and_a_task_is_explained():
    for word in (*STATES, *REASONS, *TASKS):
        assert f"`{word}`" in TEXT, word


def test_sizes_are_those_of_the_boards():
    for task, board in BOARDS.items():
        (row,) = re.findall(rf"(?m)^\| `{task}` \|.*$", TEXT)
        numbers = [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", row)]
        assert not board.sizes or board.sizes[0] in (*numbers, *(a * b for a in numbers for b in numbers)), task


def plates(folder: Path, monkeypatch) -> None:
    """The example in a folder of its own, which is where we are: five rows, of which one has no answer."""
    monkeypatch.chdir(folder)
    (folder / "plates.py").write_text(SOURCE)
    golds = ["AB-123", "KL-4567", "XY-999", "Z-1000", "TOO-4711"]
    write_jsonl(
        folder / "plates.jsonl", ({"number": n, "picture": f"{n}.jpg", "plate": gold} for n, gold in enumerate(golds))
    )
    texts = ["It says AB-123.", "KL4567", "XY-998", "I cannot read it."]
    write_jsonl(folder / "answers.jsonl", ({"id": n, "text": text} for n, text in enumerate(texts)))


def test_the_board_of_the_example_runs(tmp_path, monkeypatch, capsys):
    plates(tmp_path, monkeypatch)
    evaluate, export = (shlex.split(line)[1:] for line in COMMANDS if "plates.py:BOARD" in line)
    assert main([*evaluate, "--accept_failures"]) == 0, capsys.readouterr().err
    page = (tmp_path / "runs/plates/report.html").read_text()
    assert "KL-4567" in page and "question not at hand" not in page, "its items are shown, golds and all"
    summary = read_json(tmp_path / "runs/plates/done.json")["summary"]
    assert [summary[name] for name in ("n", "right", "wrong", "unparsed", "score", "board")] == [
        5,
        2,
        1,
        2,
        40.0,
        "Number plates",
    ]
    rows = {row["sample_id"]: row for row in read_table(tmp_path / "runs/plates/scores.parquet")}
    assert (
        rows["0"]["decided_by"] == "last_plate > equal"
        and rows["1"]["part"] == "long"
        and rows["2"]["answer"] == "XY-998"
    )
    assert main(export) == 0, capsys.readouterr().err
    (log,) = (tmp_path / "logs").iterdir()
    assert [s["scores"]["plain"]["value"] for s in json.loads(log.read_text())["samples"]] == list("CCINN")


def test_a_run_folder_starts_no_code_of_its_own(tmp_path, monkeypatch, capsys):
    plates(tmp_path, monkeypatch)
    evaluate, export = (shlex.split(line)[1:] for line in COMMANDS if "plates.py:BOARD" in line)
    main([*evaluate, "--accept_failures"])
    at = export.index("--task")
    assert main([*export[:at], *export[at + 2 :]]) == 2
    assert "Name it again, to let its code run: --task plates.py:BOARD" in capsys.readouterr().err


def test_a_changed_board_is_another_run(tmp_path, monkeypatch, capsys):
    plates(tmp_path, monkeypatch)
    command = [
        "eval",
        "--task",
        "plates.py:BOARD",
        "--data",
        "plates.jsonl",
        "--predictions",
        "answers.jsonl",
        "--out",
        "run",
    ]
    assert main(command) == 0 and main(command) == 0
    (tmp_path / "changed").mkdir()
    (tmp_path / "changed" / "plates.py").write_text(SOURCE.replace("{4,10}", "{5,10}"))
    assert main([*command[:2], "changed/plates.py:BOARD", *command[3:]]) == 2
    assert "other settings or inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("mathvisto", "no board 'mathvisto'. Did you mean mathvista?" if "mathvista" in BOARDS else "no board"),
        ("zzz", "Use one of rows"),
        ("gone.py:BOARD", "file not found"),
        ("bad.py:BOARD", "cannot be imported"),
        ("plates.py:load", "is no board but of type function"),
        ("plates.py:NOTHING", "has no 'NOTHING'"),
        ("os:environ", "is no board"),
        ("no_such_module_x:BOARD", "cannot be imported"),
        ("../x:y z", "not of the form"),
    ],
)
def test_what_names_no_board_is_said_in_words(task, what, tmp_path, monkeypatch):
    plates(tmp_path, monkeypatch)
    (tmp_path / "bad.py").write_text("def (")
    with pytest.raises(UserError, match=re.escape(what)):
        find_board(task)
