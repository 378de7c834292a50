"""Cue counts: golden cases per preset."""

import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethink.core.errors import UserError
from seethink.traces.lexicon import EQUAL, PRESETS, Marker, content_hash, count, count_trace, find, load


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


def by_pattern(text, lexicon):
    """What the patterns find without any help."""
    found = [m for pattern in lexicon.patterns for m in pattern.finditer(text)]
    markers = [Marker(m.start(), m.end(), " ".join(m[0].lower().split())) for m in found]
    return sorted(markers, key=lambda marker: (marker.start, -marker.end))


PIECES = [
    "wait", "WA\u0130T", "wa\u0131t", "Check", "chec\u212a", "double-check", "re-check", "re-", "let me", "go", "over the", "steps", "\u017fteps",
    "hmm", "hold on", "against", " ", " ", "\n", "  ", "-", ". ", "a", "\u03a3", "\xdf", "\ufb03", "again",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from(PRESETS))
def test_the_quick_search_finds_what_the_patterns_find(pieces, preset):
    text, lexicon = "".join(pieces), load(preset)
    found = find(text, lexicon)
    assert [m for m in found if m.cue not in lexicon.sentence_start] == [
        m for m in by_pattern(text, lexicon) if m.cue not in lexicon.sentence_start
    ]


def test_cues_of_any_script_and_with_a_leading_star_are_found(tmp_path):
    (tmp_path / "own.toml").write_text('cues = ["ÉTAPE", "*check", "等"]')
    text = "étape, Recheck! 等 étapes"
    lexicon = load(str(tmp_path / "own.toml"))
    assert [m.cue for m in find(text, lexicon)] == ["étape", "recheck", "等"]
    assert find(text, lexicon) == by_pattern(text, lexicon)


def test_what_equals_an_ascii_letter_without_case_is_known():
    """Of all characters, as the patterns see them."""
    letters = re.compile("[a-z]", re.IGNORECASE)
    others = {c for c in map(chr, range(0x110000)) if letters.fullmatch(c)} - set(string.ascii_letters)
    assert others == {chr(c) for c in EQUAL}
    assert all(re.fullmatch(equal, chr(c), re.IGNORECASE) for c, equal in EQUAL.items())
