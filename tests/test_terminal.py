"""Text of strangers on a terminal, in a table and in Markdown: shown, and nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from seethink import cli
from seethink.core.progress import progress
from seethink.core.terminal import CleanStream, clean, clean_output, console, one_line
from seethink.show.pages import fenced, markdown_text

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢 😀\tand\nlines", "plain ü 漢 😀\tand\nlines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x9b31mred", "red"),  # C1
        ("\x1b]0;title\x07rest", "rest"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d0;title\x9crest", "rest"),
        ("\x1bPdcs\x1b\\rest", "rest"),
        ("\x1b]never ended", "never ended"),
        ("\x1b\x1b[31m[31mnested", "[31mnested"),
        ("\x1bcreset", "reset"),
        ("over\rwritten\x08\x07\x00\x7f\x85", "overwritten"),
        ("crlf\r\n", "crlf\n"),
        ("a\u202eb\u2066c\u2069\u200e", "abc"),
        ("\ud800", "?"),
    ],
)
def test_what_steers_a_terminal_is_gone(text, shown):
    assert clean(text) == shown


def test_one_line_is_one():
    assert one_line("a\nb\r\nc\u2028d\x85e\x1b[0m") == "a b c d e"


def test_whatever_is_printed_is_clean(capsys):
    with clean_output():
        print("\x1b[31mout\x1b[0m")
        print("\u202eerr", file=sys.stderr)
        sys.stderr.writelines(["\r 50%\x1b[A", "\n"])  # a bar of somebody else's
    assert capsys.readouterr() == ("out\n", "err\n\r 50%\n")


def test_what_a_stream_cannot_encode_is_spelt():
    buffer = io.BytesIO()
    stream = CleanStream(io.TextIOWrapper(buffer, encoding="ascii"))
    assert stream.write("−1\ud800") == 3
    stream.flush()
    assert buffer.getvalue() == b"\\u22121?"


def test_an_error_is_clean_whatever_it_quotes(capsys):
    assert cli.main(["report", "no\x1b]0;x\x07\x1b[31m\u202ewhere[/red]"]) == 2
    assert capsys.readouterr().err.startswith("seethink: nowhere[/red]: ")


def test_markup_in_a_table_is_text():
    stream, table = io.StringIO(), Table("arm[/red]")
    table.add_row("[bold]x[/nothing] :smile:")
    console(stream, width=80).print(table)
    assert "arm[/red]" in stream.getvalue() and "[bold]x[/nothing] :smile:" in stream.getvalue()


def test_markup_in_a_bar_is_text(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", CleanStream(stream))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress("study", 2) as bar:
        bar.advance(text="arm[/red]\x1b]0;x\x07 seed 0")
    assert "arm[/red] seed 0" in stream.getvalue() and "\x1b]" not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("sft-hesitant+grpo 1.5", "sft-hesitant+grpo 1.5"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("a|b\nc", "a\\|b c"),
        ("[x](javascript:y)", "\\[x\\]\\(javascript:y)"),
        ("![x](y)", "!\\[x\\]\\(y)"),
        ("`*_~$\\", "\\`\\*\\_\\~\\$\\\\"),
        ("http://x www.x a@b", "http\\://x www\\.x a\\@b"),
        ("# x", "\\# x"),
        ("- x", "\\- x"),
        ("12. x", "12\\. x"),
        ("-1.5", "-1.5"),
        ("\x1b[31mred", "red"),
    ],
)
def test_markdown_shows_the_text(text, markdown):
    assert markdown_text(text) == markdown
    assert markdown_text(markdown_text(text)) == markdown


@pytest.mark.parametrize("text", ["a\n```\n# b", "<script>x</script>"])
def test_a_block_of_code_ends_where_it_ends(text):
    assert fenced("seethink study") == "```\nseethink study\n```"
    assert fenced(text).startswith("<pre><code>") and "<script>" not in fenced(text)


def test_modules_of_the_current_folder_do_not_stand_in(tmp_path):
    """`python -m seethink` in a stranger's folder runs none of the code there."""
    for name in ("jinja2", "rich", "numpy", "pydantic", "yaml"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "seethink", "view", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("seethink: .: nothing to look at"), done.stderr
    assert not (tmp_path / "ran").exists()
