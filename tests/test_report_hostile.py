"""A study in which every text is hostile: names, labels, parts, alarms, versions, answers. Page, Markdown and charts show text."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from xml.etree import ElementTree

import pytest

from seethink.core.errors import UserError
from seethink.core.stats import Interval
from seethink.core.store import read_json
from seethink.core.tables import read_table, write_table
from seethink.show.config import ReportConfig
from seethink.show.plots import Mark, by_arm, curves, dots, dumbbells, forest
from seethink.show.report import run
from tests import synthetic_study

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>[x](javascript:alert(3))|`$x_{$ \\easy\n# h\r\n- l\x1b[31m\u202e"
    ' #010101 id="q" url(#a) \\1 \\g<1> [/red] ${x}'
)
NAMES = [
    "algebra\\easy",
    "$x_{$",
    "$\\frac$",
    "arm[/red]",
    "\\g<9>",
    "#010101",
    'id="x',
    "a\nb",
    "<b>",
    "&amp;",
    "\x1b[31m",
    "\ud800",
    "",
    "思考",
]


def poison(value: object, keep: frozenset[str]) -> object:
    """Every text of a JSON value replaced, but under the keys that make it work."""
    if isinstance(value, dict):
        return {key: item if key in keep else poison(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item, keep) for item in value]
    return EVIL if isinstance(value, str) else value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    dice = synthetic_study.Dice
    arms = {
        "base": synthetic_study.ARMS["base"],
        "g$x_{$ arm[red] #010102": (("grpo",), "a|<b>", "base", dice(0.5)),
        "sft": (("sft",), "`$^{", "base", dice(0.4)),
    }
    folder = synthetic_study.build(tmp_path_factory.mktemp("hostile") / "study", items=30, arms=arms, steps=12)
    plan = read_json(folder / "study.json")
    kept = frozenset({"arms", "comparisons", "board", "data", "reference"})
    (folder / "study.json").write_text(json.dumps(poison(plan, kept)))
    for path in folder.rglob("manifest.json"):
        path.write_text(json.dumps(poison(read_json(path), frozenset({"started"}))))
        unit = {"step": EVIL, "round": EVIL, "alarm": EVIL, "text": EVIL}
        (path.parent / "alarms.jsonl").write_text(json.dumps(unit) + "\n")
    funnel = folder / "data/hesitant/funnel.json"
    funnel.write_text(json.dumps([{**row, "source": EVIL, "dropped": {EVIL: 1}} for row in read_json(funnel)]))
    for path in folder.rglob("scores.parquet"):
        rows = [{**row, "text": EVIL + row["text"], "answer": EVIL} for row in read_table(path)]
        for i, row in enumerate(rows):
            row |= {"part": NAMES[i % 3], "kind": NAMES[3 + i % 4]}
        write_table(path, rows)
    run(ReportConfig(study=folder, gallery=3))
    return folder


def test_the_page_holds_no_markup_of_theirs(folder):
    page = (folder / "report.html").read_text()
    assert not re.search(r"<script|<img src=x|onerror=alert\(2\)>|href=\"javascript", page)


def test_the_markdown_holds_no_markup_of_theirs(folder):
    text = (folder / "report.md").read_text()
    body, _, code = text.partition("## Reproduce")
    assert not re.search(r"<script|<img|\x1b|\u202e|(?<!\\)\[x|(?<!\\)[`$]|\]\(javascript", body)
    assert "<script" not in code and "\n# h" not in body and "\n- l" not in body
    tables = re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE)
    assert len(tables) >= 5
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_shows_any_name_as_it_is(name):
    interval, mark = Interval(0.1, 0.0, 0.2), Mark(1)
    charts = [
        forest([(name, name, interval, "better")], name),
        by_arm([(name, mark, interval)], name, name),
        dumbbells([(name, mark, 1.0, 2.0)], name, name),
        dots({name: [(mark, interval)]}, f"Accuracy by kind, {name}", name),
        curves([(mark, [[(1, 0.5), (2, 0.6)]])], name, name),
    ]
    ids: list[str] = []
    for svg in charts:
        root = ElementTree.fromstring(svg.replace("xlink:", ""))
        texts = [element.text or "" for element in root.iter("text")]
        if name and name.isprintable() and name.isascii():
            assert any(name in text for text in texts), texts
        assert not list(root.iter("b")) and not list(root.iter("style"))
        ids += [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert all(f"#{i}" not in ("#010101", "#010102") for i in ids)
    assert "<b>" not in "".join(charts)


def test_charts_of_titles_that_look_alike_share_no_ids():
    one, other = (dots({"k": [(Mark(1), Interval(0.1, 0.0, 0.2))]}, title, "") for title in ("a/b", "a b"))
    assert not set(re.findall(r' id="([^"]+)"', one)) & set(re.findall(r' id="([^"]+)"', other))


def test_a_lone_surrogate_in_a_plan_is_refused_by_name(tmp_path):
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo")}
    study = synthetic_study.build(tmp_path / "study", seeds=(0,), items=5, arms=arms)
    plan = read_json(study / "study.json")
    Path(study / "study.json").write_text(json.dumps({**plan, "label": "\ud800"}))
    run(ReportConfig(study=study, gallery=1))
    assert (study / "report.md").stat().st_size > 100


@pytest.mark.parametrize(
    ("file", "place", "value", "told"),
    [
        ("arms/grpo/seed0/grpo/metrics.jsonl", "completion/length", {"a": 1}, "'completion/length' is an object"),
        ("arms/grpo/seed0/grpo/metrics.jsonl", "round", "x", "'round' is a text"),
        ("arms/grpo/seed0/grpo/done.json", "summary", [], "no file of a run folder"),
        ("arms/grpo/seed0/grpo/manifest.json", "inputs", None, "no file of a run folder"),
        ("arms/grpo/seed0/eval/manifest.json", "versions", ["a"], ""),
        ("arms/grpo/seed0/eval/scores.parquet", "board", ..., "no column 'board'"),
        ("arms/grpo/seed0/eval/scores.parquet", "reward", "x", "'reward' is a text"),
        ("arms/grpo/seed0/eval/scores.parquet", "tokens", None, "lacks what every score has"),
        ("data/hesitant/funnel.json", "source", ["x"], "'source' is a list"),
        ("data/hesitant/funnel.json", "dropped", ..., ""),
        ("data/hesitant/funnel.json", "out", "x", "'out' is a text"),
    ],
)
def test_a_damaged_record_of_a_study_is_one_line(tmp_path, file, place, value, told):
    """`...` takes the place out."""
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo", "sft-hesitant")}
    study = synthetic_study.build(tmp_path / "study", seeds=(0,), items=5, arms=arms)
    rows = read_table(study / file) if file.endswith("parquet") else []
    if file.endswith("jsonl"):
        rows = [json.loads(line) for line in (study / file).read_text().splitlines()]
    whole = rows or read_json(study / file)
    for row in whole if isinstance(whole, list) else [whole]:
        row.pop(place, None)
        row |= {} if value is ... else {place: value}
    if file.endswith("parquet"):
        write_table(study / file, rows)
    else:
        (study / file).write_text("".join(json.dumps(row) + "\n" for row in rows) or json.dumps(whole))
    with pytest.raises(UserError, match=re.escape(told)) if told else nullcontext():
        run(ReportConfig(study=study, gallery=0))
