"""A fault in a plan of one's own: the error names the file, the key at fault, and the key or the names that were meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from seethink.cli import main

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
PLAN = f"""
base = "{BASE}"
board = "board.jsonl"
seeds = [0, 1]
comparisons = [["sft+grpo", "grpo"]]
[data]
rl = "rl.jsonl"
traces = "sft.jsonl"
[grpo]
rounds = 2
optim = {{ lr = 1e-4 }}
[sft]
batch_size = 8
[eval]
max_tokens = 40
[arms.grpo]
stage = "grpo"
[arms.sft]
stage = "sft"
data = "traces"
[arms."sft+grpo"]
stage = "grpo"
start = "sft"
set = {{ kl = 0.01 }}
[sets.short]
verb = "curate"
of = "traces"
set = {{ shortest = 20 }}
[evals.blank]
set = {{ images = "blank" }}
[question]
text = "Q?"
[throughput]
gpus = 1
"""
PREPARE, POCKET = "[prepare]\n", 'function = "seethink.pocket.study:prepare"\n'
FAULTS = [  # what stands there, what stands there instead, and the error behind the name of the file
    ("seeds =", "seedz =", ": unknown config key 'seedz'. Did you mean seeds?"),
    ("[data]", "[dat]", ": unknown config key 'dat'. Did you mean data?"),
    ("[sft]", "[sftt]", ": unknown config key 'sftt'. Did you mean sft?"),
    ("[arms.grpo]", "[arm.grpo]", ": unknown config key 'arm'. Did you mean arms?"),
    ("[throughput]", "[[stages]]\nx = 1\n[throughput]", ": unknown config key 'stages'. Did you mean"),
    ("seeds = [0, 1]", "seeds = 2", ": seeds = 2: input should be a valid list"),
    ("[arms.grpo]\nstage", "[arms.grpo]\nstag", ": unknown config key 'arms.grpo.stag'. Did you mean arms.grpo.stage?"),
    ('[arms.grpo]\nstage = "grpo"', '[arms.grpo]\nstage = "grop"', ": arms.grpo.stage = 'grop': input should be 'sft'"),
    ("start =", "starts =", ": unknown config key 'arms.sft+grpo.starts'. Did you mean arms.sft+grpo.start?"),
    ("[arms.grpo]\n", "[arms.grpo]\nzzz = 1\n", "'arms.grpo.zzz'. Known keys: arms.grpo.stage, arms.grpo.start"),
    ('start = "sft"', 'start = "stf"', ", arms.sft+grpo.start: unknown arm 'stf'. Known: base, grpo, sft, sft+grpo"),
    ('data = "traces"', 'data = "trace"', ", arms.sft.data: unknown data 'trace'. Known: rl, traces, short"),
    ("rl =", "lr =", ", arms.grpo.data: unknown data 'rl'. Known: lr, traces, short"),
    ("{ kl =", "{ kll =", ", arms.sft+grpo.set: unknown config key 'kll'. Did you mean kl?"),
    ("{ kl = 0.01 }", "{ optim = { lrr = 1 } }", ", arms.sft+grpo.set: unknown config key 'optim.lrr'. Did you mean optim.lr?"),
    ("kl = 0.01", 'kl = "much"', ", arms.sft+grpo.set: kl = 'much': input should be a valid number"),
    ("{ kl = 0.01 }", '{ reward = { custom = "gone.py:f" } }', ", arms.sft+grpo.set.reward.custom: gone.py: file not found. "),
    ("rounds =", "rouns =", ", grpo: unknown config key 'rouns'. Did you mean rounds?"),
    ("lr = 1e-4", "lrate = 1e-4", ", grpo: unknown config key 'optim.lrate'. Did you mean optim.lr?"),
    ("batch_size", "batchsize", ", sft: unknown config key 'batchsize'. Did you mean batch_size?"),
    ("max_tokens", "max_token", ", eval: unknown config key 'max_token'. Did you mean max_tokens?"),
    ("verb = ", "verbs = ", ": unknown config key 'sets.short.verbs'. Did you mean sets.short.verb?"),
    ('"curate"', '"curated"', ": sets.short.verb = 'curated': input should be 'curate', 'select' or 'eval'"),
    ("of =", "off =", ": unknown config key 'sets.short.off'. Did you mean sets.short.of?"),
    ('of = "traces"', 'of = "tracez"', ", sets.short.of: unknown data 'tracez'. Known: rl, traces, short"),
    ("shortest", "shortst", ", sets.short.set: unknown config key 'shortst'. Did you mean shortest?"),
    ("[evals.blank]\nset", "[evals.blank]\nsett", "'evals.blank.sett'. Did you mean evals.blank.set?"),
    ("[evals.blank]\n", '[evals.blank]\nboard = "bord"\n', ", evals.blank.board: unknown data 'bord'. Known: rl, traces"),
    ("[evals.blank]\n", '[evals.blank]\narms = ["grop"]\n', ", evals.blank.arms: unknown arm 'grop'. Known: base, grpo"),
    ("images =", "image =", ", evals.blank.set: unknown config key 'image'. Did you mean images?"),
    ('"blank" }', '"blnk" }', ", evals.blank.set: images = 'blnk': input should be 'own', 'blank' or 'shuffled'"),
    ('"grpo"]]', '"gropo"]]', ", comparisons: unknown arm 'gropo'. Known: base, grpo, sft, sft+grpo"),
    ('[["sft+grpo", "grpo"]]', '["sft+grpo", "grpo"]', ": comparisons = ['sft+grpo', 'grpo']: every comparison is a pair"),
    ('"sft+grpo", "grpo"]', '"sft+grpo"]', ": comparisons = [['sft+grpo']]: every comparison is a pair"),
    ("text =", "txt =", ": unknown config key 'question.txt'. Did you mean question.text?"),
    ("[question]\n", '[question]\ncomparisons = [["sft", "grpo"]]\n', ", question.comparisons: sft - grpo is not planned. Planned: sft+grpo"),
    ("gpus =", "gpuss =", ": unknown config key 'throughput.gpuss'. Did you mean throughput.gpus?"),
    ("[question]", f"{PREPARE}funktion = 'x'\n[question]", ": unknown config key 'prepare.funktion'. Did you mean prepare.function?"),
    ("[question]", f"{PREPARE}function = 'nix:y'\n[question]", ", prepare.function: prepare.function 'nix:y' cannot be imported"),
    ("[question]", f"{PREPARE}{POCKET}settings = {{ sftt = 3 }}\n[question]", ", prepare.settings: unknown config key 'sftt'. Did you mean sft?"),
    ("seeds =", 'matched_on = ["step"]\nseeds =', ", matched_on: unknown axis 'step'. Known: prompts"),
    ("seeds =", 'handicapped = ["digits"]\nseeds =', ", handicapped: unknown reward kind 'digits'. Use one of digit"),
    ("seeds =", 'reference = "bse"\nseeds =', ", reference: unknown arm 'bse'. Known: base, grpo"),
    ("seeds =", 'only = ["grop"]\nseeds =', ", only: unknown arm 'grop'. Known: base, grpo"),
    ("seeds =", 'published = "published.toml#man"\nseeds =', ", published: published.toml: no published table 'man'. There are main"),
    ("seeds =", 'checker = "nix:here"\nseeds =', ", checker: checker 'nix:here' cannot be imported"),
    ("[grpo]\n", "[grpo]\nseed = 3\n", ": grpo.seed is not the plan's to say"),
]  # fmt: skip


def said(capsys, *arguments: str) -> str:
    assert main(["study", *arguments, "--out", "x", "--dry-run"]) == 2
    return capsys.readouterr().err


def test_the_plan_itself_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    assert main(["study", "@plan.toml", "--out", "x", "--dry-run"]) == 0


@pytest.mark.parametrize(("good", "bad", "words"), FAULTS)
def test_a_fault_is_named(good, bad, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert PLAN.count(good) >= 1
    Path("bad.toml").write_text(PLAN.replace(good, bad, 1))
    error = said(capsys, "@bad.toml")
    assert error.startswith("seethink: bad.toml") and words in error, error


def test_the_file_is_the_one_that_gave_the_key(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    Path("mine.toml").write_text('include = "plan.toml"\n[arms.sft]\ndata = "trace"\n')
    assert said(capsys, "@mine.toml").startswith("seethink: mine.toml, arms.sft.data: unknown data")
    assert said(capsys, "@plan.toml", "@mine.toml").startswith("seethink: mine.toml, arms.sft.data: unknown data")
    assert said(capsys, "@plan.toml", "--reference", "bse").startswith("seethink: reference: unknown arm 'bse'")
    Path("mine.toml").write_text('include = "plan.toml"\n[arms."sft+grpo".set]\nkl = 0.02\n[grpo]\nrouns = 3\n')
    assert said(capsys, "@mine.toml").startswith("seethink: mine.toml, grpo: unknown config key 'rouns'")
