"""Every number in the tables of a report, computed a second time from parquet and JSON files by code that is not the package's.

The page is read as a reader sees it (page_tables), the numbers come from plain loops (by_hand). A table that nobody here can
compute, or a cell with a number that nobody computed, fails.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from pyarrow import parquet
from scipy import stats

from seethink.cli import main
from tests import by_hand, rich_study
from tests.by_hand import Difference, interval
from tests.page_tables import Page

PACKAGE = Path(__file__).parents[1] / "seethink"
WITHOUT = ("box", "open")
LEXICONS = PACKAGE / "traces/lexicons"
MARGIN = 0.02
ROOT = {"base-b": "base-b", "grpo-b": "base-b"}
"""Arm -> its untrained model, where that is not base."""
REPEATED = {("grpo", "base"): ("base-b", "grpo-b", "base-b")}
"""Planned pair -> another base, and the same two arms from there."""


@dataclass
class N:
    """A number as it should be shown; `signed` for differences."""

    value: float
    digits: int = 1
    signed: bool = False

    def shown(self, text):
        pattern = r"[+−]" if self.signed else r"−?"
        tail = rf"\.\d{{{self.digits}}}" if self.digits else ""
        assert re.fullmatch(rf"{pattern}[\d\u202f]+{tail}", text), f"{text!r} for {self.value}"
        assert abs(number(text) - self.value) <= 0.5 * 10**-self.digits + 1e-6, f"{text!r} for {self.value}"


@dataclass
class Limits:
    """[low, high]; not exact where ours are drawn."""

    low: float
    high: float
    digits: int = 1
    exact: bool = True

    def shown(self, text):
        low, high = (number(part) for part in text.strip("[]").split(", "))
        near = 0.5 * 10**-self.digits + (1e-6 if self.exact else 0.15 * (self.high - self.low))
        assert abs(low - self.low) <= near and abs(high - self.high) <= near, f"{text!r} for [{self.low}, {self.high}]"


def number(text):
    return float(text.replace("−", "-").replace("\u202f", "").lstrip("+"))


@dataclass
class Power:
    """The small print of what a comparison could have found."""

    value: float

    def shown(self, text):
        N(self.value, 0).shown(text.removesuffix(" % power for 2 points"))


@dataclass
class From:
    """`base-b: +1.0 [0.1, 2.0]`"""

    base: str
    number: N
    limits: Limits

    def shown(self, text):
        base, estimate, limits = text.split(" ", 2)
        assert base == f"{self.base}:"
        self.number.shown(estimate)
        self.limits.shown(limits)


@dataclass
class Ends:
    """Words without a number, and then this text."""

    text: str

    def shown(self, text):
        assert text.endswith(self.text) and not re.search(r"\d", text.removesuffix(self.text))


class Files:
    """The study's folders, read with pyarrow and json."""

    def __init__(self, folder):
        self.folder = folder
        self.plan = json.loads((folder / "study.json").read_text())
        rows = [json.loads(line) for line in (folder / self.plan["board"]).read_text().splitlines()]
        self.board = {row["id"]: row for row in rows}
        first = self.rows("base", "eval")[0]
        self.items = [row["sample_id"] for row in first]
        self.kind = {row["sample_id"]: row["kind"] for row in first}
        self.part = {row["sample_id"]: row["part"] for row in first}
        self.kinds = list(dict.fromkeys(self.kind.values()))
        self.arms = list(self.plan["arms"])

    @cache  # noqa: B019
    def rows(self, arm, stage):
        """Seed -> rows of its scores."""
        files = sorted(self.folder.glob(f"arms/{arm}/seed*/{stage}/scores.parquet"))
        return {
            int(f.parents[1].name.removeprefix("seed")): parquet.read_table(f).to_pylist()
            for f in files
            if (f.parent / "done.json").exists()
        }

    def table(self, arm, value="ok", stage="eval", items=None):
        """[seeds][items] of a column, or of a function of a row."""
        read = value if callable(value) else lambda row: None if row[value] is None else float(row[value])
        found = [{row["sample_id"]: read(row) for row in rows} for rows in self.rows(arm, stage).values()]
        return [[run.get(item) for item in (self.items if items is None else items)] for run in found]

    def json(self, arm, stage, name="done.json"):
        """Seed -> a JSON file of its runs."""
        files = sorted(self.folder.glob(f"arms/{arm}/seed*/{stage}/{name}"))
        return {int(f.parents[1].name.removeprefix("seed")): json.loads(f.read_text()) for f in files}

    def metrics(self, arm, stage="grpo"):
        files = sorted(self.folder.glob(f"arms/{arm}/seed*/{stage}/metrics.jsonl"))
        return [[json.loads(line) for line in f.read_text().splitlines()] for f in files]

    def select(self, keep):
        return [item for item in self.items if keep(item)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(rich_study.build(tmp_path_factory.mktemp("numbers") / "study", items=34))


@pytest.fixture(scope="module")
def page(files):
    assert main(["report", str(files.folder), "--checker", "tests.synthetic_study:check"]) == 0
    return Page((files.folder / "report.html").read_text())


def compare(table, expected):
    """Rows of a table with those expected: a cell is [text, small, ...], each an N, Limits or text; `...` for no number."""
    assert len(table.rows) == len(expected), [row[0].text for row in table.rows]
    for row, cells in zip(table.rows, expected, strict=True):
        assert len(row) == len(cells), (row[0].text, len(row), len(cells))
        for column, (cell, wanted) in enumerate(zip(row, cells, strict=True)):
            where = f"{row[0].text}, column {column}: {cell}"
            text, *small = wanted if isinstance(wanted, list) else [wanted]
            for shown, one in zip([cell.text, *cell.small], [text, *small], strict=True):
                if one is ...:
                    assert not re.search(r"\d", shown), f"nobody computed {shown!r}: {where}"
                elif isinstance(one, str):
                    assert shown == one, where
                else:
                    try:
                        one.shown(shown)
                    except AssertionError as error:
                        raise AssertionError(f"{where}: {error}") from None


def cell(found, scale=100.0, digits=1, why="not measured"):
    """An estimate with its limits, or why there is none."""
    if found is None:
        return ["", why] if why != "not measured" else [why]
    estimate, low, high, exact = found
    return [N(scale * estimate, digits), Limits(scale * low, scale * high, digits, exact)]


def delta(found):
    low, high, exact = found.limits()
    return [N(100 * found.estimate, 1, signed=True), Limits(100 * low, 100 * high, 1, exact)]


def arm_row(files, arm, stage="eval"):
    cue = stage.partition("-")[2]
    outcomes = files.table(arm, stage=stage)
    rows = [row for run in files.rows(arm, stage).values() for row in run]
    entropy = [[row["entropy"] for row in run if "entropy" in row] for run in files.metrics(arm)]
    notes = {"grpo-coin": ["placebo: a coin for a reward"], "grpo-blank": ["grpo on blank pictures"]}.get(arm, [])
    tag = {"grpo-coin": " placebo", "grpo-blank": " blank pictures"}.get(arm, "")
    changed = files.plan["evals"][cue]["set"] if cue else {}
    settings = ", ".join(f"{key} {value}" for key, value in changed.items())
    against = [
        [["–"] if arm == other and not cue else delta(Difference(outcomes, files.table(other)))][0]
        for other in (ROOT.get(arm, "base"), "grpo")
    ]
    each = " ".join(f"{100 * by_hand.mean(run):.1f}" for run in outcomes)
    return [
        [(f"{arm}, {cue}" if cue else arm) + tag, Ends(settings), *notes],
        cell(interval(outcomes, True)),
        each,
        *against,
        cell(interval(files.table(arm, "reward", stage), True), 1, 3),
        cell(interval(files.table(arm, "tokens", stage), False), 1, 1),
        N(fmean(fmean(run[-5:]) for run in entropy), 3) if entropy and not cue else "–",
        [str(sum(row["ok"] is None for row in rows)), f"{100 * fmean(row['stop'] == 'length' for row in rows):.1f} %"],
    ]


def test_arms(files, page):
    compare(page.tables["Arms"], [arm_row(files, arm) for arm in files.arms])
    further = [arm_row(files, arm, f"eval-{cue}") for arm in files.arms for cue in ("blank", "sampled")]
    compare(page.tables["Further evaluations"], further)


def planned(files):
    """Pairs of the plan, and what exploring added to what was imitated."""
    return [*map(tuple, files.plan["comparisons"]), ("sft-hesitant+grpo", "sft-hesitant")]


def compared(files, items):
    """Per planned pair: (difference, word, adjusted p, adjusted p of equivalence)."""
    found = [Difference(*(files.table(arm, items=items) for arm in pair)) for pair in planned(files)]
    adjusted = by_hand.holm([c.p for c in found])
    same = by_hand.holm([c.p_equivalent(MARGIN) for c in found])
    words = []
    for c, p, q in zip(found, adjusted, same, strict=True):
        low, high, _ = c.limits()
        clear = p < 0.05 and (low > 0 or high < 0)
        words.append(
            "better" if clear and low > 0 else "worse" if clear else "equivalent" if q < 0.05 else "not distinguishable"
        )
    return list(zip(found, words, adjusted, same, strict=True))


def p_text(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def over_bases(files, a, b, here):
    """Student's t over bases, and the difference from each other one."""
    if (a, b) not in REPEATED:
        return "–"
    base, *pair = REPEATED[a, b]
    there = Difference(*(files.table(arm) for arm in pair))
    both = [100 * here.estimate, 100 * there.estimate]
    half = (
        stats.t.ppf(0.975, 1) * abs(both[0] - both[1]) / 2
    )  # sd / sqrt(2) of two values is half of what they differ by
    return [N(fmean(both), 1, signed=True), Limits(fmean(both) - half, fmean(both) + half), From(base, *delta(there))]


def test_planned_comparisons(files, page):
    others = compared(files, files.select(lambda i: files.kind[i] not in WITHOUT))
    expected = []
    found = compared(files, files.items)
    for (a, b), (c, word, p, q), (other, other_word, _, _) in zip(planned(files), found, others, strict=True):
        parts = [files.select(lambda i, part=part: files.part[i] == part) for part in ("iid", "ood")]
        expected.append([
            ..., word, delta(c), [*delta(other), other_word], over_bases(files, a, b, c),
            *(delta(Difference(files.table(a, items=items), files.table(b, items=items))) for items in parts),
            p_text(p), p_text(q), [f"{c.seeds} × {c.items}", f"{c.undecided} answers undecided"],
            [N(100 * c.detectable(len(found)), 1), Power(100 * c.power(MARGIN, len(found)))],
            [N(100 * c.seed_sd, 1), *(["seeds disagree"] if c.seed_sd**2 > 6 * c.noise_sd**2 else [])],
        ])  # fmt: skip
        expected[-1][0] = [page.tables["Planned comparisons"].rows[len(expected) - 1][0].text, ...]
        assert expected[-1][0][0].startswith(a)
    compare(page.tables["Planned comparisons"], expected)


def test_the_headline(files, page):
    c, word, p, _ = compared(files, files.items)[0]
    other, other_word, other_p, _ = compared(files, files.select(lambda i: files.kind[i] not in WITHOUT))[0]
    text = " ".join(page.sections[""].split())
    lead = re.search(
        r"GRPO alone: (\S+) points of accuracy, 95 % interval (\[.*?\]), over (\d+) seeds and (\d+) items: ([a-z ]+) p (.*?), Holm over (\d+) comparisons",
        text,
    )
    N(100 * c.estimate, 1, signed=True).shown(lead[1])
    Limits(*(100 * limit for limit in c.limits()[:2])).shown(lead[2])
    assert (int(lead[3]), int(lead[4])) == (c.seeds, c.items) and word == lead[5].strip()
    assert lead[6].removeprefix("= ") == p_text(p) and int(lead[7]) == len(planned(files))
    without = re.search(
        r"Without box and open, .*?: (\S+) points (\[.*?\]) over (\d+) items: ([a-z ]+) p (.*?), Holm", text
    )
    N(100 * other.estimate, 1, signed=True).shown(without[1])
    Limits(*(100 * limit for limit in other.limits()[:2])).shown(without[2])
    assert int(without[3]) == other.items and other_word == without[4].strip()
    assert without[5].removeprefix("= ") == p_text(other_p)
    empty = {
        kind: 100 * fmean(v[0] for v in zip(*empty_thinking(files, "base", kind), strict=True)) for kind in WITHOUT
    }
    said = re.search(r"leaves its thinking empty on (.*?) items", text)[1]
    assert set(said.split(" and ")) == {f"{share:.0f} % of {kind}" for kind, share in empty.items()}
    assert f"{len(files.items)} held-out items" in text and "3 seeds" in text


def test_controls(files, page):
    table = page.tables["Matched controls"]
    names = [heading.text for heading in table.headings]
    for row, (a, b) in zip(table.rows, planned(files), strict=True):
        shown = dict(zip(names, row, strict=True))
        assert all(
            re.fullmatch(r"[0-9a-f]{8}|\D*|0, 1, 2", small) for c in row for small in c.small
        )  # a hash is no number
        stages = [files.plan["arms"][arm]["stages"][-1:] for arm in (a, b)]
        if stages[0] != stages[1]:
            assert shown["data order"].text == shown["rewards"].text == "–"
            continue
        for name, read in (
            ("data order", lambda arm: [d["summary"]["data_order"] for d in files.json(arm, "grpo").values()]),
            ("rewards", lambda arm: [c["reward"] for c in files.json(arm, "grpo", "config.json").values()]),
        ):
            assert shown[name].text == ("✓ same" if read(a) == read(b) else "✗ differs"), (a, b, name)


def test_budgets(files, page):
    keys = {"prompts": "prompts", "rollouts": "rollouts", "optimiser steps": "optimiser_steps", "trained tokens": "tokens_trained",
            "generated tokens": "tokens_generated", "wall seconds": "seconds"}  # fmt: skip

    trained = [arm for arm, spec in files.plan["arms"].items() if spec["stages"]]

    def spent(arm, key):
        """Over all stages behind an arm, mean over seeds."""
        plan, total = files.plan["arms"][arm], 0.0
        own = files.json(arm, plan["stages"][-1]).values()
        total += fmean(done["summary"][key] for done in own)
        return total + (spent(plan["start"], key) if plan["start"] in trained else 0.0)

    table = page.tables["Budgets"]
    assert table.columns[1:] == list(keys)
    for row, arm in zip(table.rows, trained, strict=True):
        assert row[0].text.split()[0] == arm
        for shown, key in zip(row[1:], keys.values(), strict=True):
            value, base = spent(arm, key), spent("grpo", key)
            N(value, 0).shown(shown.text)
            ratio = value / base
            said = "✓ matched" if abs(ratio - 1) <= 0.02 else "none" if value == 0 else f"× {ratio:.2f}"
            assert shown.small == [said], (arm, key)


def empty_thinking(files, arm, kind=None, items=None):
    items = files.select(lambda i: kind in (None, files.kind[i])) if items is None else items
    return files.table(arm, lambda row: float("<think></think>" in row["text"]), items=items)


def test_gains_by_kind(files, page):
    trained, expected = [arm for arm, spec in files.plan["arms"].items() if spec["stages"]], []
    for kind in files.kinds:
        items = files.select(lambda i, kind=kind: files.kind[i] == kind)
        gold, times = Counter(" ".join(files.board[i]["gold"].split()) for i in items).most_common(1)[0]
        answers = [[run[n] for arm in files.arms for run in files.table(arm, items=items)] for n in range(len(items))]
        never = sum(1 not in a and bool(by_hand.known(a)) for a in answers)
        gains = [
            delta(Difference(*(files.table(one, items=items) for one in (arm, ROOT.get(arm, "base")))))
            for arm in trained
        ]
        name = [kind, "the base is held back by design"] if kind in WITHOUT else [kind]
        expected.append([
            name, str(len(items)), [N(100 * times / len(items)), gold], [str(never), f"{100 * never / len(items):.1f} %"],
            cell(interval(empty_thinking(files, "base", kind), True)), *gains,
        ])  # fmt: skip
    compare(page.tables["Gains by kind"], expected)


def pass_at(answers, k):
    """Share of the k-subsets of decided answers that hold a right one."""
    decided = by_hand.known(answers)
    if len(decided) < k:
        return None
    return 1 - math.comb(int(decided.count(0)), k) / math.comb(len(decided), k)


def measures_of(files, seen):
    """(name, unit digits, arm -> cell) of every row that some arm has."""
    answers = {}
    for arm in files.arms:
        for seed, rows in files.rows(arm, "eval-samples").items():
            for row in rows:
                answers.setdefault(arm, {}).setdefault(seed, {}).setdefault(row["sample_id"], []).append(
                    None if row["ok"] is None else float(row["ok"])
                )
    rates = {base: {i: by_hand.mean(a) for i, a in answers[base][0].items()} for base in ("base", "base-b")}
    strata = {
        "0": lambda r: r == 0, "(0, 25]": lambda r: 0 < r <= 0.25, "(25, 75]": lambda r: 0.25 < r <= 0.75,
        "(75, 100)": lambda r: 0.75 < r < 1, "100": lambda r: r == 1,
    }  # fmt: skip

    def of_rate(arm, inside):
        """Items that the arm's own base solves this often."""
        return [i for i, rate in rates[ROOT.get(arm, "base")].items() if rate is not None and inside(rate)]

    old = [row["sample_id"] for row in files.rows("base", "eval-old")[0]]
    rows = []
    for k in (1, 2, 4):
        tables = {a: [[pass_at(run[i], k) for i in files.items] for run in answers[a].values()] for a in files.arms}
        rows.append((f"pass@k: pass@{k}", {a: cell(interval(t, True)) for a, t in tables.items()}))
    for name, inside in strata.items():
        items = {a: of_rate(a, inside) for a in files.arms}
        found = {a: interval(files.table(a, items=items[a]), True) if items[a] else None for a in files.arms}
        if any(found.values()):
            cells = {a: cell(f, why="no item of the board has this rate") for a, f in found.items()}
            rows.append((f"Accuracy by the base's pass rate: {name}", cells))
    nats = {"scale": 1, "digits": 3}
    scored = {a: interval(files.table(a, "entropy", "eval-sampled"), False) for a in files.arms}
    rows.append(("Entropy: held-out prompts", {a: cell(f, **nats) for a, f in scored.items()}))
    for name, part in (("first", slice(5)), ("last", slice(-5, None))):
        curves = {
            a: [[r["entropy"] for r in run if "entropy" in r][part] for run in files.metrics(a)] for a in files.arms
        }
        found = {
            a: cell(interval(c, False), **nats) if c else ["", "no GRPO of its own with 10 rounds"]
            for a, c in curves.items()
        }
        rows.append((f"Entropy: {name} 5 rounds", found))
    scored = {a: interval(files.table(a, "kl", "eval-sampled"), False) for a in files.arms}
    rows.append(("KL to the start", {a: cell(f, **nats) for a, f in scored.items()}))
    rows.append(
        ("Old skills", {a: cell(interval(files.table(a, stage="eval-old", items=old), True)) for a in files.arms})
    )
    change = {}
    for a in files.arms:
        tables = [files.table(one, stage="eval-old", items=old) for one in (a, ROOT.get(a, "base"))]
        untrained = a == ROOT.get(a, "base")
        change[a] = ["", "it is the start"] if untrained else delta(Difference(*tables))
    rows.append(("Old skills, change", change))
    drops = {}
    for a in files.arms:
        both = zip(files.table(a), files.table(a, stage="eval-blank"), strict=True)
        drops[a] = [[None if None in pair else pair[0] - pair[1] for pair in zip(*runs, strict=True)] for runs in both]
    rows.append(("Drop without pictures", {a: delta(Difference(t)) for a, t in drops.items()}))
    for kind in (None, *files.kinds):
        items = files.select(lambda i, kind=kind: kind in (None, files.kind[i]))
        found = {a: interval([[run[i].agrees for i in items] for run in seen[a]], True) for a in files.arms}
        if any(found.values()):
            cells = {a: cell(f, why="no thinking states a result") for a, f in found.items()}
            rows.append((f"Thinking agrees with the answer: {kind or 'all'}", cells))
    for kind in (None, *files.kinds):
        found = {a: interval(empty_thinking(files, a, kind), True) for a in files.arms}
        rows.append((f"Empty thinking: {kind or 'all'}", {a: cell(f) for a, f in found.items()}))
    rows.append(("Reward against held-out accuracy", {a: ranks(files, a) for a in files.arms}))
    return rows


def ranks(files, arm):
    """Spearman of held-out accuracy and the mean reward since the evaluation before, each less its run's mean."""
    rewards, accuracies = [], []
    for run in files.metrics(arm):
        watched = [(r["round"], r["held_out/accuracy"]) for r in run if "held_out/accuracy" in r]
        points = [
            (fmean(r["reward/mean"] for r in run if "reward/mean" in r and before < r["round"] <= now), accuracy)
            for (before, _), (now, accuracy) in pairwise(watched)
        ]
        means = [fmean(column) for column in zip(*points, strict=True)]
        rewards += [x - means[0] for x, _ in points]
        accuracies += [y - means[1] for _, y in points]
    return cell(by_hand.spearman(rewards, accuracies), 1, 2) if rewards else ["", "no grpo run"]


@pytest.fixture(scope="module")
def seen(files):
    """Arm -> for each seed: item -> its trace."""
    lexicons = {name: by_hand.Lexicon(LEXICONS, name) for name in ("paper", "strict", "word")}
    return {
        arm: [
            {row["sample_id"]: by_hand.Trace(row, files.board[row["sample_id"]], lexicons) for row in run}
            for run in files.rows(arm, "eval").values()
        ]
        for arm in files.arms
    }


def test_measures(files, page, seen):
    table = page.tables["Measures"]
    assert [c.text.split()[0] for c in table.headings[1:]] == files.arms
    expected = []
    for row, (name, cells) in zip(table.rows, measures_of(files, seen), strict=True):
        assert row[0].text == name
        expected.append([[name, row[0].small[0]], *(cells[arm] for arm in files.arms)])
    compare(table, expected)


def test_traces(files, page, seen):
    part = lambda some, of: some / of if some is not None and of else None  # noqa: E731
    rows = {
        "Words of thinking": lambda t: t.words,
        "Hesitation markers": lambda t: t.rates["word"],
        "Second looks": lambda t: t.rates["strict"],
        "Aha cues of the paper": lambda t: t.rates["paper"],
        "Hesitations": lambda t: t.hesitations,
        "Revisions": lambda t: t.revisions,
        "Pseudo-ahas": lambda t: part(None if t.revisions is None else t.hesitations - t.revisions, t.hesitations),
        "True statements": lambda t: t.true,
        "Truth of statements": lambda t: part(t.true, len(t.truths)),
        "Cannot be checked": lambda t: part(t.statements - len(t.truths), t.statements),
        "Traces with a false statement": lambda t: float(t.false > 0),
        "First false statement": lambda t: t.first_false,
        "Before the first false statement": lambda t: t.before_false,
        "False statements repaired": lambda t: part(t.repaired, t.false),
        "Repairs": lambda t: t.repaired,
        "Lucky": lambda t: float(t.false > t.repaired) if t.ok and t.truths else None,
        "Repeated 4-grams": lambda t: t.repeated,
        "Cut or never closed": lambda t: float(t.cut),
    }
    table, expected = page.tables["Trace measures"], []
    quality = {name: tomllib.loads((LEXICONS / f"{name}.toml").read_text()) for name in ("paper", "strict", "word")}
    for row, (name, read) in zip(table.rows[:-1], rows.items(), strict=True):
        share = row[0].small[0].startswith("%")
        found = {arm: interval([[read(t) for t in run.values()] for run in seen[arm]], share) for arm in files.arms}
        used = re.search(r"lexicon (\w+)", row[0].small[0])
        if used:
            values = quality[used[1]]
            assert f"precision {values['precision']:.2f}, recall {values['recall']:.2f}" in row[0].small[0]
        expected.append(
            [[name, row[0].small[0]], *(cell(found[a], *((100, 1) if share else (1, 2))) for a in files.arms)]
        )
    lengths = []
    for arm in files.arms:
        graded = [t for run in seen[arm] for t in run.values() if t.ok is not None]
        lengths.append(N(stats.pearsonr([t.words for t in graded], [float(t.ok) for t in graded]).statistic, 2))
    expected.append([["Length against being right", ...], *lengths])
    compare(table, expected)


def test_published_numbers(files, page):
    table = tomllib.loads((PACKAGE / "study/published.toml").read_text())["before_grpo"]
    expected = []
    for row in table["rows"]:
        known = row["arm"] in files.arms
        ours = cell(interval(files.table(row["arm"]), True)) if known else ["–"]
        expected.append([[row["model"]], row["arm"] if known else "–", ours, *(str(score) for score in row["scores"])])
    compare(page.tables["Published numbers"], expected)
    assert all(note in page.sections["published"] for note in table["not_matched"])


def test_funnels(files, page):
    steps = ("caption", "distill", "rewrite", "verify", "split")
    for name in ("hesitant", "concise"):
        rows, expected = json.loads((files.folder / f"data/{name}/funnel.json").read_text()), []
        for source in dict.fromkeys(row["source"] for row in rows):
            mine = {row["step"]: row for row in rows if row["source"] == source}
            lost = "; ".join(
                f"{step}: {', '.join(f'{why} {n}' for why, n in mine[step]['dropped'].items())}"
                for step in steps if mine[step]["dropped"]
            )  # fmt: skip
            left = [str(mine[step]["out"]) for step in steps]
            expected.append(
                [source, str(mine["caption"]["in"]), *left, str(mine["split"]["sft"]), str(mine["split"]["rl"]), lost]
            )
        compare(page.tables[f"Funnel of {name}"], expected)


def duration(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def test_time_and_cost(files, page):
    expected, whole = [], 0.0
    for arm in files.arms:
        stages = sorted({f.parent.name for f in files.folder.glob(f"arms/{arm}/seed*/*/done.json")})
        for stage in stages:
            summaries = [done["summary"] for done in files.json(arm, stage).values()]
            scores = files.rows(arm, stage)
            spent = (
                [sum(r["seconds"] for r in rows) for rows in scores.values()]
                if scores
                else [s["seconds"] for s in summaries]
            )
            tokens = [
                N(fmean(s[key] for s in summaries), 0) if key in summaries[0] else "–"
                for key in ("tokens_generated", "tokens_trained")
            ]
            tag = {"grpo-coin": " placebo", "grpo-blank": " blank pictures"}.get(arm, "")
            expected.append(
                [arm + tag, stage, str(len(spent)), duration(fmean(spent)), duration(sum(spent)), *tokens, "–"]
            )
            whole += sum(spent)
    compare(page.tables["Time and cost"], expected)
    assert f"{duration(whole)} for all runs together" in " ".join(page.sections["cost"].split())


def test_no_table_is_left_out(page):
    known = {
        "Arms", "Further evaluations", "Planned comparisons", "Matched controls", "Budgets", "Gains by kind", "Measures",
        "Trace measures", "Published numbers", "Funnel of hesitant", "Funnel of concise", "Time and cost",
    }  # fmt: skip
    assert set(page.tables) == known, "a table without a test of its numbers"
