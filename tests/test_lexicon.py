"""Cue counts: golden cases per preset."""

import subprocess
import sys
from pathlib import Path

import pytest

from seethink.core.errors import UserError
from seethink.traces.lexicon import PRESETS, content_hash, count, count_trace, find, load


@pytest.mark.parametrize(
    ("preset", "text", "expected"),
    [
        # plain scene words that the paper's substring rule flags and whole words do not
        ("paper", "The ladder leans against a checkered wall.", {"again": 1, "check": 1}),
        ("paper", "A waiter marks the checkbox.", {"wait": 1, "check": 1}),
        ("paper", "WAIT, let me double-check.", {"wait": 1, "double-check": 1, "check": 1}),
        ("paper", "I should confirm this. Alternatively, hmm.", {"i should confirm": 1, "alternatively": 1, "hmm": 1}),
        ("paper", "The circle is red.", {}),
        ("strict", "The ladder leans against a checkered wall; a waiter waits. Wait.", {}),
        (
            "strict",
            "Let me re-check and Double-Check, then think again.",
            {"re-check": 1, "double-check": 1, "think again": 1},
        ),
        ("strict", "I recheck; I rechecked.", {"recheck": 1}),
        ("strict", "go over\nthe steps", {"go over the steps": 1}),
        ("word", "Wait. Hmm, actually it is red.", {"wait": 1, "hmm": 1}),
        ("word", "They wait for the bus, hmm.", {}),
        ("word", 'Red.\nWait, no: "Hold on." (Actually, yes.)', {"wait": 1, "hold on": 1, "actually": 1}),
        ("word", "So - wait. Done — wait.", {"wait": 1}),
        ("word", "  hmm", {"hmm": 1}),
        ("word", "let me read. let me re-read. Let me check again.", {"let me re-read": 1, "let me check": 1}),
        ("word", "let me re-check this", {"let me re-check": 1}),
        ("broad", "But the buttons are rebutted; check the checkers.", {"but": 1, "check": 1}),
        ("broad", "double-check", {}),
    ],
)
def test_counts(preset, text, expected):
    assert count(text, load(preset)) == expected


def test_the_paper_preset_reads_the_answer_too_and_the_others_do_not():
    assert count_trace("It is red.", "Wait, blue.", load("paper")) == {"wait": 1}
    assert count_trace("It is red.", "Wait, blue.", load("broad")) == {}


def test_markers_know_their_place():
    text = "It is 3. Wait, 4."
    (marker,) = find(text, load("word"))
    assert text[marker.start : marker.end] == "Wait" and marker.cue == "wait"


def test_presets_load_and_are_lower_case():
    for preset in PRESETS:
        assert load(preset).patterns and load(preset).name == preset


def test_a_lexicon_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('cues = ["nochmal"]\nextends = "strict"\n')
    assert count("Nochmal: double check.", load(str(path))) == {"nochmal": 1, "double check": 1}


def test_bad_lexicons_are_named(tmp_path):
    with pytest.raises(UserError, match="paper, strict, word, broad"):
        load("papr")
    path = tmp_path / "mine.toml"
    path.write_text('cue = ["x"]\n')
    with pytest.raises(UserError, match="Did you mean cues"):
        load(str(path))
    path.write_text("")
    load.cache_clear()
    with pytest.raises(UserError, match="no cues"):
        load(str(path))


def test_a_lexicon_is_known_by_what_it_counts(tmp_path):
    """Its key is equal in every process, whatever the file is called, and sees the last of many cues."""
    cues = [f"cue number {n}" for n in range(40)]
    for name, words in (("a", cues), ("b", cues), ("c", [*cues[:-1], "another"])):
        (tmp_path / f"{name}.toml").write_text(f"cues = {words}\nsentence_start = ['wait', 'hmm', 'so', 'but']")
    a, b, c = (content_hash(str(tmp_path / f"{name}.toml")) for name in "abc")
    assert a == b != c
    script = "from seethink.traces.lexicon import content_hash; print(content_hash('broad'))"
    for seed in ("1", "2"):
        command, root = [sys.executable, "-c", script], Path(__file__).parents[1]
        run = subprocess.run(command, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}, cwd=root)
        assert run.stdout.strip() == content_hash("broad"), run.stderr
