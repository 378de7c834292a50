"""A reward of the user's own wherever a run takes one: grpo, eval, the server, a study and its child processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from seethink import cli
from seethink.core.errors import UserError
from seethink.core.load import hash_code, load_function
from seethink.core.nouns import Sample
from seethink.core.store import read_json, write_jsonl
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.pocket.build import build
from seethink.rewards import RewardConfig, Rewarder

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
HALF = "def reward(sample, answer, response):\n    return 0.5, 'ok', f'own: {sample.id}'\n"
SMALL = [
    "--rounds", "1", "--prompts", "4", "--update_prompts", "4", "--group", "4", "--max_tokens", "24", "--model.path", str(BASE),
]  # fmt: skip


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder in which we are: questions, a board, and `mine.py`, named as a path from there."""
    build(tmp_path, seed=7, sft=0, rl=12, board=6, ood=0, unseen=0, old=0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "mine.py").write_text(HALF)
    return tmp_path


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def paid(folder: Path) -> set[tuple[str, float]]:
    """What was paid for completions that hold an answer."""
    rows = list(read_table(folder / "rollouts.parquet"))
    assert any(row["status"] != "no_format" for row in rows)
    return {(row["status"], row["reward"]) for row in rows if row["status"] != "no_format"}


def test_grpo_pays_it(world, capsys):
    given = ["grpo", *SMALL, "--data", "rl_pool.jsonl", "--reward.custom", "rewards/mine.py:reward"]
    run(*given, "--out", "g")
    assert paid(world / "g") == {("ok", 0.5)}
    (world / "rewards" / "mine.py").write_text(HALF.replace("0.5", "1.0"))
    assert cli.main([*given, "--out", "g"]) == 2, "with other code it is another run"
    assert "reward.custom" in capsys.readouterr().err


def test_eval_scores_by_it(world):
    answers = [
        {"id": row["id"], "text": compose("x", "zzz")}
        for row in map(json.loads, Path("board.jsonl").read_text().splitlines())
    ]
    write_jsonl(Path("answers.jsonl"), answers)
    given = [
        "eval",
        "--data",
        "board.jsonl",
        "--predictions",
        "answers.jsonl",
        "--reward.custom",
        "rewards/mine.py:reward",
    ]
    run(*given, "--out", "e")
    rows = list(read_table(world / "e" / "scores.parquet"))
    assert {row["reward"] for row in rows} == {0.5}
    assert read_json(world / "e" / "done.json")["summary"]["right"] < len(rows), (
        "without a threshold, right is what the kind says"
    )
    run(*given, "--reward.correct", "0.5", "--out", "e2")
    assert read_json(world / "e2" / "done.json")["summary"]["right"] == len(rows)


def test_the_server_answers_by_it(world):
    command = [sys.executable, "-m", "seethink", "reward", "serve", "--port", "0", "--seconds", "60"]
    command += ["--reward.custom", "rewards/mine.py:reward"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = re.search(r"http://127.0.0.1:(\d+)", server.stdout.readline())[1]
            asked = {"samples": [{"id": "7", "kind": "digit", "gold": "1"}], "responses": [compose("", "2")]}
            request = urllib.request.Request(f"http://127.0.0.1:{port}/score", json.dumps(asked).encode())
            with urllib.request.urlopen(request, timeout=60) as answer:
                (told,) = json.loads(answer.read())["rewards"]
        finally:
            server.terminate()
    assert (told["value"], told["detail"]) == (0.5, "own: 7")


PLAN = f"""
base = "{BASE}"
board = "board.jsonl"
seeds = [0]
workers = 1
comparisons = [["own", "rules"]]
data = {{ rl = "rl_pool.jsonl" }}
grpo = {{ rounds = 1, prompts = 4, update_prompts = 4, group = 4, max_tokens = 24 }}
eval = {{ max_tokens = 24 }}
arms.rules = {{ stage = "grpo" }}
arms.own = {{ stage = "grpo", set = {{ reward = {{ custom = "rewards/mine.py:reward" }} }} }}
"""


def stages(folder: Path) -> dict[str, str]:
    """Stage -> when it finished."""
    return {str(p.parent.relative_to(folder)): read_json(p)["finished"] for p in folder.rglob("done.json")}


@pytest.mark.slow
def test_a_study_finds_it_from_its_child_processes_and_runs_again_what_used_it(world, capsys):
    (world / "plan.toml").write_text(PLAN)
    run("study", "@plan.toml", "--out", "s")
    before = stages(world / "s")
    assert paid(world / "s/arms/own/seed0/grpo") == {("ok", 0.5)}
    run("study", "@plan.toml", "--out", "s")
    assert stages(world / "s") == before, "nothing has changed, so nothing runs"
    (world / "rewards" / "mine.py").write_text(HALF.replace("0.5", "1.0"))
    run("study", "@plan.toml", "--out", "s")
    after = stages(world / "s")
    assert {name for name in before if before[name] != after[name]} == {"arms/own/seed0/grpo", "arms/own/seed0/eval"}
    (world / "rewards" / "mine.py").unlink()
    assert cli.main(["study", "@plan.toml", "--out", "s"]) == 2
    assert "plan.toml, arms.own.set.reward.custom: rewards/mine.py: file not found" in capsys.readouterr().err


def test_a_file_that_is_changed_is_loaded_again_and_its_hash_is_that_of_what_runs(world):
    name = "rewards/mine.py:reward"
    first, before = load_function(name, "reward"), hash_code(name)
    rewarder = Rewarder(RewardConfig(custom=name))
    question = Sample("1", "", (), "?", "7", "digit")
    (world / "rewards" / "mine.py").write_text(HALF.replace("0.5", "0.6"))  # as long, within the second
    second = load_function(name, "reward")
    assert first(question, "", "")[0] == 0.5 and second(question, "", "")[0] == 0.6 and hash_code(name) != before
    answer = compose("", "7")
    assert rewarder.score(question, answer).value == 0.5, "a run goes on with the code that it began with"
    assert Rewarder(RewardConfig(custom=name)).score(question, answer).value == 0.6


def test_a_module_that_is_changed_is_refused_in_the_same_process(world, monkeypatch):
    monkeypatch.syspath_prepend(str(world))
    (world / "own_module.py").write_text(HALF)
    load_function("own_module:reward", "reward")
    (world / "own_module.py").write_text(HALF + "# another\n")
    with pytest.raises(UserError, match="changed since it was imported. Start Python again"):
        hash_code("own_module:reward")
