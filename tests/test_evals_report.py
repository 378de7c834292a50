"""The report of an evaluation and the paper's table: what they say, what they refuse to say, and how they look."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from seethink.cli import main
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.store import read_json, save_samples, write_json, write_jsonl
from seethink.core.tags import compose
from seethink.evals.config import TableConfig
from seethink.evals.evaluated import load_board, read_evaluation
from seethink.evals.published import mismatches, published
from seethink.show import evaluation, table
from tests import browser, synthetic_evals, synthetic_study

needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
ESCAPE = "\x1b[31mred \u202e"


@pytest.fixture(scope="module")
def own_rows(tmp_path_factory):
    """An evaluation by the command line: 30 rows with pictures, some right, wrong, cut, refused, or hostile."""
    root = tmp_path_factory.mktemp("rows")
    samples = [synthetic_study.draw_sample(i, root, "iid" if i % 3 else "ood") for i in range(30)]
    save_samples(root / "board.jsonl", samples)
    rows = [{"id": s.id, "text": compose("so", s.gold if i % 2 else "E")} for i, s in enumerate(samples)]
    rows[1]["text"] = compose(synthetic_study.HOSTILE + ESCAPE, "<b>E</b>|`x`")
    rows[2]["text"] = compose("word " * 2_000, "E")
    write_jsonl(root / "p.jsonl", rows)
    call = ["eval", "--data", str(root / "board.jsonl"), "--predictions", str(root / "p.jsonl")]
    assert main([*call, "--out", str(root / "run")]) == 0
    return root / "run"


def pages(folder):
    evaluation.write(folder)
    return (folder / "report.html").read_text(), (folder / "report.md").read_text()


def test_an_evaluation_leaves_its_report(own_rows):
    html, md = (own_rows / "report.html").read_text(), (own_rows / "report.md").read_text()
    summary = read_json(own_rows / "done.json")["summary"]
    for text in (html, md):
        assert f"{summary['score']:.1f}" in text and "own rows" in text and "iid" in text and "ood" in text
        assert summary["dataset_hash"] in text and "not known: the answers were made elsewhere" in text
    assert "data:image/png;base64," in html and "How many" in html


def test_what_a_model_wrote_is_text_and_cut_to_a_length(own_rows):
    html, md = (own_rows / "report.html").read_text(), (own_rows / "report.md").read_text()
    assert "<script>document" not in html and "&lt;script&gt;document" in html
    assert "\x1b" not in html + md and "\u202e" not in html + md
    assert "<b>E</b>" not in html + md and "[…]" in html
    assert html.count("word ") < 2_000


def test_the_report_comes_from_the_folder_alone(own_rows, tmp_path):
    config = read_json(own_rows / "config.json")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("done.json", "scores.parquet"):
        (copy / name).write_bytes((own_rows / name).read_bytes())
    write_json(copy / "config.json", {**config, "data": "gone.jsonl"})
    html, md = pages(copy)
    assert "question not at hand" in html and "the data of this board are gone" in html
    assert f"{read_json(copy / 'done.json')['summary']['score']:.1f}" in md


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judge_failed": 3, "score": None}, "the judge gave no usable reply on 3 answers"),
        ({"failed": 1, "score": None}, "1 answer never came"),
        (
            {"judge_failed": 2, "failed": 2, "score": None},
            "the judge gave no usable reply on 2 answers and 2 answers never came",
        ),
        ({"no_score": "no worst case: 5 missing", "score": None}, "no worst case: 5 missing"),
        ({"score": None}, "the board gave none"),
        ({"score": 0.0}, ""),
    ],
)
def test_why_there_is_no_score_is_said(change, said):
    assert evaluation.why_none(change) == said


def test_no_number_while_the_judge_failed_not_even_of_a_part(tmp_path):
    rows = synthetic_evals.scores(40)
    rows[3] = replace(rows[3], ok=None, status="judge_failed", reason="grader_failed", part="algebra")
    html, md = pages(synthetic_evals.folder(tmp_path / "run", rows))
    assert "No score: the judge gave no usable reply on 1 answer" in html and "**No score" in md
    parts = {row.name: row for row in evaluation.groups(rows, "part")}
    assert parts["algebra"].share is None and parts["geometry"].share is not None
    assert parts["algebra"].counts["judge_failed"] == 1 and "| judge failed |" in md


def test_a_score_over_missing_answers_is_to_be_read_with_care(tmp_path):
    folder = synthetic_evals.folder(tmp_path / "run", synthetic_evals.scores(40), failed=4)
    assert "4 answers without a verdict of their own count as not right" in pages(folder)[0]


def test_states_reasons_and_rungs_add_up(tmp_path):
    run = read_evaluation(synthetic_evals.folder(tmp_path / "run", synthetic_evals.scores(200, unparsed=0.2)))
    page = evaluation.assemble(run)
    states = {name: n for name, n, _ in page["states"]}
    assert sum(states.values()) == 200 and dict(page["reasons"])["invalid_response_format"] == states["unparsed"]
    assert sum(n for _, n in page["rungs"]) == states["right"] + states["wrong"]
    assert sum(row.n for row in page["groups"]["Part"]) == 200 and len(page["groups"]["Level"]) == 3
    assert set(page["items"]) == {"right", "wrong", "unparsed"}
    assert all(len(shown) == evaluation.SHOWN for shown in page["items"].values())


def test_clusters_widen_the_interval_of_a_part():
    alike = [synthetic_evals.score(i, i % 20 < 10, cluster=f"q{i // 10}", part="all") for i in range(200)]
    apart = [replace(one, cluster="") for one in alike]
    (wide,), (narrow,) = evaluation.groups(alike, "part"), evaluation.groups(apart, "part")
    assert wide.share.estimate == narrow.share.estimate == 0.5
    assert wide.share.high - wide.share.low > 1.5 * (narrow.share.high - narrow.share.low)


def test_second_numbers_and_tables_of_a_board_are_shown(tmp_path):
    more = {
        "average": 44.0, "average_interval": [40.0, 48.0], "pass@2": 61.0, "problems": 525,
        "four_dimensions": {"strict": {"IK": {"n": 10, "percent": 2.5}, "RM rate": None}}, "four": [], "by_kind": {},
        "spending": {"usd": 0.5, "steps": [{"step": "extract", "model": "j", "calls": 3, "attempts": 4, "usd": 0.5,
                                            "prompt_tokens": 9, "completion_tokens": 1}]},
    }  # fmt: skip
    folder = synthetic_evals.folder(tmp_path / "run", synthetic_evals.scores(40), "wemath", **more)
    html, md = pages(folder)
    assert "| Average over all answers | 44.0 [40.0, 48.0] |" in md and "| strict | 10 (2.5 %) | – |" in md
    assert "Problems" in html and "525" in html and "0.5000 USD" in md and "pass@2" in html


def test_quirks_and_settings_are_in_words(tmp_path):
    html, md = pages(synthetic_evals.folder(tmp_path / "run", synthetic_evals.scores(40)))
    for text in (html, md):
        for said in ("an English article counts as option A", "gpt-4o-mini", "hash p1", "hash s1", "262144", "800"):
            assert said in text


def test_the_published_column_stands_beside(tmp_path):
    html, md = pages(synthetic_evals.folder(tmp_path / "run", synthetic_evals.scores(40), "dynamath"))
    assert "| GRPO alone, Qwen2.5-VL-3B | 18.2 |" in md and "worst case" in html
    assert "appendix says overall accuracy" in md
    html, _ = pages(synthetic_evals.folder(tmp_path / "other", synthetic_evals.scores(40), "geoqa"))
    assert "Beside published" not in html


def test_published_rows_are_those_of_the_paper():
    table_ = published()
    assert list(table_.columns.values()) == ["MathVista", "MathVision", "MathVerse", "DynaMath", "WeMath", "LogicVista"]
    rows = {row.model: row for row in table_.rows}
    assert rows["GRPO alone, Qwen2.5-VL-7B"].scores["mathverse"] == 48.2
    off = [row.model for row in table_.rows if abs(sum(row.scores.values()) / 6 - row.average) > 0.06]
    assert off == ["GRPO alone, Qwen2-VL-2B", "GRPO alone, Qwen2-VL-7B base"], "as printed in the paper"


def test_published_rows_against_the_facts(shared):
    text = (shared / "paper" / "facts.md").read_text()
    for row in published().rows:
        cells = " | ".join(f"{value:.1f}" for value in (*row.scores.values(), row.average))
        assert f"| {cells} |" in text, row.model


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ["judged by gpt-4o-mini"]),
        ({"max_tokens": 2048}, ["2048 tokens at most, published 800", "judged by gpt-4o-mini"]),
        ({"max_pixels": None, "judge": "", "unparsed": 0}, ["the model's own pixel limit, published 262144"]),
        ({"complete": False, "judge": "", "unparsed": 0}, ["not the whole published set"]),
        ({"profile": "strict", "judge": "", "unparsed": 3},
         ["scored by the rules of the profile strict, published by VLMEvalKit's", "no judge: answers that rules cannot read count as not right"]),
        ({"images": "blank", "judge": "", "unparsed": 0}, ["blank pictures: a control, no result"]),
        ({"predictions": "p.jsonl", "max_tokens": 9, "judge": "", "unparsed": 0},
         ["the answers were made elsewhere: prompt, pixels, token cap and temperature are not known here"]),
    ],
)  # fmt: skip
def test_what_does_not_match_the_paper_is_named(tmp_path, changes, said):
    run = read_evaluation(synthetic_evals.folder(tmp_path / "run", synthetic_evals.scores(40), **changes))
    assert mismatches(run) == said


@pytest.fixture
def six(tmp_path):
    """All six of one model, one of another on which a judge failed, and a board that is no column."""
    folders = [
        synthetic_evals.folder(tmp_path / task, synthetic_evals.scores(100, 0.5, i), task, "grpo")
        for i, task in enumerate(synthetic_evals.TITLES)
    ]
    rows = synthetic_evals.scores(40)
    rows[0] = replace(rows[0], ok=None, status="judge_failed", reason="grader_failed")
    folders.append(synthetic_evals.folder(tmp_path / "failed", rows, "mathvista", "sft"))
    return [*folders, synthetic_evals.folder(tmp_path / "geoqa", rows, "geoqa", "sft")]


def test_the_table_has_an_average_of_six_or_none(six, tmp_path, capsys):
    out = tmp_path / "table"
    assert main(["eval", "table", *map(str, six), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == read_json(out / "table.json") and found["left_out"] == [
        f"geoqa ({six[-1]}) is no column of the table"
    ]
    ours, other = found["rows"]
    scores = [ours["cells"][task]["score"] for task in found["columns"]]
    assert ours["average"] == pytest.approx(sum(scores) / 6) and other["average"] is None
    assert other["cells"]["mathvista"]["score"] is None
    html, md = (out / "table.html").read_text(), (out / "table.md").read_text()
    assert "no score: the judge gave no usable reply on 1 answer | not measured | not measured" in md
    assert html.count(">not measured<") == 6 and "GRPO alone, Qwen2.5-VL-7B" in html and "the six give 20.6" in html
    assert "1. judged by gpt-4o-mini" in md


def test_a_second_run_of_a_benchmark_is_another_row(six, tmp_path):
    blank = synthetic_evals.folder(tmp_path / "blank", synthetic_evals.scores(40), "mathvista", "grpo", images="blank")
    again = synthetic_evals.folder(
        tmp_path / "again", synthetic_evals.scores(40), "mathvista", "grpo", profile="strict"
    )
    found = table.run(TableConfig(runs=(six[0], blank, again), out=tmp_path / "table"))
    assert [row["model"] for row in found["rows"]] == ["grpo", "grpo, blank pictures", "grpo"]


def test_bare_arguments_of_a_table_are_its_runs(six, tmp_path):
    config = resolve(TableConfig, ["a", "b", "--out", "c", "d"])
    assert [str(path) for path in config.runs] == ["a", "b", "d"] and str(config.out) == "c"
    with pytest.raises(UserError, match="none of these is a benchmark"):
        table.run(TableConfig(runs=(six[-1],), out=tmp_path / "table"))
    with pytest.raises(UserError, match="no finished evaluation"):
        table.run(TableConfig(runs=(tmp_path,), out=tmp_path / "table"))


def test_a_board_that_is_gone_or_unknown_is_named(tmp_path):
    with pytest.raises(UserError, match="data of this board are gone"):
        load_board("rows", {"data": "gone.jsonl"}, tmp_path)
    with pytest.raises(UserError, match="one that its user wrote .my_board.py:BOARD., and a folder starts no code"):
        load_board("my_board.py:BOARD", {"data": str(tmp_path)}, tmp_path)


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_report_in_a_browser(own_rows, six, tmp_path, width, dark):
    evaluation.write(six[3])
    table.run(TableConfig(runs=tuple(six), out=tmp_path / "table"))
    for page in (own_rows / "report.html", six[3] / "report.html", tmp_path / "table" / "table.html"):
        seen = browser.look(page, width, dark)
        assert seen.errors == [] and seen.overflow == [] and "owned" not in seen.title
        assert seen.requests == [page.resolve().as_uri()]
