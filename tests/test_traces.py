"""The trace analyser: golden traces, claims, truth of steps, and the verb on every kind of file."""

import random
import re

import pytest

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Kind, Sample, Score
from seethink.core.store import read_json, save_examples, save_samples, write_jsonl
from seethink.core.tables import read_table, write_table
from seethink.core.tags import compose
from seethink.traces import run as verb
from seethink.traces.analyse import agreement, analyse, count_words, hesitation_rate, repairs, split
from seethink.traces.conclusions import agree, conclusions
from seethink.traces.steps import Step, load_checker, locate
from seethink.traces.summary import summarise

DIGIT = Sample("s1", "test", (), "How many are left?", "3", "digit")


def shapes(kind: Kind) -> Sample:
    return Sample("s2", "test", (), "Which?", "B", kind, ("circle", "square", "cross"))


def sums(sample, thinking):
    """A checker for tests: `a + b = c`, each about the slot `a + b`; other sentences cannot be checked."""
    steps = []
    for text in filter(None, (t.strip() for t in thinking.split("."))):
        left, equals, right = text.rpartition("=")
        if equals:
            a, b = left.split()[-3::2]
            steps.append(Step(text, int(a) + int(b) == int(right), "sum", f"{a} + {b}"))
        else:
            steps.append(Step(text, None))
    return steps


NOT_A_FUNCTION = 3


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        (compose("a b", "7"), "a b", "7"),
        ("<think>never ends", "never ends", None),
        ("prefilled a</think><answer>7</answer>", "prefilled a", "7"),
        ("no tags at all", "no tags at all", None),
        ("hello <answer>7</answer>", "hello", "7"),
        ("<think>a <think> b</think>", "a <think> b", None),
        ("", "", None),
    ],
)
def test_split_takes_broken_completions_apart(text, thinking, answer):
    assert split(text) == (thinking, answer)


@pytest.mark.parametrize(
    ("thinking", "kind", "values"),
    [
        ("There are 5 balls. Subtracting two leaves 3 objects: the two red ones.", "digit", ["5", "3"]),
        ("I see 4 and 2 things.", "digit", []),
        ("7 - 4 = 3 . blue : 12 .", "digit", ["3", "12"]),
        ("So the answer is twelve.", "digit", ["12"]),
        ("The value 2.50 is it, so 2.5", "digit", ["2.5"]),
        ("The answer is (B). But option C is close.", "choice", ["B"]),
        ("red is A . blue is C .", "choice", ["A", "C"]),
        ("Therefore it is the square.", "choice", ["B"]),
        ("A circle is a shape.", "choice", []),
        ("Thus the equation is y = 2 x + 1.", "math", ["2x+1"]),
        ("x = 0 y = 1 . a line .", "math", []),
        ("wait , is it so ? i check it . 2 - 1 = 1 .", "math", []),
        ("So the answer is 5? No. The answer is 4.", "digit", ["4"]),
        ("At [0.1, 0.2, 0.5, 0.6] or (28, 36),( 52, 60).", "box", ["0.1,0.2,0.5,0.6", "28,36,52,60"]),
        ("So it shows a dog.", "open", []),
        ("So there are twenty-one of them. Hence one hundred and two.", "digit", ["21", "102"]),
        ("The total is 1,000. So it is 007.", "digit", ["1000", "7"]),
        ("So 5-3 is what is left.", "digit", []),
        ("The total is " + "9" * 5000, "digit", []),
        ("Corners (1, 2), (3, 4); size (5, 6) and centre (7, 8).", "box", ["1,2,3,4"]),
    ],
)
def test_conclusions(thinking, kind, values):
    assert [c.value for c in conclusions(thinking, shapes(kind))] == values


@pytest.mark.parametrize(
    ("claim", "answer", "kind", "expected"),
    [
        ("3", "There are 3 left.", "digit", True),
        ("3", "4", "digit", False),
        ("3", "many", "digit", None),
        ("B", "(b)", "choice", True),
        ("B", "square", "choice", True),
        ("B", "It is the square.", "choice", True),
        ("B", "C is correct", "choice", False),
        ("1000", "1,000", "digit", True),
        ("21", "twenty-one", "digit", True),
        ("B", "A or B", "choice", None),
        ("2x+1", "y = 1 + 2x", "math", True),
        ("2x+1", "2x+3", "math", False),
        ("2x+2", "2(x+1)", "math", None),
        ("1,2,3,4", "[1.0, 2, 3, 4]", "box", True),
        ("1,2,3,4", "[1, 2, 3, 9]", "box", False),
    ],
)
def test_claim_and_answer_agree_or_stay_undecided(claim, answer, kind, expected):
    assert agree(claim, answer, shapes(kind)) is expected


def test_markers_are_rates_over_the_part_their_lexicon_reads():
    stats = analyse(compose("Wait, one two three. Hmm, check it again.", "again"), DIGIT)
    assert stats.words == 8 and stats.markers == {"paper": 5, "strict": 0, "word": 2, "broad": 2}
    assert stats.per_100_words("word") == pytest.approx(25.0)
    assert stats.marked_words["paper"] == 9
    assert analyse("<think></think><answer>3</answer>").per_100_words("word") is None


def test_hesitation_is_that_of_the_thinking():
    """Two markers among eight words; the answer, its tags and a text without thinking add neither."""
    text = compose("Wait, one two three. Hmm, check it again.", "wait, wait: " + "long " * 30)
    assert hesitation_rate([text]) == pytest.approx(25.0) == analyse(text).per_100_words("word")
    assert hesitation_rate([text, compose("a b c d e f g h", "3"), compose("", "hmm")]) == pytest.approx(12.5)
    assert hesitation_rate([]) == hesitation_rate([compose("", "3")]) == 0.0


def test_a_hesitation_revises_or_is_a_pseudo_aha():
    text = compose("So there are 4. Wait, hold on. Hmm, so there are 3. Hmm, so there are 3. Actually, fine.", "3")
    stats = analyse(text, DIGIT)
    assert (stats.hesitations, stats.revisions, stats.pseudo_ahas) == (4, 1, 3)
    assert stats.agrees is True
    nothing_said = analyse(compose("Wait. Hmm.", "3"), DIGIT)
    assert (nothing_said.hesitations, nothing_said.revisions, nothing_said.pseudo_ahas) == (2, None, None)


def test_truth_of_steps():
    think = "I look. 1 + 1 = 3. Hmm, 2 + 2 = 4. Wait, 1 + 1 = 2. 3 + 3 = 7"
    stats = analyse(compose(think, "3"), DIGIT, sums, ok=True)
    assert (stats.steps, stats.true_steps, stats.false_steps, stats.repaired, stats.first_wrong) == (5, 2, 2, 1, 1)
    assert stats.true_share == 0.5 and stats.undecidable_share == pytest.approx(0.2)
    assert stats.before_wrong == pytest.approx(think.index("1 + 1 = 3") / len(think))
    assert stats.lucky is True
    assert stats.revisions == 1
    assert analyse(compose(think, "3"), DIGIT, sums, ok=False).lucky is False
    assert analyse(compose(think, "3"), DIGIT, sums).lucky is None
    assert analyse(compose("I look", "3"), DIGIT, sums, ok=True).lucky is None
    assert analyse(compose(think, "3"), DIGIT).true_share is None
    right = analyse(compose("1 + 1 = 2", "3"), DIGIT, sums)
    assert (right.first_wrong, right.before_wrong) == (None, None)


def test_a_false_statement_whose_words_are_not_kept_has_no_place():
    stats = analyse(compose("1 + 1 = 3", "3"), DIGIT, lambda *_: [Step("in other words", False)])
    assert (stats.first_wrong, stats.before_wrong) == (0, None)


@pytest.mark.parametrize(
    ("thinking", "answer", "expected"),
    [("So there are 3.", "3", True), ("So there are 4. Hmm, so there are 3.", "4", False), ("Hmm.", "3", None)],
)
def test_agreement_alone_is_that_of_the_whole_analysis(thinking, answer, expected):
    text = compose(thinking, answer)
    assert agreement(text, DIGIT) is expected is analyse(text, DIGIT).agrees


def test_a_repair_needs_the_same_slot_and_comes_later():
    wrong, right, other = Step("w", False, slot="a"), Step("r", True, slot="a"), Step("o", True, slot="b")
    assert repairs([wrong, other, right]) == [True, False, False]
    assert repairs([right, wrong, other]) == [False, False, False]
    assert repairs([Step("w", False), Step("r", True)]) == [False, False]


def test_steps_are_located_in_order():
    steps = [Step(text, None) for text in ("a", "a", "gone", "b")]
    assert locate("a b a", steps) == [(0, 1), (4, 5), None, None]


def test_repeated_ngrams():
    assert analyse(compose("a b c d", "")).repeated == 0.0
    assert analyse(compose("a b c d, A b c d!", "")).repeated == pytest.approx(1 / 5)
    assert analyse(compose("too short", "")).repeated == 0.0


def test_truncation():
    assert analyse("<think>a b").truncated and analyse(compose("a", "b"), stop="length").truncated
    assert not analyse(compose("a", "b")).truncated


def test_summary_says_how_many_are_decided():
    long, short = compose("one two three", "3"), compose("one", "4")
    traces = [analyse(long, DIGIT, ok=True), analyse(short, DIGIT, ok=False), analyse("x")]
    summary = summarise(traces)
    assert summary["ok"]["mean"] == 0.5 and summary["ok"]["n"] == 2 and summary["ok"]["interval"][1] > 0.9
    assert summary["agrees"] == {"mean": None, "n": 0, "interval": None}
    assert summary["length"]["right"]["mean"] == 3 and summary["length"]["correlation"] == pytest.approx(1.0)
    assert summarise([])["words"] == {"mean": None, "n": 0, "interval": None}


@pytest.mark.parametrize(
    "name",
    ["nonsense", "a:", ":b", "no_such_module_xyz:f", "tests.test_traces:absent", "tests.test_traces:NOT_A_FUNCTION"],
)
def test_a_checker_that_does_not_exist_is_a_user_error(name):
    with pytest.raises(UserError, match=r"checker|function"):
        load_checker(name)


def test_a_checker_is_found_by_name():
    assert load_checker("tests.test_traces:sums")(DIGIT, "1 + 1 = 2")[0].truth is True


@pytest.fixture
def board(tmp_path):
    samples = [Sample(f"s{i}", "test", (), f"How many are left of {i}?", str(i), "digit") for i in range(4)]
    save_samples(tmp_path / "board.jsonl", samples)
    texts = [compose("Wait. 1 + 1 = 3. So it is 2", str(i)) for i in range(4)]
    scores, rollouts = [], []
    for i, text in enumerate(texts):
        part, reward = "iid" if i < 2 else "ood", float(i == 2)
        scores.append(Score("b", part, f"s{i}", "digit", i == 2, reward, "ok", str(i), text, "stop", 9, 0.1))
        row = {"round": 1 + i // 2, "sample_id": f"s{i}", "text": text, "stop": "stop", "tokens": 9, "reward": reward}
        rollouts.append({**row, "entropy": 0.1 * i})
    write_table(tmp_path / "scores.parquet", scores)
    write_table(tmp_path / "rollouts.parquet", rollouts)
    write_jsonl(tmp_path / "traces.jsonl", ({"sample_id": f"s{i}", "text": text} for i, text in enumerate(texts)))
    save_examples(tmp_path / "sft.jsonl", [Example(s, t) for s, t in zip(samples, texts, strict=True)])
    return tmp_path


@pytest.mark.parametrize("name", ["scores.parquet", "rollouts.parquet", "traces.jsonl", "sft.jsonl"])
def test_the_verb_reads_every_kind_of_file(board, name):
    samples, checker = board / "board.jsonl", "tests.test_traces:sums"
    config = verb.TracesConfig(out=board / "out", input=board / name, samples=samples, checker=checker)
    verb.run(config)
    rows, summary = read_table(board / "out/traces.parquet"), read_json(board / "out/done.json")["summary"]
    assert [r["sample_id"] for r in rows] == ["s0", "s1", "s2", "s3"] and rows[0]["false_steps"] == 1
    assert summary["all"]["traces"] == 4 and summary["all"]["true_share"]["mean"] == 0.0
    assert summary["all"]["ok"]["n"] == (4 if name.endswith("parquet") else 0)
    assert set(summary["groups"]) == {"scores.parquet": {"iid", "ood"}, "rollouts.parquet": {"1", "2"}}.get(name, set())
    if name == "rollouts.parquet":
        assert summary["entropy_first"]["mean"] == pytest.approx(0.05)
    verb.run(config)  # the same again does nothing and fails nothing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "absent.parquet"}, "not found"),
        ({"input": "board.jsonl"}, "sample_id"),
        ({"input": "notes.txt"}, "cannot read traces"),
        ({"checker": "tests.test_traces:sums", "samples": None}, "samples"),
        ({"lexicons": ("nonsense",)}, "unknown lexicon"),
        ({"samples": "other.jsonl"}, "have no sample"),
    ],
)
def test_bad_input_is_named(board, changes, message):
    (board / "notes.txt").write_text("hello")
    save_samples(board / "other.jsonl", [Sample("else", "test", (), "q", "1", "digit")])
    values = {"out": board / "out", "input": board / "scores.parquet", "samples": board / "board.jsonl"} | changes
    values |= {k: board / v for k, v in values.items() if k in ("input", "samples") and isinstance(v, str)}
    with pytest.raises(UserError, match=message):
        verb.run(verb.TracesConfig(**values))


def test_a_dry_run_writes_nothing(board, capsys):
    verb.run(verb.TracesConfig(out=board / "out", input=board / "scores.parquet"), dry_run=True)
    assert "4 traces" in capsys.readouterr().out and not (board / "out").exists()


def test_a_folder_in_place_of_its_file_is_answered_with_its_files(board):
    with pytest.raises(UserError, match=r"this is a folder. Give a file in it: .*scores\.parquet"):
        verb.run(verb.TracesConfig(out=board / "out", input=board))


def test_words_are_counted_as_the_pattern_finds_them():
    """Without it where there is a shorter way; every character that bounds or joins words turns up."""
    chance, pattern = random.Random(0), re.compile(r"\w[\w'’-]*")
    texts = ["".join(chance.choices("ab_1 -'’.\n\x1c\té²", k=chance.randrange(40))) for _ in range(3000)]
    for text in (*texts, "", "--", " -- x", "a - b", "'tis", "rock-'n'-roll", "word " * 1000):
        assert count_words(text) == len(pattern.findall(text)), text
