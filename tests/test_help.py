"""What the command line says of itself: sections, the keys that matter first, groups, shipped files, words to complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from seethink import cli, help
from seethink.core.config import describe, resolve
from seethink.core.shipped import SHIPPED

CLASSES = {verb: cli.load(settings) for verb, (settings, _, _) in cli.VERBS.items()}


def said(capsys, *arguments: str) -> str:
    assert cli.main(list(arguments)) == 0
    return capsys.readouterr().out


def test_every_verb_stands_in_one_section(capsys):
    named = [verb for names in help.SECTIONS.values() for verb in names]
    assert sorted(named) == sorted(cli.VERBS)
    text = said(capsys, "--help")
    assert all(sum(line.startswith(f"  {verb}  ") for line in text.splitlines()) == 1 for verb in cli.VERBS)
    assert help.CODES in text
    assert said(capsys, "help") == text == said(capsys)


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_help_all_documents_every_key(capsys, verb):
    text, keys = said(capsys, *verb.split(), "--help-all"), dict(describe(CLASSES[verb]))
    assert all(f"  --{key} " in text for key in keys)
    assert all(doc for _, _, doc in keys.values()), "every key has a doc line"
    assert all(title.partition(": ")[2] for title, _ in help._parts(CLASSES[verb], keys) if title), (
        "every part says what it is"
    )


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_help_shows_what_matters_first_and_names_the_rest(capsys, verb):
    text, keys = said(capsys, "help", *verb.split()), dict(describe(CLASSES[verb]))
    assert text == said(capsys, *verb.split(), "--help")
    needed = [key for key, (_, default, _) in keys.items() if default == "required"]
    assert all(f"\n  --{key} " in text for key in needed)
    assert not set(CLASSES[verb].first.split()) - set(keys), "keys that matter first are keys"
    assert len(keys) > help.FEW or all(f"\n  --{key} " in text for key in keys)
    assert len(CLASSES[verb].first.split() or [k for k in keys if "." not in k]) <= help.FEW
    for key in (key for key in keys if "." not in key):
        assert f"--{key} " in text or f" {key}" in text, key


@pytest.mark.parametrize("words", [("reward", "--help"), ("help", "reward"), ("reward", "-h"), ("help", "pocket")])
def test_a_group_lists_its_verbs(capsys, words):
    group = next(word for word in words if word not in ("help", "-h", "--help"))
    text = said(capsys, *words)
    assert [line.split()[1] for line in text.splitlines() if line.startswith(f"  {group} ")] == [
        verb.split()[1] for verb in cli.VERBS if verb.startswith(f"{group} ")
    ]


def test_a_verb_names_those_that_go_on_from_its_word(capsys):
    assert "See also: eval compare, eval table, eval judge-check." in said(capsys, "eval", "--help")
    assert "See also" not in said(capsys, "grpo", "--help")


def test_help_for_what_is_no_verb(capsys):
    assert cli.main(["help", "grppo"]) == 2
    assert "Did you mean grpo?" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_lines_fit_the_terminal(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["--help"], ["grpo", "--help"], ["grpo", "--help-all"], ["help", "files"]):
        rows = [line for line in said(capsys, *words).splitlines() if line.startswith("  ")]
        assert max(map(len, rows)) <= max(60, min(columns, 120)), words


def test_shipped_files_are_named_and_found_from_anywhere(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = said(capsys, "help", "files")
    assert all(
        f"@{name}" in text for name in ("paper/grpo.toml", "one_gpu/sft-lora-24.toml", "studies/pocket/main.toml")
    )
    needed = ["--out", "o", "--data", "d", "--model.path", "m"]
    assert resolve(CLASSES["grpo"], ["@paper/grpo.toml", *needed]).rounds == 49
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "grpo.toml").write_text("rounds = 3")
    assert resolve(CLASSES["grpo"], ["@paper/grpo.toml", *needed]).rounds == 3, "a file that lies here goes first"
    assert cli.main(["grpo", "@paper/gpro.toml", *needed]) == 2
    assert (
        "paper/gpro.toml: config file not found. Did you mean @paper/grpo.toml, which is shipped?"
        in capsys.readouterr().err
    )


def test_a_shipped_system_prompt_reaches_the_model_from_anywhere(tmp_path, monkeypatch):
    from seethink.train.config import system_prompt

    monkeypatch.chdir(tmp_path)
    config = resolve(CLASSES["sft"], ["@paper/sft.toml", "--out", "o", "--data", "d", "--model.path", "m"])
    assert system_prompt(config.model) == (SHIPPED / "paper" / "system.txt").read_text().strip()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("gr", ["grpo"]), ("eval ", ["compare", "judge-check", "table"]), ("reward s", ["score", "serve"]),
        ("help gr", ["grpo"]), ("grpo --model.dt", ["--model.dtype"]), ("grpo --model.dtype ", ["auto", "float32", "bfloat16"]),
        ("grpo --skip-bad f", ["false"]), ("grpo @one_gpu/grpo-f", ["@one_gpu/grpo-full-80.toml"]), ("grpo --dry", ["--dry-run"]),
        ("grpo --data x", []), ("nonsense --d", []), ("eval compare --o", ["--other", "--out"]),
    ],
)  # fmt: skip
def test_words_to_complete(typed, found):
    assert list(help.words(cli.VERBS, typed.split(" "), CLASSES.get)) == found


@pytest.mark.parametrize("shell", sorted(help.SCRIPTS))
def test_a_shell_completes(shell, tmp_path, capsys):
    """The script as the shell itself runs it."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    program = tmp_path / "seethink"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m seethink "$@"\n')
    program.chmod(0o755)
    script = said(capsys, "completion", shell)
    asked = {
        "bash": "COMP_LINE='seethink grpo @paper/gr' COMP_POINT=99 && _seethink && echo \"${COMPREPLY[@]}\"",
        "zsh": "",
        "fish": 'complete -C "seethink grpo @paper/gr"',
    }[shell]
    before = "compdef() { :; };" if shell == "zsh" else ""
    after = (
        "words=(seethink grpo @paper/gr) CURRENT=3; compadd() { print -- $@[2,-1] }; _seethink"
        if shell == "zsh"
        else asked
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, "-c", f"{before}\n{script}\n{after}"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.split() == ["@paper/grpo.toml"], done.stderr


def test_completion_needs_a_shell(capsys):
    assert cli.main(["completion"]) == 2
    assert "bash | fish | zsh" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pocket/base", "pocket/base-b", "pocket/zero"])
def test_the_shipped_models_are_named_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    needed = ["--out", "o", "--data", "d", "--model.path", name]
    assert (resolve(CLASSES["grpo"], needed).model.path / "model.safetensors").is_file()
    (tmp_path / name).mkdir(parents=True)
    assert str(resolve(CLASSES["grpo"], needed).model.path) == name, "a folder that lies here goes first"
