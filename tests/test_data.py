"""The data pipeline against a scripted teacher: tables, resume, faults, bad input."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import load_examples, load_samples, read_json, read_jsonl
from seethink.core.tables import read_table
from seethink.core.tags import compose, extract
from seethink.data.forecast import resample
from seethink.data.kept import Draft
from seethink.data.pipeline import DataConfig, run
from seethink.data.steps import (
    Rejected,
    final_answer,
    load_prompts,
    read_trace,
    rule_verdict,
    yes_or_no,
)
from tests.data_world import SOURCES, make_samples, teacher
from tests.fake_api import FakeApi, last_text

MODELS = ("--captioner.model", "captioner", "--reasoner.model", "reasoner") + (
    "--rewriter.model", "rewriter", "--judge.model", "judge",
)  # fmt: skip
TABLES = ("traces.jsonl", "sft.jsonl", "rl.jsonl", "drops.parquet", "funnel.json")


def settings(source, out, base_url, *more):
    return resolve(DataConfig, ["--source", str(source), "--out", str(out), "--base_url", base_url, *MODELS, *more])


def tables(out):
    """Contents of the tables, without what must differ between two folders."""
    texts = {name: (out / name).read_bytes() for name in TABLES if name.endswith(".json")}
    rows = {name: [row for _, row in read_jsonl(out / name)] for name in TABLES if name.endswith(".jsonl")}
    for row in (row for part in rows.values() for row in part):
        row["images"] = [Path(out, image).resolve().name for image in row["images"]]
    return texts, rows, read_table(out / "drops.parquet")


@pytest.fixture
def source(tmp_path):
    return make_samples(tmp_path, 60)


def test_every_sample_ends_in_one_place(tmp_path, source, capsys):
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
    samples = {s.id: s for s in load_samples(source)}
    sft, rl, drops = load_examples(out / "sft.jsonl"), load_samples(out / "rl.jsonl"), read_table(out / "drops.parquet")
    ids = [e.sample.id for e in sft] + [s.id for s in rl] + [d["sample_id"] for d in drops]
    assert Counter(ids) == Counter(samples.keys())
    reasons = {d["sample_id"]: (d["step"], d["reason"]) for d in drops}
    traced = {i: int(i.split("-")[1]) for i in samples if samples[i].source != "geoqa170k"}
    for sample_id, n in traced.items():
        kind = samples[sample_id].kind
        expected = {
            1: ("distill", "format"),
            2: ("verify", "judge_no" if kind == "open" else "rule_no"),
            3: ("rewrite", "gap"),
            4: ("verify", "judge_unparsable") if kind == "open" else None,
        }.get(n % 10)
        assert reasons.get(sample_id) == expected
    assert {s.source for s in rl} >= {"geoqa170k"} and "geoqa170k" not in {e.sample.source for e in sft}
    assert {int(s.id.split("-")[1]) % 10 for s in rl if s.source != "geoqa170k"} <= {5, 6}
    assert not {int(e.sample.id.split("-")[1]) % 10 for e in sft} & {1, 2, 3, 5, 6}
    example = next(e for e in sft if e.sample.id == "item-0")
    assert extract(example.completion).answer == "So it is.\nAnswer: 1"
    assert "the image shows" in example.completion and "caption" not in example.completion
    assert example.sample.meta["caption"] == "A picture with a number."
    for row in read_json(out / "funnel.json"):
        assert row["in"] == row["out"] + sum(row["dropped"].values()) + row["pending"]
    spend = {r["step"]: r for _, r in read_jsonl(out / "spend.jsonl")}
    assert spend["distill"]["usd"] is None and spend["distill"]["calls"] == len(traced)
    assert "dropped: " in capsys.readouterr().out


def test_the_same_command_again_calls_nothing(tmp_path, source):
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "run", api.base_url))
        before, calls = tables(tmp_path / "run"), len(api.bodies)
        run(settings(source, tmp_path / "run", api.base_url))
        assert len(api.bodies) == calls and tables(tmp_path / "run") == before


def test_another_address_is_no_other_run(tmp_path, source):
    for _ in range(2):
        with FakeApi(teacher) as api:
            run(settings(source, tmp_path / "run", api.base_url))
    assert not api.bodies and read_json(tmp_path / "run" / "done.json")["summary"]["samples"] == 60


def test_a_changed_picture_or_cue_list_is_another_run(tmp_path, source):
    """Both are read by name; what counts is what they hold."""
    out, cues = tmp_path / "run", tmp_path / "cues.toml"
    cues.write_text('cues = ["nothing of the kind"]')
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url, "--split.preset", str(cues)))
        asked, sft = len(api.bodies), len(load_examples(out / "sft.jsonl"))
        other = tmp_path / "other.toml"
        other.write_text('cues = ["wait"]')
        before = tables(out)
        with pytest.raises(UserError, match="split.preset.*--overwrite"):
            run(settings(source, out, api.base_url, "--split.preset", str(other)))
        assert tables(out) == before and (out / "done.json").exists(), "a finished folder stays as it is"
        run(settings(source, out, api.base_url, "--split.preset", str(other), "--overwrite"))
        assert len(api.bodies) == asked and len(load_examples(out / "sft.jsonl")) < sft
        Image.new("RGB", (8, 8), "white").save(tmp_path / "images" / "0.png")
        run(settings(source, out, api.base_url, "--split.preset", str(other), "--overwrite"))
        assert [b["model"] for b in api.bodies[asked:]] == ["captioner"]


def test_an_unknown_format_names_the_known_ones(tmp_path, source):
    with pytest.raises(UserError, match="unknown format 'roes'. Use one of rows, paper"):
        run(settings(source, tmp_path / "run", "http://127.0.0.1:9/v1", "--format", "roes"))


def test_a_role_keeps_what_is_not_given(tmp_path, source):
    config = settings(source, tmp_path, "http://127.0.0.1:9/v1", "--judge.price", "[1, 2]")
    assert config.judge.params == {"temperature": 0, "max_tokens": 8} and config.judge.price == (1, 2)
    assert config.reasoner.model == "reasoner" and config.reasoner.params["temperature"] == 0.6


def test_only_changed_questions_are_asked(tmp_path, source):
    """A row more costs its own calls, another order none, another judge prompt only judge calls."""
    out = tmp_path / "run"
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "verify.txt").write_text("Yes or No? $question <reference>\n$gold\n</reference> $answer")
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url))
        asked = len(api.bodies)
        rows = source.read_text().splitlines()
        source.write_text("\n".join(reversed(rows[:59])) + "\n" + rows[59])
        run(settings(source, out, api.base_url, "--overwrite"))
        assert len(api.bodies) == asked
        extra = json.loads(rows[0]) | {"id": "item-new", "question": "What is 100 plus one? (item 100)", "gold": "101"}
        source.write_text("\n".join([*rows, json.dumps(extra)]))
        run(settings(source, out, api.base_url, "--overwrite"))
        assert Counter(b["model"] for b in api.bodies[asked:]) == {
            "reasoner": 1,
            "rewriter": 1,
        }  # image captioned before
        asked, judged = len(api.bodies), api.count("judge")
        run(settings(source, out, api.base_url, "--prompts", str(prompts), "--overwrite"))
        assert {b["model"] for b in api.bodies[asked:]} == {"judge"} and api.count("judge") == 2 * judged


def test_kill_and_rerun_ends_as_if_nothing_happened(tmp_path):
    source = make_samples(tmp_path, 120)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "calm", api.base_url))
        calm = len(api.bodies)
    out = tmp_path / "killed"
    with FakeApi(teacher, latency=0.01) as api:
        arguments = [
            "--source",
            str(source),
            "--out",
            str(out),
            "--base_url",
            api.base_url,
            *MODELS,
            "--in_flight",
            "4",
        ]
        script = "import sys; from seethink.cli import main; sys.exit(main(['data', *sys.argv[1:]]))"
        command = [sys.executable, "-c", script, *arguments]
        for share in (0.25, 0.6):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda share=share: len(api.bodies) >= share * calm)
            assert process.poll() is None, "finished before the kill"
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert not (out / "sft.jsonl").exists() and not list(out.glob("*.tmp"))
        assert subprocess.run(command, capture_output=True, timeout=600).returncode == 0
        assert calm <= len(api.bodies) <= calm + 2 * 4 * 4  # repeats at most what was in flight at each kill
    assert tables(tmp_path / "calm") == tables(out)


def test_an_interrupt_leaves_a_funnel_with_pending_items(tmp_path):
    source, out = make_samples(tmp_path, 120), tmp_path / "run"
    with FakeApi(teacher, latency=0.02) as api:
        restore = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background shell ignores it
        )
        script = f"{restore}; import sys; from seethink.cli import main; sys.exit(main(['data', *sys.argv[1:]]))"
        arguments = [
            "--source",
            str(source),
            "--out",
            str(out),
            "--base_url",
            api.base_url,
            *MODELS,
            "--in_flight",
            "2",
        ]
        process = subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(api.bodies) >= 60)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=600)[1]
    assert process.returncode == 130 and "continues" in errors and "Traceback" not in errors
    rows = read_json(out / "funnel.json")
    assert sum(row["pending"] for row in rows) > 0 and not (out / "done.json").exists()
    for row in rows:
        assert row["in"] == row["out"] + sum(row["dropped"].values()) + row["pending"]


def test_faults_delay_but_lose_nothing(tmp_path, source):
    faults = {3: "429", 13: "500", 23: "cut", 33: "empty", 43: "drop"}
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "calm", api.base_url))
    with FakeApi(teacher, fault=lambda n, body: faults.get(n % 50)) as api:
        run(settings(source, tmp_path / "stormy", api.base_url))
    assert tables(tmp_path / "calm") == tables(tmp_path / "stormy")


@pytest.mark.parametrize(("fault", "reason", "again"), [("400", "refused", 0), ("empty", "empty", 1)])
def test_a_dead_item_is_dropped_alone_and_asked_again(tmp_path, source, fault, reason, again):
    """A refusal is final; silence is not, and the same command asks for that one item."""
    out = tmp_path / "run"

    def item_8(n, body):
        return fault if body["model"] == "reasoner" and "(item 8)" in last_text(body) else None

    with FakeApi(teacher, fault=item_8) as api:
        run(settings(source, out, api.base_url))
        dead = [(d["sample_id"], d["step"], d["reason"]) for d in read_table(out / "drops.parquet")]
        assert ("item-8", "distill", reason) in dead
        asked, api.fault = len(api.bodies), lambda n, body: None
        run(settings(source, out, api.base_url))
        assert [b["model"] for b in api.bodies[asked:]] == ["reasoner", "rewriter"][: 2 * again]


def test_dry_run_counts_from_the_ledger_and_writes_nothing(tmp_path, source, capsys):
    out = tmp_path / "run"
    with FakeApi(teacher) as api:
        run(settings(source, out, api.base_url), dry_run=True)
        assert not out.exists() and not api.bodies
        first = capsys.readouterr().out
        assert re.search(r"caption\s+captioner\s+0\s+45\s", first) and "cost unknown" in first
        run(settings(source, out, api.base_url, "--limit", "20"))
        capsys.readouterr()
        prices = [x for role in ("captioner", "reasoner", "rewriter", "judge") for x in (f"--{role}.price", "[1, 2]")]
        run(settings(source, out, api.base_url, *prices), dry_run=True)
        second = capsys.readouterr().out
        assert re.search(r"caption\s+captioner\s+15\s+30\s", second) and "unknown" not in second


def test_a_budget_stops_the_run_and_a_higher_one_continues(tmp_path, source):
    prices = [x for role in ("captioner", "reasoner", "rewriter", "judge") for x in (f"--{role}.price", "[0, 1000]")]
    tokens = [
        x for role in ("captioner", "reasoner", "rewriter", "judge") for x in (f"--{role}.params", "{max_tokens = 40}")
    ]
    with FakeApi(teacher) as api:
        with pytest.raises(UserError) as error:
            run(settings(source, tmp_path / "run", api.base_url, *prices, *tokens, "--budget", "0.5"))
        assert error.value.code == 4
        spent = sum(r["usd"] for _, r in read_jsonl(tmp_path / "run" / "spend.jsonl"))
        assert 0.4 < spent <= 0.5
        run(settings(source, tmp_path / "run", api.base_url, *prices, *tokens, "--budget", "50"))
    assert load_examples(tmp_path / "run" / "sft.jsonl")


def test_a_dead_endpoint_stops_within_seconds_and_names_itself(tmp_path, source):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        run(settings(source, tmp_path / "run", base_url))
    assert time.monotonic() - start < 60
    assert error.value.code == 3 and base_url in str(error.value) and "continues" in error.value.remedy
    assert sum(row["pending"] for row in read_json(tmp_path / "run" / "funnel.json")) == 60


def remove_image(folder):
    (folder / "images" / "7.png").unlink()


def break_row(folder):
    path = folder / "samples.jsonl"
    path.write_text(path.read_text().replace('{"id": "item-7"', '{"id": "item-7', 1))


def forget_gold(folder):
    path = folder / "samples.jsonl"
    path.write_text(path.read_text().replace('"gold": "5"', '"gold": null', 1))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove_image, ("samples.jsonl:8", "7.png", "does not exist")),
        (break_row, ("samples.jsonl:8", "not valid JSON", "Repair or remove")),
        (forget_gold, ("samples.jsonl:5", "'gold'")),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_trace(tmp_path, source, harm, words):
    harm(tmp_path)
    with FakeApi(teacher) as api:
        with pytest.raises(UserError) as error:
            run(settings(source, tmp_path / "run", api.base_url))
        assert not api.bodies
    assert error.value.code == 2 and "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_papers_json_is_not_rows(tmp_path, source):
    source.rename(tmp_path / "data.json")
    with pytest.raises(UserError, match="--format paper"):
        run(settings(tmp_path / "data.json", tmp_path / "run", "http://127.0.0.1:9/v1"))


def test_an_out_that_cannot_be_written_is_named(tmp_path, source):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create the folder"):
        run(settings(source, tmp_path / "file" / "run", "http://127.0.0.1:9/v1"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_out_is_named(tmp_path, source):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(UserError, match="not writable"):
        run(settings(source, tmp_path / "run", "http://127.0.0.1:9/v1"))


def test_the_key_is_nowhere_in_the_run(tmp_path, source, monkeypatch, capfd):
    canary = "sk-canary-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", canary)
    with FakeApi(teacher, fault=lambda n, b: "400" if n % 7 == 0 else None, echo_headers=True) as api:
        run(settings(source, tmp_path / "run", api.base_url))
    assert all(canary.encode() not in p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert canary not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("text", "reasoning", "expected"),
    [
        ("<think>a</think>b", "", ("a", "b")),
        ("\n<think>\n a \n</think>\n\n b c\n", "", ("a", "b c")),
        ("a</think>b", "", ("a", "b")),
        ("<think>a</think><answer>b</answer>", "", ("a", "b")),
        ("b", "a", ("a", "b")),
        ("b", "", "format"),
        ("<think>a</think>", "", "format"),
        ("<think>  </think>b", "", "format"),
        ("hello <think>a</think>b", "", "format"),
        ("<think>a</think><think>c</think>b", "", "format"),
        ("<think>a<think>c</think>b", "", "format"),
        ("<think>a</think>b</answer>", "", "format"),
        ("<think>a", "", "format"),
    ],
)
def test_read_trace(text, reasoning, expected):
    if isinstance(expected, str):
        with pytest.raises(Rejected) as error:
            read_trace(text, reasoning)
        assert error.value.reason == expected
    else:
        draft = read_trace(text, reasoning)
        assert (draft.think, draft.answer) == expected
        assert extract(compose(draft.think, draft.answer)).status == "ok"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", True),
        ("no", False),
        (" **Yes.** ", True),
        ("YES\n", True),
        ('"No", it differs', False),
        ("Yes, same", True),
        ("Yes the answer agrees", None),
        ("I think yes", None),
        ("", None),
        ("nothing", None),
        ("Yesterday", None),
    ],
)
def test_yes_or_no(text, expected):
    assert yes_or_no(text) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("7", "7"),
        ("It is so.\nAnswer: 7", "7"),
        ("**Answer:** There are 3 objects remaining.", "There are 3 objects remaining."),
        ("**Answer: B) The ratio decreases.**", "B) The ratio decreases."),
        ("Answer: 3\nFinal answer: 4", "4"),
        ("The answer is: 5", "5"),
        ("Answer:", "Answer:"),
    ],
)
def test_final_answer(answer, expected):
    assert final_answer(answer) == expected


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "expected"),
    [
        ("digit", "3", "3", True),
        ("digit", "3", "Some prose about 2 cubes and 1 ball.\nAnswer: 3", True),
        ("digit", "3", "Answer: 4", False),
        ("digit", "3", "There are 2 cubes and 1 ball, so 3.", None),
        ("choice", "B", "**Answer: B) The ratio decreases.**", True),
        ("choice", "B", "Answer: C", False),
        ("open", "a shop", "a shop", None),
    ],
)
def test_rule_verdict(kind, gold, answer, expected):
    verdict = rule_verdict(Sample("x", "s", (), "q", gold, kind), Draft("thinking", answer))
    assert (verdict and verdict.ok) == expected


@pytest.mark.parametrize(("name", "message"), [("verfy.txt", "no prompt is called 'verfy'"), (None, "no prompt files")])
def test_prompts_that_would_not_be_used_are_refused(tmp_path, name, message):
    if name:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / name).write_text("$question")
    with pytest.raises(UserError, match=message):
        load_prompts(tmp_path / "mine")


def test_prompts_of_ones_own_may_only_use_known_placeholders(tmp_path):
    (tmp_path / "verify.txt").write_text("$question $golden")
    with pytest.raises(UserError, match=r"\$gold"):
        load_prompts(tmp_path)


def wait_until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


def prices(*usd, tokens=40):
    """Settings of all four roles."""
    roles = ("captioner", "reasoner", "rewriter", "judge")
    params = [x for role in roles for x in (f"--{role}.params", f"{{max_tokens = {tokens}}}")]
    return [*params, *(x for role in roles for x in (f"--{role}.price", str(list(usd))))]


def test_a_pilot_says_what_all_will_take_and_is_not_paid_twice(tmp_path, capsys):
    """Of 40 items a source, 15 are asked; what the other ones then took lies where the pilot said."""
    source, out = make_samples(tmp_path, 160), tmp_path / "run"
    with FakeApi(teacher) as api:
        arguments = (source, out, api.base_url, *prices(1, 2))
        run(settings(*arguments, "--pilot", "15"), dry_run=True)
        assert not out.exists() and "caption" in capsys.readouterr().out
        run(settings(*arguments, "--pilot", "15"))
        said, record, asked = capsys.readouterr().out, read_json(out / "pilot.json"), list(api.bodies)
        assert "no finished run" in said and not (out / "done.json").exists() and not (out / "sft.jsonl").exists()
        sources = Counter(SOURCES[int(name.split("-")[1]) % 4] for name in record["asked"])
        assert sources == {"clevr_math": 15, "arxivqa": 15, "docvqa": 15}, "the fourth source asks nothing"
        drawn = sorted(int(name.split("-")[1]) for name in record["asked"])
        assert drawn != sorted(n for n in range(60) if n % 4 != 3), "a sample, not the first rows"
        run(settings(*arguments, "--pilot", "15"))
        assert len(api.bodies) == len(asked), "the same pilot draws the same items"
        spent = {row["step"]: row for _, row in read_jsonl(out / "spend.jsonl")}
        capsys.readouterr()

        run(settings(*arguments))
        after = {row["step"]: row for _, row in read_jsonl(out / "spend.jsonl")}
        assert len(api.bodies) == len({json.dumps(body, sort_keys=True) for body in api.bodies}) + retried(api.bodies)
    for row in record["plan"]["steps"]:
        step = row["step"]
        for name, ahead in (("calls", "calls"), ("completion_tokens", "completion_tokens"), ("usd", "usd")):
            took, (p50, p90) = after[step][name] - spent[step][name], row[ahead]
            assert abs(took - p50) <= 4 * (p90 - p50) / 1.28 + 0.03 * took, (step, name, took, row[ahead])
    kept = Counter(
        s.source for s in [e.sample for e in load_examples(out / "sft.jsonl")] + load_samples(out / "rl.jsonl")
    )
    for row in record["plan"]["sources"]:
        p50, p90 = row["kept_of_all"]
        assert abs(kept[row["source"]] - p50) <= 4 * (p90 - p50) / 1.28 + 2, row


def retried(bodies):
    """Calls that repeat a question on purpose: a judge who said neither Yes nor No is asked once more."""
    return sum(
        n - 1 for n in Counter(json.dumps(body, sort_keys=True) for body in bodies if body["model"] == "judge").values()
    )


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        (prices(0, 1), ""),
        (["--captioner.price", "[0, 1]"], "price of model 'reasoner', which is unknown"),
        ([*prices(0, 1), "--judge.params", "{max_tokens = 0}"], "max_tokens is 0"),
        ([*prices(0, 1), "--judge.model", "gpt-4o"], ""),
        (
            [*prices(0, 1)[:8], "--base_url", "https://api.openai.com/v1"],
            "genai-prices .* no price per token for it at openai",
        ),
    ],
)
def test_a_budget_is_refused_the_same_in_a_dry_run(tmp_path, source, more, refusal):
    with FakeApi(teacher) as api:
        config = settings(source, tmp_path / "run", api.base_url, "--limit", "4", "--budget", "5", *more)
        for dry in (True, False):
            if refusal:
                with pytest.raises(UserError, match=refusal):
                    run(config, dry_run=dry)
                assert not api.bodies
            else:
                run(config, dry_run=dry)


def test_the_table_of_prices_is_on_record_and_no_part_of_what_the_run_is(tmp_path, source):
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "a", api.base_url, *prices(1, 2)))
        run(settings(source, tmp_path / "b", api.base_url, *prices(1, 2)[:8]))
    rows = {row["step"]: row for _, row in read_jsonl(tmp_path / "a" / "spend.jsonl")}
    assert all(row["price"] == [1, 2] and row["price_from"] == "yours" for row in rows.values())
    unknown = [row for _, row in read_jsonl(tmp_path / "b" / "spend.jsonl")]
    assert all(row["price"] is None and "address of one's own" in row["price_from"] for row in unknown)
    assert read_json(tmp_path / "a" / "manifest.json")["key"] == read_json(tmp_path / "b" / "manifest.json")["key"]


def test_the_bootstrap_has_the_mean_and_the_spread_it_should():
    """n rows drawn from n and `size` from these: both add to the variance."""
    rows, size = np.random.default_rng(1).exponential(size=(50, 2)), 400
    totals = resample(np.random.default_rng(0), rows, size)
    variance = size**2 * rows.var(axis=0) / 50 + size * rows.var(axis=0) * (1 - 1 / 50)
    assert totals.mean(axis=0) == pytest.approx(size * rows.mean(axis=0), rel=0.02)
    assert totals.std(axis=0) == pytest.approx(np.sqrt(variance), rel=0.08)
