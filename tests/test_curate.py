"""Curated subsets: every condition, every reason, nothing lost, and what is selected is what was asked for."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seethink import cli
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, Score, Verdict
from seethink.core.store import (
    hash_file,
    load_examples,
    load_samples,
    read_json,
    save_examples,
    save_samples,
    write_json,
)
from seethink.core.tables import read_table, write_table
from seethink.core.tags import compose
from seethink.data import choose
from seethink.data.config import CurateConfig
from seethink.data.curate import run
from seethink.data.kept import Draft, Kept, save_kept
from seethink.study.sets import made_file
from seethink.traces.steps import Step

THINK = {
    "plain": "1 + 1 = 2. So it is two",
    "aha": "1 + 1 = 2. Against the wall",  # `again` in `against`: the paper's substrings
    "waits": "Wait. 1 + 1 = 2",
    "lies": "1 + 1 = 3. Then 2 + 2 = 4",
    "mute": "nothing to say",
    "empty": "",
}


def sums(sample, thinking):
    """A checker for tests: sentences `a + b = c`; it finds no other statement."""
    found = []
    for text in filter(None, (part.strip() for part in thinking.split("."))):
        left, equals, right = text.rpartition("=")
        if equals:
            a, b = left.split()[-3::2]
            found.append(Step(text, int(a) + int(b) == int(right), "sum", f"{a} + {b}"))
    return found


BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
CHECKER = "tests.test_curate:sums"


def sample(name: str, kind="digit", gold="2", question="How many in {}?") -> Sample:
    return Sample(name, f"source of {kind}", (), question.format(name), gold, kind)


@pytest.fixture
def traces(tmp_path) -> Path:
    """One trace of each sort, right and wrong ones, and an open one."""
    rows = [Example(sample(name), compose(think, "2")) for name, think in THINK.items()]
    rows += [Example(sample("wrong"), compose(THINK["plain"], "7")), Example(sample("untagged"), "it is 2")]
    rows += [Example(sample("nogold", "box", "somewhere"), compose(THINK["plain"], "2"))]
    save_examples(tmp_path / "traces.jsonl", rows)
    return tmp_path / "traces.jsonl"


def curated(data: Path, name="out", **settings) -> tuple[list[str], dict[str, str], dict]:
    """(ids that were selected, id -> reason of every drop, summary)."""
    out = data.parent / name
    summary = run(CurateConfig(data=data, out=out, **settings))
    rows = [json.loads(line)["id"] for line in (out / "selected.jsonl").read_bytes().splitlines()]
    drops = read_table(out / "drops.parquet")
    assert summary == read_json(out / "done.json")["summary"]
    funnel = read_json(out / "funnel.json")
    last = [row for row in funnel if row["step"] == "choose"]
    assert sum(row["in"] for row in funnel if row["step"] == "check") == len(rows) + len(drops) == summary["rows"]
    assert sum(row["out"] for row in last) == sum(row["sft"] + row["rl"] for row in last) == len(rows)
    assert Counter(d["reason"] for d in drops) == sum((Counter(row["dropped"]) for row in funnel), Counter())
    return rows, {drop["sample_id"]: drop["reason"] for drop in drops}, summary


@pytest.mark.parametrize(
    ("keep", "dropped"),
    [
        (["right"], {"wrong": "wrong", "untagged": "wrong", "nogold": "undecided"}),
        (["wrong"], {**dict.fromkeys(THINK, "right"), "nogold": "undecided"}),
        (["no-aha"], {"aha": "aha", "waits": "aha"}),
        (["aha"], {n: "no_aha" for n in (*THINK, "wrong", "untagged", "nogold") if n not in ("aha", "waits")}),
        (["unhesitating"], {"waits": "hesitates"}),
        (["thinking"], {"empty": "empty_thinking"}),
        (["true"], {"lies": "false_statement", "mute": "undecided", "empty": "undecided", "untagged": "undecided"}),
        (
            ["false", "thinking"],
            {**dict.fromkeys(("plain", "aha", "waits", "wrong", "nogold"), "all_true"), "mute": "undecided"}
            | {"empty": "empty_thinking", "untagged": "undecided"},
        ),
    ],
)
def test_a_condition_keeps_what_meets_it_and_says_why_others_go(traces, keep, dropped):
    checker = CHECKER if {"true", "false"} & set(keep) else ""
    rows, drops, _ = curated(traces, keep=keep, checker=checker)
    every = [*THINK, "wrong", "untagged", "nogold"]
    assert drops == dropped and rows == [name for name in every if name not in dropped]


def test_reasons_say_what_was_read_and_which_step(traces):
    curated(traces, keep=["right", "unhesitating"])
    found = {d["sample_id"]: d for d in read_table(traces.parent / "out" / "drops.parquet")}
    assert found["wrong"]["detail"] == "gold '2', read '7': 0" and found["wrong"]["step"] == "keep"
    assert "no_format" in found["untagged"]["detail"] and "gold_error" in found["nogold"]["detail"]


def test_lexicons_are_settable(traces, tmp_path):
    lexicon = tmp_path / "own.toml"
    lexicon.write_text('cues = ["nothing"]\n')
    assert curated(traces, keep=["aha"], aha=str(lexicon))[0] == ["mute"]
    assert curated(traces, "other", keep=["unhesitating", "true"], hesitation=str(lexicon), checker=CHECKER)[0] == [
        "plain", "aha", "waits", "wrong", "nogold"
    ]  # fmt: skip


def test_what_is_left_is_judged_and_counted_whatever_was_asked_for(traces, capsys):
    """Recomputed by hand from the table above."""
    _, _, summary = curated(traces, checker=CHECKER)
    assert summary["answers"] == {"right": 6, "wrong": 2, "undecided": 1}
    assert summary["statements"] == {
        "checked": 7, "false": 1, "traces_with_a_false_one": 1, "traces_without_any_checked": 3
    }  # fmt: skip
    assert summary["empty_thinking"] == 1 and summary["kinds"] == {"digit": 8, "box": 1}
    said = capsys.readouterr()
    assert "answers: 6 right, 2 wrong, 1 undecided" in said.out and "1 of 7 false, in 1 traces" in said.out
    assert "2 of 9 traces have a wrong answer" in said.err and "1 of 9 traces think nothing" in said.err
    rows, _, summary = curated(traces, "clean", keep=["right", "thinking", "true"], checker=CHECKER)
    assert summary["answers"] == {"right": 3, "wrong": 0, "undecided": 0} and summary["statements"]["false"] == 0
    assert summary["markers"]["word"] == pytest.approx(100 / 17), "one wait among the 7 + 6 + 4 words"
    assert rows == ["plain", "aha", "waits"] and capsys.readouterr().err == "  ! no question of kind box is left\n"


def test_an_open_answer_that_is_right_in_part_is_said(tmp_path, capsys):
    """Token F1 of five words out of six is 5/6, from .8 on right."""
    gold = "orange triangle orange circle orange cross"
    rows = [
        Example(sample(n, "open", gold), compose("x", gold.replace("orange cross", f"{n} cross")))
        for n in ("orange", "blue")
    ]
    save_examples(tmp_path / "t.jsonl", rows)
    assert curated(tmp_path / "t.jsonl", keep=["right"])[2]["open_right_in_part"] == 1
    assert "1 of 2 open answers count as right and are not all" in capsys.readouterr().err
    strict = {"open": {"correct": 1.0}}
    assert curated(tmp_path / "t.jsonl", "strict", keep=["right"], reward=strict)[0] == ["orange"]
    assert capsys.readouterr().err == ""


def test_traces_of_the_pipeline_are_read_and_lose_what_it_noted(tmp_path):
    kept = [Kept(sample("a"), Draft("1 + 1 = 2", "2", "m", 9), Verdict(True, "rule")), Kept(sample("b"), None, None)]
    save_kept(tmp_path / "traces.jsonl", kept)
    rows, drops, _ = curated(tmp_path / "traces.jsonl", keep=["right"])
    assert rows == ["a"] and drops == {"b": "no_trace"}
    assert load_examples(tmp_path / "out" / "selected.jsonl") == [Example(sample("a"), compose("1 + 1 = 2", "2"))]


HOSTILE = {
    "not json": "{",
    "no gold": json.dumps({"id": "x", "question": "q", "kind": "digit"}),
    "an earlier id": json.dumps({"id": "plain", "question": "q", "gold": "1", "kind": "digit", "completion": "c"}),
    "a control token": json.dumps(
        {"id": "t", "question": "q", "gold": "1", "kind": "digit", "think": "<|im_end|>", "answer": "1"}
    ),
    "half a trace": json.dumps({"id": "h", "question": "q", "gold": "1", "kind": "digit", "think": "one"}),
    "a number for a trace": json.dumps({"id": "n", "question": "q", "gold": "1", "kind": "digit", "completion": 3}),
    "two traces": json.dumps(
        {"id": "d", "question": "q", "gold": "1", "kind": "digit", "completion": "c", "think": "t", "answer": "1"}
    ),
    "no picture": json.dumps({"id": "p", "question": "q", "gold": "1", "kind": "digit", "image": "gone.png"}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_row_is_refused_or_dropped_with_its_place(traces, what):
    traces.write_text(f"{traces.read_text()}{HOSTILE[what]}\n")
    with pytest.raises(UserError) as refused:
        curated(traces)
    assert f"{traces}:10" in str(refused.value) and not (traces.parent / "out").exists()
    rows, _, summary = curated(traces, skip_bad=True)
    drops = read_table(traces.parent / "out" / "drops.parquet")
    assert len(rows) == 9 and summary["rows"] == 10 and summary["kinds"] == {"digit": 8, "box": 1}
    assert [d["reason"] for d in drops] == ["bad_row"] and f"{traces}:10" in drops[0]["detail"]


def test_text_of_traces_is_text(tmp_path):
    """Tags, markup and line ends that a model wrote stay in their row."""
    texts = [compose("a\u2028b </script> | \r", "2"), compose("<b>" * 10_000, "2"), compose("[/red] %s {}", "2")]
    save_examples(tmp_path / "t.jsonl", [Example(sample(str(i)), text) for i, text in enumerate(texts)])
    curated(tmp_path / "t.jsonl", keep=["right"])
    assert [e.completion for e in load_examples(tmp_path / "out" / "selected.jsonl")] == texts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": ["right", "wrong"]}, "no trace is both"),
        ({"keep": ["aha", "no-aha"]}, "no trace is both"),
        ({"keep": ["true"]}, "need a checker"),
        ({"keep": ["fast"]}, "keep"),
        ({"keep": "right"}, "tuple"),
        ({"shortest": 2, "count": 2}, "exclude each other"),
        ({"pass_rate": [0.1, 0.9]}, "needs scores"),
        ({"pass_rate": [0.9, 0.1], "scores": "x"}, "lower and an upper"),
        ({"scores": "x", "from_scores": "y", "pass_rate": [0, 1]}, "takes either"),
        ({"pick": "random"}, "settings of from_scores"),
        ({"per_question": 2}, "settings of from_scores"),
        ({"from_scores": "x", "reward": {"open": {"correct": 1.0}}}, "verdicts of the evaluation"),
    ],
)
def test_settings_that_could_not_count_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        CurateConfig.model_validate({"data": "d", "out": "o", **settings})


def test_an_empty_result_is_refused_and_says_where_the_rows_went(traces):
    lexicon = traces.parent / "all.toml"
    lexicon.write_text('cues = ["1", "it", "nothing"]\n')
    settings = {"keep": ("unhesitating", "thinking"), "hesitation": str(lexicon)}
    with pytest.raises(UserError, match=r"no row is left of 9 \(8 keep/hesitates, 1 keep/empty_thinking\)"):
        run(CurateConfig(data=traces, out=traces.parent / "out", **settings))
    assert (traces.parent / "out" / "drops.parquet").exists() and not (
        traces.parent / "out" / "selected.jsonl"
    ).exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"shortest": 3}, ["s1", "s2", "s3"]),
        ({"longest": 2}, ["s7", "s8"]),
        ({"shortest": 4, "balance": "kind"}, ["s1", "s5", "s7", "s8"]),
        ({"longest": 4, "balance": "shares"}, ["s3", "s4", "s6", "s8"]),
        ({"balance": "kind"}, None),
    ],
)
def test_sizes_and_kinds(tmp_path, settings, expected):
    """Eight traces of 1 to 8 words, four digit, two math, two choice; equal lengths, shares and order of the data."""
    kinds = {"digit": "1234", "math": "56", "choice": "78"}
    of = {f"s{n}": kind for kind, numbers in kinds.items() for n in numbers}
    gold = {"digit": "2", "math": "2", "choice": "A"}
    rows = [Example(sample(n, k, gold[k]), compose("word " * int(n[1]), gold[k])) for n, k in of.items()]
    save_examples(tmp_path / "t.jsonl", rows)
    rows, drops, summary = curated(tmp_path / "t.jsonl", **settings)
    assert rows == sorted(rows) and set(drops.values()) == {"not_chosen"}
    if expected:
        assert rows == expected
    else:
        assert set(summary["kinds"].values()) == {2}


def test_count_draws_by_id_and_seed_and_not_by_place(tmp_path):
    rows = [Example(sample(f"r{n}"), compose("x", "2")) for n in range(40)]
    save_examples(tmp_path / "a.jsonl", rows)
    save_examples(tmp_path / "b.jsonl", random.Random(0).sample(rows, 40))
    found = {name: curated(tmp_path / f"{name}.jsonl", name, count=9)[0] for name in "ab"}
    assert set(found["a"]) == set(found["b"]) and len(found["a"]) == 9
    assert set(curated(tmp_path / "a.jsonl", "c", count=9, seed=1)[0]) != set(found["a"])
    with pytest.raises(UserError, match="41 rows are wanted and 40 are left"):
        curated(tmp_path / "a.jsonl", "d", count=41)


def test_choosing_equals_a_plain_loop():
    """Against a loop that takes row by row; shares against the largest remainders worked out by hand."""
    rng = random.Random(3)
    for _ in range(200):
        kinds = [rng.choice("abc") for _ in range(rng.randint(1, 30))]
        rows = list(range(len(kinds)))
        rarest = min(Counter(kinds).values())
        size = rng.randint(0, rarest * len(set(kinds)))
        chosen = choose.equally(rows, kinds, size)
        counts = Counter(kinds[i] for i in chosen)
        assert len(chosen) == (size or rarest * len(set(kinds))) == len(set(chosen))
        if counts:
            assert max(counts.values()) - min(counts.get(k, 0) for k in set(kinds)) <= 1
        for kind in set(kinds):
            mine = [i for i in rows if kinds[i] == kind]
            assert [i for i in sorted(chosen) if kinds[i] == kind] == mine[: counts[kind]]
    kinds = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    shares = {"a": 5, "b": 3, "c": 2}
    assert Counter(kinds[i] for i in choose.in_shares(range(30), kinds, shares, 7)) == {"a": 4, "b": 2, "c": 1}
    assert Counter(kinds[i] for i in choose.in_shares(range(30), kinds, shares, 0)) == {"a": 10, "b": 6, "c": 4}
    with pytest.raises(UserError, match="10 rows of a are left"):
        choose.in_shares(range(30), kinds, shares, 22)
    with pytest.raises(UserError, match="0 rows of d are left"):
        choose.in_shares(range(30), kinds, {**shares, "d": 1}, 0)
    with pytest.raises(UserError, match="31 rows are wanted with equal kinds"):
        choose.equally(range(30), kinds, 31)


def test_matched_sets_hold_the_same_questions(tmp_path):
    for style, numbers in (("hesitant", range(8)), ("careful", range(2, 10)), ("concise", range(0, 10, 2))):
        save_examples(tmp_path / f"{style}.jsonl", [Example(sample(f"q{n}"), compose(style, "2")) for n in numbers])
    files = {style: tmp_path / f"{style}.jsonl" for style in ("hesitant", "careful", "concise")}
    found = {}
    for style, path in files.items():
        others = tuple(p for name, p in files.items() if name != style)
        found[style], drops, _ = curated(path, f"of-{style}", same_questions_as=others)
        assert set(drops.values()) == {"not_in_all"}
    assert found["hesitant"] == found["careful"] == found["concise"] == ["q2", "q4", "q6"]


def test_one_id_of_two_questions_is_no_match(tmp_path):
    picture = {name: str(tmp_path / f"{name}.png") for name in ("red", "blue")}
    for name, path in picture.items():
        Image.new("RGB", (8, 8), name).save(path)
    mine = [Sample(f"q{n}", "", (picture["red"],), "How many?", "2", "digit") for n in range(4)]
    theirs = [
        Sample("q0", "", (picture["red"],), "How many?", "2", "digit"),
        Sample("q1", "", (picture["blue"],), "How many?", "2", "digit"),
        Sample("q2", "", (picture["red"],), "How many?", "3", "digit"),
        Sample("q3", "", (picture["red"],), "Which?", "2", "digit"),
    ]
    save_samples(tmp_path / "mine.jsonl", mine)
    save_samples(tmp_path / "theirs.jsonl", theirs)
    rows, drops, _ = curated(tmp_path / "mine.jsonl", same_questions_as=(tmp_path / "theirs.jsonl",))
    assert rows == ["q0"] and drops == dict.fromkeys(("q1", "q2", "q3"), "other_question")


def evaluation(folder: Path, data: Path, answers: dict[str, list[tuple[str, bool | None]]], **config) -> Path:
    """A finished eval: id -> (text, ok) of every draw."""
    rows = [
        Score("b", "all", name, "digit", ok, None, "right", None, text, "stop", 3, 0.1, draw=draw)
        for name, drawn in answers.items() for draw, (text, ok) in enumerate(drawn)
    ]  # fmt: skip
    write_table(folder / "scores.parquet", rows)
    write_json(folder / "config.json", {"task": "rows", "data": str(data), "images": "own", **config})
    write_json(folder / "manifest.json", {"verb": "eval", "inputs": {"data": hash_file(data), "system": "Look."}})
    write_json(folder / "done.json", {"key": "k", "summary": {"task": "rows"}})
    return folder


@pytest.fixture
def asked(tmp_path) -> tuple[Path, Path]:
    """(questions, an evaluation of them with four draws)."""
    save_samples(tmp_path / "rl.jsonl", [sample(f"q{n}") for n in range(6)])
    right, wrong, cut, none = (compose("so 2", "2"), True), (compose("so", "9"), False), ("<think>", None), ("", None)
    answers = {
        "q0": [wrong] * 4,
        "q1": [wrong, right, (compose("2", "2"), True), (compose("two it is", "2"), True)],
        "q2": [right] * 4,
        "q3": [cut, none, cut, cut],
        "q4": [right, wrong, cut, cut],
    }
    return tmp_path / "rl.jsonl", evaluation(tmp_path / "samples", tmp_path / "rl.jsonl", answers)


def test_pass_rates_filter_by_difficulty(asked):
    data, scores = asked
    rows, drops, summary = curated(data, scores=scores, pass_rate=(0.1, 0.9))
    assert rows == ["q1", "q4"], "of q4 two answers are decided, and one of them is right"
    assert drops == {"q0": "too_hard", "q2": "too_easy", "q3": "no_score", "q5": "no_score"}
    assert summary["answers"] is summary["statements"] is summary["words"] is None, "there are no traces to look at"
    noted = [
        replace(sample(name), meta=difficulty(hard, draws)) for name, hard, draws in (("q1", 0.25, 4), ("q4", 0.5, 2))
    ]
    assert load_samples(data.parent / "out" / "selected.jsonl") == noted
    assert curated(data, "bounds", scores=scores, pass_rate=(0.75, 1.0))[0] == ["q1", "q2"], "bounds belong to it"


def difficulty(hard: float | None, draws: int) -> dict:
    return {"difficulty": hard, "difficulty_draws": draws}


def test_every_row_gets_its_difficulty_which_export_import_and_training_keep(asked, capsys):
    """q3 was never decided and q5 never asked; by hand from the table of answers."""
    data, scores = asked
    of_q1, out = Sample("q1", "", (), "Another question?", "2", "digit"), data.parent / "out"
    rows, _, _ = curated(data, scores=scores)
    expected = {"q0": (1.0, 4), "q1": (0.25, 4), "q2": (0.0, 4), "q3": (None, 0), "q4": (0.5, 2), "q5": (None, 0)}
    found = load_samples(out / "selected.jsonl")
    assert {s.id: s.meta for s in found} == {name: difficulty(*its) for name, its in expected.items()}
    assert read_json(out / "balance.json")[0]["difficulty"] == {"known": 4, "mean": 1.75 / 4}
    for form in ("trl", "verl", "easyr1", "swift"):
        file = data.parent / f"{form}.{'jsonl' if form in ('trl', 'swift') else 'parquet'}"
        assert cli.main(["export", "--data", str(out / "selected.jsonl"), "--format", form, "--out", str(file)]) == 0
        back = data.parent / f"back-{form}.jsonl"
        assert cli.main(["import", "--format", form, "--source", str(file), "--out", str(back)]) == 0
        assert {s.id: s.meta for s in load_samples(back)} == {s.id: s.meta for s in found}, form
    grpo = ["grpo", "--model.path", str(BASE), "--data", str(out / "selected.jsonl"), "--out", str(data.parent / "g")]
    capsys.readouterr()
    assert cli.main([*grpo, "--device", "cpu", "--dry-run"]) == 0 and "6 " in capsys.readouterr().out
    traces = [Example(sample("q1"), compose("x", "2")), Example(of_q1, compose("x", "2"))]
    save_examples(data.parent / "traces.jsonl", traces[:1])
    curated(data.parent / "traces.jsonl", "traced", scores=scores)
    assert load_examples(data.parent / "traced" / "selected.jsonl")[0].sample.meta == difficulty(0.25, 4)
    save_examples(data.parent / "traces.jsonl", traces[1:])
    curated(data.parent / "traces.jsonl", "other", scores=scores)
    what = "the evaluation asked something else under this id"
    assert load_examples(data.parent / "other" / "selected.jsonl")[0].sample.meta == difficulty(None, 0), what


@pytest.mark.parametrize(("pick", "think"), [("first", "so 2"), ("shortest", "2"), ("random", None)])
def test_rejection_sampling_takes_own_right_answers(asked, pick, think):
    data, scores = asked
    rows, drops, summary = curated(data, from_scores=scores, pick=pick)
    assert rows == ["q1", "q2", "q4"] and summary["answers"] == {"right": 3, "wrong": 0, "undecided": 0}
    assert summary["rows"] == 21 and summary["judged_by"] == "evaluation", "five questions of four draws, one of none"
    examples = load_examples(data.parent / "out" / "selected.jsonl")
    assert think is None or examples[0].completion == compose(think, "2")
    assert drops["q5"] == "no_answer" and (data.parent / "out" / "prompt" / "system.txt").read_text() == "Look.\n"
    details = [d["detail"] for d in read_table(data.parent / "out" / "drops.parquet") if d["sample_id"] == "q1"]
    assert len(details) == 3 and all(text.startswith("draw ") for text in details)


def test_several_own_answers_have_ids_of_their_own(asked):
    data, scores = asked
    rows, _, _ = curated(data, from_scores=scores, per_question=3, pass_rate=(0.0, 0.9))
    assert rows == ["q1#1", "q1#2", "q1#3", "q4#0"]
    assert curated(data, "wrong", from_scores=scores, keep=["wrong"])[0] == ["q0", "q1", "q4"]


def test_answers_that_nobody_should_imitate(asked):
    data, scores = asked
    answers = {
        "q0": [("it is 2", True)],
        "q1": [(compose("<|im_start|>", "2"), True)],
        "q2": [(compose("a", "2"), True)],
    }
    evaluation(scores, data, answers)
    assert curated(data, from_scores=scores)[1] == {
        "q0": "no_format", "q1": "bad_row", "q3": "no_answer", "q4": "no_answer", "q5": "no_answer"
    }  # fmt: skip


def test_scores_of_other_questions_are_not_believed(asked, tmp_path):
    data, _ = asked
    other = tmp_path / "other.jsonl"
    save_samples(other, [sample("q0"), sample("q1", question="Of what colour is {}?"), sample("q2", gold="5")])
    answers = {f"q{n}": [(compose("x", "2"), True)] for n in range(3)}
    scores = evaluation(tmp_path / "others", other, answers)
    rows, drops, _ = curated(data, from_scores=scores)
    assert rows == ["q0"] and drops["q1"] == drops["q2"] == "other_question"
    assert curated(data, "rates", scores=scores, pass_rate=(0, 1))[1]["q1"] == "other_question"
    other.unlink()
    with pytest.raises(UserError, match="its questions are gone"):
        curated(data, "gone", from_scores=scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "done.json").unlink(), "no finished evaluation"),
        (lambda run: write_json(run / "config.json", {"task": "mathvista"}), "mathvista, whose questions"),
        (lambda run: write_json(run / "config.json", []), "no file of a run folder"),
        (lambda run: write_table(run / "scores.parquet", [{"sample_id": "q0"}]), "no column"),
        (
            lambda run: write_table(
                run / "scores.parquet", [dict(sample_id="q0", ok=True, text="", stop="", draw=0)] * 2
            ),
            "two answers of one draw",
        ),
        (
            lambda run: write_table(run / "scores.parquet", [dict(sample_id="q0", ok="yes", text="", stop="")]),
            "'ok' is a text",
        ),
    ],
)
def test_a_folder_that_is_no_evaluation_of_ours_is_refused(asked, change, message):
    data, scores = asked
    change(scores)
    with pytest.raises(UserError, match=message):
        curated(data, scores=scores, pass_rate=(0, 1))


def test_answers_to_other_pictures_are_said(asked, capsys):
    data, scores = asked
    write_json(scores / "config.json", {"task": "rows", "data": str(data), "images": "blank"})
    curated(data, from_scores=scores)
    assert "saw blank pictures" in capsys.readouterr().err


def test_conditions_on_traces_need_traces(asked):
    data, _ = asked
    for settings in ({"keep": ["right"]}, {"shortest": 2}):
        with pytest.raises(UserError, match="no row holds one"):
            curated(data, **settings)


def test_the_verb_resumes_refuses_and_overwrites(traces, capsys):
    call = ["curate", "--data", str(traces), "--out", str(traces.parent / "run")]
    assert cli.main([*call, "--keep", "true", "--checker", CHECKER, "--dry-run"]) == 0
    assert "5 of 9 rows, nothing written" in capsys.readouterr().out and not (traces.parent / "run").exists()
    assert cli.main([*call, "--keep", "right", "no-aha", "--count", "99"]) == 2
    assert "99 rows are wanted and 4 are left" in capsys.readouterr().err
    assert cli.main([*call, "--keep", "right", "no-aha"]) == 0, "a refused call left nothing that binds the next one"
    capsys.readouterr()
    assert cli.main([*call, "--keep", "right", "no-aha"]) == 0
    assert "done before, 4 rows" in capsys.readouterr().out
    assert cli.main([*call, "--keep", "right"]) == 2 and "--overwrite" in capsys.readouterr().err
    assert cli.main([*call, "--keep", "right", "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["selected"] == 6
    assert cli.main([*call, "--same_questions_as", "gone.jsonl", "--overwrite"]) == 2
    save_examples(traces, load_examples(traces)[:3])
    assert cli.main([*call, "--keep", "right"]) == 2, "the data are part of what makes a run"


def test_the_file_of_a_set_is_known_before_it_is_made(traces):
    curated(traces)
    assert made_file("curate", traces.parent / "out", {}).is_file()
    assert made_file("eval", Path("o"), {}) == Path("o")
    assert made_file("select", Path("o"), {"sizes": [300]}) == Path("o/highest-300.jsonl")
    assert made_file("select", Path("o"), {"sizes": [8], "choose": "lowest"}) == Path("o/lowest-8.jsonl")
    for verb, settings, message in (
        ("select", {}, "makes 0 files"),
        ("select", {"sizes": [3, 8]}, "makes 2 files"),
        ("data", {}, "makes no data set"),
    ):
        with pytest.raises(UserError, match=message):
            made_file(verb, Path("o"), settings)
