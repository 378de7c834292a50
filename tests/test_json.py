"""`--json`: one object on stdout from every verb, whatever it prints for people, and whether the run had finished before."""

from __future__ import annotations

import json

import pytest

from seethink import cli
from seethink.core.nouns import Sample, Verdict
from seethink.core.store import save_samples
from seethink.core.tags import compose
from seethink.data.kept import Draft, Kept, save_kept
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import MODELS


def said(capsys, *arguments: object) -> dict:
    assert cli.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def folder(tmp_path):
    """Traces, samples, and answers to them."""
    samples = [Sample(f"s{n}", "mine", (), f"How many in {n}?", str(n + 1), "digit") for n in range(4)]
    save_samples(tmp_path / "rows.jsonl", samples)
    trace = lambda s: Draft("Wait, one more." if s.id == "s1" else "One by one.", s.gold, "m", 3)  # noqa: E731
    save_kept(tmp_path / "traces.jsonl", [Kept(s, trace(s), Verdict(True, "rule")) for s in samples])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    answers = [json.dumps({**row, "response": compose("x", "1")}) for row in rows]
    (tmp_path / "answers.jsonl").write_text("\n".join(answers) + "\n")
    return tmp_path


def test_a_run_tells_its_summary_and_whether_it_was_done_before(folder, capsys):
    split = ["split", "--traces", folder / "traces.jsonl", "--out", folder / "split"]
    first = said(capsys, *split)
    assert (first["sft"], first["rl"], first["done_before"], first["out"]) == (3, 1, False, str(folder / "split"))
    curate = ["curate", "--data", folder / "traces.jsonl", "--keep", "no-aha", "--out", folder / "curated"]
    assert said(capsys, *curate)["selected"] == 3
    traces = ["traces", "--input", folder / "traces.jsonl", "--out", folder / "analysed"]
    assert [said(capsys, *traces)["done_before"] for _ in range(2)] == [False, True]


def test_data_tells_its_summary(tmp_path, capsys):
    source = make_samples(tmp_path, 6)
    with FakeApi(teacher) as api:
        line = ["data", "--source", source, "--base_url", api.base_url, "--out", tmp_path / "run", *MODELS]
        first, again = said(capsys, *line), said(capsys, *line)
    assert first["samples"] == 6 == first["sft"] + first["rl"] + first["dropped"]
    assert (first.pop("done_before"), again.pop("done_before")) == (False, True) and first == again


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("export --data {0}/rows.jsonl --format trl --out {0}/trl.jsonl", {"rows": 4}),
        ("export --data {0}/rows.jsonl --format trl --out {0}/trl.jsonl --dry-run", {"rows": 4}),
        ("reward score {0}/answers.jsonl --out {0}/scored.jsonl", {"rows": 4, "counts": {"digit ok": 4}}),
        ("reward check {0}/rows.jsonl", {"rows": 4, "usable": 4, "text_only": 0}),
        ("view {0}/rows.jsonl", {"items": 4}),
        ("fingerprint --data {0}/rows.jsonl --out {0}/hashes.jsonl", {"items": 4, "pictures": 0}),
        ("pocket build --out {0}/world --dry-run", {}),
    ],
)
def test_other_verbs_tell_what_they_wrote(folder, capsys, line, expected):
    found = said(capsys, *line.format(folder).split())
    assert {name: found[name] for name in expected} == expected


def test_an_audit_and_the_machine(folder, capsys):
    assert {"canaries", "probes"} <= said(capsys, "reward", "audit", folder / "answers.jsonl").keys()
    assert said(capsys, "doctor", "--out", folder)["python"]["ok"] is not False


RUNS_ALONE = {"study", "doctor", "reward serve", "pocket teach"}
"""Verbs that need no argument, and begin."""


@pytest.mark.parametrize("verb", sorted(cli.VERBS.keys() - RUNS_ALONE))
def test_an_error_leaves_standard_output_empty(verb, capsys):
    """For programs: text on standard error and exit code 2, so that nobody parses half an object."""
    assert cli.main([*verb.split(), "--json", "--no_such_key", "1"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("seethink: ") and len(said.err.splitlines()) == 1


def test_an_error_at_the_end_of_a_verb_too(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "kind": "digit", "gold": "none"}\n')
    assert cli.main(["reward", "check", str(tmp_path / "rows.jsonl"), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "0 of 1 rows are usable" in said.err
