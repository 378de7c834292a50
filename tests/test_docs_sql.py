"""docs/run-folder.md, "Ask with SQL": every query as it stands there, on folders that the verbs wrote."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

import pytest

import seethink
from seethink.cli import main
from seethink.core.run import read_log
from seethink.core.store import load_samples, write_jsonl
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.pocket.build import build

duckdb = pytest.importorskip("duckdb")
pytestmark = pytest.mark.slow
BASE = Path(seethink.__file__).parent / "pocket" / "base"
TEXT = (Path(__file__).parents[1] / "docs" / "run-folder.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"(?s)```sql\n(.*?)```", TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """runs/ of grpo (one row left out), of two evaluations (one with an undecided answer) and of traces."""
    at = tmp_path_factory.mktemp("sql")
    build(at, seed=7, sft=0, rl=12, board=0, ood=0)
    lines = (at / "rl_pool.jsonl").read_text().splitlines()
    (at / "rl.jsonl").write_text(
        "\n".join([*lines, lines[0].replace('"id": "', '"id": "gone-').replace(".png", "-.png")])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        model = ["--model.path", str(BASE), "--model.dtype", "float32", "--reward.open.scorer", "lexical", "--kl", "0"]
        size = ["--rounds", "2", "--prompts", "6", "--update_prompts", "6", "--group", "2", "--max_tokens", "24"]
        assert main(["grpo", *model, *size, "--data", "rl.jsonl", "--skip_bad", "--out", "runs/grpo"]) == 0
        samples = load_samples(at / "rl_pool.jsonl")
        texts = [compose("so it is .", s.gold if n % 3 else "0") for n, s in enumerate(samples)]
        for name, given in (("base-eval", texts[:-1]), ("eval", [compose("so .", s.gold) for s in samples])):
            rows = ({"id": s.id, "text": text} for s, text in zip(samples, given, strict=False))
            write_jsonl(at / f"{name}.jsonl", rows)
            arguments = ["--data", "rl_pool.jsonl", "--predictions", f"{name}.jsonl", "--reward.open.scorer", "lexical"]
            assert main(["eval", *arguments, "--out", f"runs/{name}", "--accept_failures"]) == 0
        assert main(["traces", "--input", "runs/eval/scores.parquet", "--out", "runs/traces"]) == 0
    return at


@pytest.fixture
def ask(folder, monkeypatch):
    """A query of the page, by the words it begins with (or holds), as rows under their names."""
    monkeypatch.chdir(folder)

    def rows(part: str) -> list[dict]:
        (query,) = [query for query in QUERIES if part in query]
        found = duckdb.sql(query)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    return rows


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_every_query_has_an_answer(query, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert duckdb.sql(query).fetchall()


def test_rewards_by_round_are_those_of_the_log(ask, folder):
    log = read_log(folder / "runs/grpo/metrics.jsonl")
    rows = ask("AS reward, count(*) FILTER (reward IS NULL)")
    assert [row["round"] for row in rows] == [1, 2] and [row["completions"] for row in rows] == [12, 12]
    for row, logged in zip(rows, log, strict=True):
        assert row["reward"] == pytest.approx(logged["reward/mean"]) and row["undecided"] == logged["undecided"]
        assert row["tokens"] == pytest.approx(logged["completion/length"])
        assert row["cut"] == pytest.approx(logged["completion/cut_share"])
        assert row["entropy"] == pytest.approx(logged["entropy"], rel=0.2)  # of completions, not of tokens
    assert [row["reward/mean"] for row in ask("metrics.jsonl")] == [log[0]["reward/mean"]]


def test_groups_without_spread_are_those_of_the_log(ask, folder):
    log = read_log(folder / "runs/grpo/metrics.jsonl")
    golds = {sample.id: sample.gold for sample in load_samples(folder / "rl_pool.jsonl")}
    rows, groups = ask("min(reward) = max(reward)"), Counter(row["round"] for row in ask("min(reward) = max(reward)"))
    assert rows and all(row["gold"] == golds[row["sample_id"]] and row["completions"] == 2 for row in rows)
    assert [groups[n] / 6 for n in (1, 2)] == pytest.approx([row["groups/zero_spread"] for row in log])


def test_accuracy_by_kind_counts_the_undecided_apart(ask, folder, monkeypatch):
    scores, kinds = read_table(folder / "runs/eval/scores.parquet"), defaultdict(list)
    (query,) = [query for query in QUERIES if "GROUP BY kind" in query]
    assert all(row["accuracy"] == 1 and row["undecided"] == 0 for row in ask("GROUP BY kind"))
    assert sum(row["answers"] for row in ask("GROUP BY kind")) == len(scores) == 12
    found = duckdb.sql(query.replace("runs/eval/", "runs/base-eval/"))
    for score in read_table(folder / "runs/base-eval/scores.parquet"):
        kinds[score["kind"]].append(score["ok"])
    assert sum(oks.count(None) for oks in kinds.values()) == 1
    for kind, answers, accuracy, right, wrong, undecided in found.fetchall():
        oks = kinds[kind]
        assert (answers, right, wrong, undecided) == (len(oks), oks.count(True), oks.count(False), oks.count(None))
        decided = [ok for ok in oks if ok is not None]
        assert accuracy == (pytest.approx(mean(decided)) if decided else None)


def test_flips_drops_and_runs(ask, folder):
    base = {row["sample_id"]: row["ok"] for row in read_table(folder / "runs/base-eval/scores.parquet")}
    assert [row["sample_id"] for row in ask("IS DISTINCT FROM")] == sorted(
        i for i, ok in base.items() if ok is not True
    )
    (drop,) = ask("drops.parquet")
    assert (drop["step"], drop["reason"], drop["rows"]) == ("check", "bad_row", 1) and "does not exist" in drop[
        "detail"
    ]
    assert [(row["run"], row["answers"], row["kl"]) for row in ask("union_by_name")] == [
        ("base-eval", 12, None),
        ("eval", 12, None),
    ]
    assert [(row["ok"], row["traces"]) for row in ask("traces.parquet")] == [(True, 12)]
