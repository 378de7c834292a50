"""How well lexicons find hesitation: labels of the simulated teachers, counts by plain loops, and files that say what was measured."""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from seethink.pocket.lexicons import HESITATES, STATEMENT, check_lexicons, check_revisions, labelled, teacher_traces
from seethink.pocket.questions import sections
from seethink.show.trace_panel import trace_panel
from seethink.study.folder import load_study
from seethink.traces.analyse import split
from seethink.traces.lexicon import PRESETS, load
from tests import synthetic_study

ROOT = Path(__file__).parents[1]
PAPER = ("wait", "again", "double-check", "hmm", "mistake", "alternatively", "check", "i should confirm")


@pytest.fixture(scope="module")
def traces():
    return teacher_traces(seed=7, questions=40)


def test_every_sentence_has_a_label_and_nothing_is_lost(traces):
    for example in traces:
        thinking = split(example.completion)[0]
        parts = [(thinking[start:end], label) for start, end, label in labelled(thinking)]
        assert " ".join(text for text, _ in parts) == thinking
        for text, label in parts:
            known = [name for name, lines in sections("fillers").items() if text in lines]
            assert label == (known[0] if known else STATEMENT)
            assert text.endswith(" .") and (known or text.count(" .") == 1), "one statement at a time"


def test_what_no_teacher_ends_is_one_sentence():
    assert list(labelled("wait , let me look again . red : 3")) == [(0, 26, "doubt"), (27, 34, STATEMENT)]
    assert list(labelled("")) == []


def test_found_sentences_are_those_of_plain_loops(traces):
    """The paper's rule is substrings of lower-cased text, so a sentence is found where it holds one."""
    found, sentences = Counter(), Counter()
    for example in traces:
        thinking = split(example.completion)[0]
        for start, end, label in labelled(thinking):
            sentences[label] += 1
            found[label] += any(cue in thinking[start:end].lower() for cue in PAPER)
    paper = next(one for one in check_lexicons(traces) if one.name == "paper")
    assert paper.found == found and paper.sentences == sentences and sentences["doubt"] > 20 < sentences[STATEMENT]
    right, hesitating = (sum(counts[label] for label in HESITATES) for counts in (found, sentences))
    assert paper.precision and paper.precision.estimate == right / sum(found.values())
    assert paper.recall and paper.recall.estimate == right / hesitating


def test_without_sentences_nothing_is_measured():
    assert [(one.precision, one.recall) for one in check_lexicons([])] == [(None, None)] * len(PRESETS)


def test_revisions_are_those_that_the_teachers_made(traces):
    check = check_revisions(traces)
    made = sum(split(e.completion)[0].count(line) for e in traces for line in sections("fillers")["fix"])
    assert check.revisions[0] == made > 10
    assert 0.8 * made < check.revisions[1] <= made, "most are counted, and nothing else is"


def test_the_page_and_the_lexicons_say_what_was_measured():
    sys.path.insert(0, str(ROOT / "docs"))
    from render import traces_page

    page, files = traces_page()
    again = "render it: python docs/render.py"
    assert (ROOT / "docs" / "traces.md").read_text(encoding="utf-8") == page, again
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, again
        stated = tomllib.loads(text)
        used = load(path.stem)
        assert (used.precision, used.recall) == (stated["precision"], stated["recall"])


def test_the_panel_counts_and_says_how_well_its_lexicons_find(tmp_path):
    study = load_study(synthetic_study.build(tmp_path, seeds=(0,), items=30, steps=12))
    rows = {row.name: row for row in trace_panel(study, synthetic_study.check).rows}
    word = load("word")
    note = f"on simulated teachers precision {word.precision:.2f}, recall {word.recall:.2f}"
    assert rows["Hesitation markers"].note.endswith(note)
    texts = [score.text for run in study.arms["base"].of("eval") for score in run.scores]
    samples = [study.board[score.sample_id] for run in study.arms["base"].of("eval") for score in run.scores]
    steps = [synthetic_study.check(s, split(t)[0]) for s, t in zip(samples, texts, strict=True)]
    counted = rows["True statements"].values["base"]
    assert counted and counted.estimate == pytest.approx(sum(x.truth is True for s in steps for x in s) / len(steps))
    first = [next((i for i, x in enumerate(s, 1) if x.truth is False), 0) for s in steps]
    place = rows["First false statement"].values["base"]
    assert place and place.estimate == pytest.approx(sum(first) / sum(map(bool, first)))
    assert rows["Revisions"].values["base"] and rows["Repairs"].values["base"]


def test_a_lexicon_that_nobody_measured_says_so(tmp_path):
    (tmp_path / "mine.toml").write_text('cues = ["hmm"]\n')
    assert load(str(tmp_path / "mine.toml")).precision is None
