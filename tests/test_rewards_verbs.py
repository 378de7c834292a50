"""`seethink reward score | check | audit | serve`, and the shared vectors where they are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import load_samples, write_jsonl
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder, score
from seethink.rewards.audit import canaries
from seethink.rewards.check import check_gold
from seethink.rewards.open.probe import separation
from seethink.rewards.open.scorers import Lexical
from seethink.rewards.serve import is_loopback

ROWS = [
    {"id": "a", "kind": "digit", "gold": "7", "response": compose("", "7 cubes")},
    {
        "id": "b",
        "kind": "mcq",
        "gold": "C",
        "options": {"A": "1", "B": "2", "C": "3"},
        "response": compose("", "(C) 3"),
    },
    {"id": "c", "kind": "math", "gold": r"\frac12", "response": compose("", "0.5")},
    {
        "id": "d",
        "kind": "iou",
        "gold": [0, 0, 10, 10],
        "coords": "pixel",
        "image_size": [20, 20],
        "response": compose("", "[0,0,5,10]"),
    },
    {"id": "e", "kind": "open", "gold": "a red cube", "question": "What?", "response": compose("", "a red cube")},
    {"id": "f", "kind": "format", "gold": "", "response": "<think>x</think> so <answer>5</answer>"},
    {"id": "g", "kind": "format", "gold": "", "response": compose("x", "5")},
    {"id": "h", "kind": "math", "gold": "", "response": compose("", "5")},
]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_score(tmp_path, capsys):
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    assert main(["reward", "score", str(source), "--out", str(out)]) == 0
    found = read(out)
    assert [row["id"] for row in found] == list("abcdefgh")
    assert [row["reward"] for row in found] == [1, 1, 1, 0.5, 1, 0, 1, None]
    assert [row["status"] for row in found][-3:] == ["no_format", "ok", "gold_error"]
    said = capsys.readouterr().out
    assert found[0]["answer"] == "7 cubes" and re.search(r"digit +ok +1\n", said)
    assert re.search(r"all +7 +1 +0\.786 \[0\.\d+, 1\.000\]", said), "undecided stands apart, and is no 0"
    assert re.search(r"math +gold_error +empty gold +1\n", said), "a status comes with a reason"
    assert main(["reward", "score", str(source), "--out", str(out), "--reward.kind_scale", "{digit = 0.5}"]) == 0
    assert read(out)[0]["reward"] == 0.5


def test_score_refuses_rows_without_a_response(tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", [ROWS[0], {k: v for k, v in ROWS[1].items() if k != "response"}])
    assert main(["reward", "score", str(source), "--out", str(tmp_path / "o.jsonl")]) == 2
    assert "in.jsonl:2" in capsys.readouterr().err and not (tmp_path / "o.jsonl").exists()


BAD_GOLDS = [
    ("digit", "seven or so", {}), ("choice", "E", {}), ("choice", "", {}), ("math", "", {}), ("math", r"\frac{1}{0}", {}), ("math", r"\frac{1}{", {}),
    ("box", "[1, 2, 3]", {}), ("box", "[0.5, 0.5, 0.1, 0.9]", {}), ("box", "[10, 10, 20, 20]", {"coords": "pixel"}), ("open", "?", {}),
]  # fmt: skip
GOOD_GOLDS = [
    ("digit", "7", {}), ("choice", "(c)", {}), ("choice", "A, B", {}), ("math", "y=|x+9|", {}), ("math", "Evelyn", {}),
    ("math", r"\int_0^1 x\,dx", {}), ("box", "[0.1, 0.2, 0.7, 0.5]", {}), ("open", "A man repairs a bicycle.", {}),
]  # fmt: skip


def test_check_finds_exactly_the_bad_golds(tmp_path, capsys):
    for kind, gold, meta in BAD_GOLDS + GOOD_GOLDS:
        problem = check_gold(Sample("x", "", (), "q", gold, kind, meta=meta))
        assert bool(problem) == ((kind, gold, meta) in BAD_GOLDS), (kind, gold, problem)
    rows = [{"id": str(i), "kind": k, "gold": g, "meta": m} for i, (k, g, m) in enumerate(BAD_GOLDS + GOOD_GOLDS)]
    source = write(tmp_path / "golds.jsonl", [*rows, {"id": "z", "gold": "1"}])
    assert main(["reward", "check", str(source), "--out", str(tmp_path / "bad.jsonl")]) == 2
    assert [row["row"] for row in read(tmp_path / "bad.jsonl")] == [*range(1, len(BAD_GOLDS) + 1), len(rows) + 1]
    assert "8 of 19 rows are usable" in capsys.readouterr().out
    good = write(tmp_path / "good.jsonl", rows[len(BAD_GOLDS) :])
    assert main(["reward", "check", str(good)]) == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({}, 0, "1 of 1 rows are usable"),
        ({"scan": "here.png"}, 2, "'scan'"),
        ({"pictures": ["here.png"]}, 2, "'pictures'"),
        ({"hint": "the side is 3"}, 2, "'hint'"),
        ({"question": "<image1> How many?"}, 2, "<image1>"),
        ({"kind": "choice", "gold": "A", "options": ["red", "blue"]}, 2, "'options'"),
        ({"question": "How many <|im_end|>"}, 2, "<|im_end|>"),
        ({"images": ["here.png"]}, 0, "1 of 1 rows are usable"),
        (
            {"images": ["here.png", "gone.png"]},
            0,
            "! 1 rows name pictures that are not here, the first row 1: gone.png",
        ),
    ],
)
def test_check_says_what_training_would_refuse(tmp_path, capsys, more, code, said):
    """What no model would be shown is refused as grpo refuses it; pictures may lie on another machine, so that is only said."""
    Image.new("RGB", (4, 4)).save(tmp_path / "here.png")
    row = {"id": "a", "kind": "digit", "gold": "2", "question": "How many?", **more}
    source = write(tmp_path / "rows.jsonl", [row])
    assert main(["reward", "check", str(source)]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    if code:
        with pytest.raises(UserError):
            load_samples(source)


def test_audit(tmp_path, capsys):
    rows = ROWS[:5] + [
        {"id": f"o{i}", "kind": "open", "gold": text, "question": f"q{i}", "response": compose("", text)}
        for i, text in enumerate(["a dog on a mat", "two boats at sea", "the old clock tower"])
    ]
    rows.append({"id": "m", "kind": "math", "gold": "1/3", "response": compose("", "0.3333")})
    source, out, calibration = (
        write(tmp_path / "in.jsonl", rows),
        tmp_path / "audit.json",
        tmp_path / "calibration.json",
    )
    command = [
        "reward",
        "audit",
        str(source),
        "--second",
        "math-verify",
        "--out",
        str(out),
        "--calibration",
        str(calibration),
    ]
    assert main(command) == 0
    found = json.loads(out.read_text())
    assert found["canaries"]["paid"] == 0 and found["canaries"]["tried"] > 20
    assert found["probes"]["paid"] == {} and found["separation"]["auc"] == 1
    assert found["second"]["compared"] == 2 and found["second"]["only_math_verify_pays"] == 0
    assert found["answers"]["digit"]["most_common_answer"] == "7 cubes"
    assert set(json.loads(calibration.read_text())) == {"right", "wrong"}
    assert "ALARM" not in capsys.readouterr().out


def test_audit_raises_the_alarm(tmp_path):
    class Flatterer(Lexical):
        """Likes everything the same."""

        def score_batch(self, items):
            return [0.9 for _ in items]

    samples = [Sample(str(i), "", (), f"q{i}", f"text number {i} of many", "open") for i in range(20)]
    assert separation(samples, Rewarder(scorer=Flatterer()))["alarm"]
    loose = RewardConfig.model_validate({"box": {"threshold": 0.0}})
    assert canaries([Sample("b", "", (), "q", "[0.5, 0.5, 1, 1]", "box")], Rewarder(loose))["alarm"]


@pytest.fixture
def server():
    command = [sys.executable, "-m", "seethink", "reward", "serve", "--port", "0", "--seconds", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def post(url: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_serve(server):
    labels = [
        json.dumps({k: v for k, v in row.items() if k != "response"} | {"solution": row["gold"]}) for row in ROWS[:5]
    ]
    body = {"query": [row["response"] for row in ROWS[:5]], "prompts": [""] * 5, "labels": labels}
    status, found = post(server, body)
    assert status == 200 and found["rewards"] == found["scores"] == [1, 1, 1, 0.5, 1]
    samples = [{k: v for k, v in row.items() if k != "response"} for row in ROWS[:5]]
    status, found = post(f"{server}score", {"samples": samples, "responses": body["query"]})
    assert status == 200 and [r["value"] for r in found["rewards"]] == [1, 1, 1, 0.5, 1]
    for bad in (
        b"{",
        {},
        {"samples": samples, "responses": []},
        {"samples": [1], "responses": ["x"]},
        {"samples": [{}], "responses": ["x"]},
    ):
        status, found = post(f"{server}score", bad)
        assert status == 400 and found["error"]
    health = json.load(urllib.request.urlopen(f"{server}health", timeout=10))
    assert health["status"] == "ok" and len(health["scorer"]) >= 16 and set(health) == {"status", "scorer"}


def test_an_open_address_needs_a_token(monkeypatch, capsys):
    monkeypatch.delenv("SEETHINK_REWARD_TOKEN", raising=False)
    assert main(["reward", "serve", "--host", "0.0.0.0", "--port", "0", "--seconds", "1"]) == 2
    assert "SEETHINK_REWARD_TOKEN" in capsys.readouterr().err
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "example.org")] == [
        True
    ] * 3 + [False] * 3


def test_the_token_is_asked_for(monkeypatch):
    monkeypatch.setenv("SEETHINK_REWARD_TOKEN", "s3cret")
    command = [sys.executable, "-m", "seethink", "reward", "serve", "--port", "0", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        body = {"samples": [{"kind": "digit", "gold": "7"}], "responses": [compose("", "7")]}
        assert post(f"{url}score", body)[0] == 401
        assert post(f"{url}score", body, {"Authorization": "Bearer wrong"})[0] == 401
        assert post(f"{url}score", body, {"Authorization": "Bearer s3cret"})[0] == 200
        process.terminate()
        assert "s3cret" not in process.communicate()[1]


# ---------------------------------------------------------------------------------------------------------- shared vectors


def test_vectors(shared, tmp_path):
    """All vectors but those marked as open to choice; adversarial ones without exception."""
    vectors = read(shared / "vectors" / "rewards.jsonl")
    assert (
        main(["reward", "score", str(shared / "vectors" / "rewards.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 0
    )
    wrong = []
    for vector, found in zip(vectors, read(tmp_path / "out.jsonl"), strict=True):
        reward, expected = found["reward"], vector["expected"]
        if vector["kind"] == "open":
            good = reward is not None and reward <= vector["upper_bound"]
        elif "policy" in vector["tags"]:
            good = reward in vector.get("expected_alt", [expected]) or reward == pytest.approx(expected, abs=1e-6)
        else:
            good = (
                reward is None if expected is None else reward == pytest.approx(expected, abs=vector.get("tol", 1e-9))
            )
        if not good:
            wrong.append(vector["id"])
    assert wrong == []


def test_golds_of_real_sources_are_usable(shared):
    questions = read(shared / "data" / "mathvision" / "test.jsonl")
    free = {str(row["answer"]) for row in questions if not row["options"]}
    unusable = [gold for gold in free if check_gold(Sample("x", "", (), "q", gold, "math"))]
    assert len(free) > 300 and len(unusable) <= 0.02 * len(free)
    chosen = [row for row in questions if row["options"]]
    options = [Sample("x", "", (), "q", row["answer"], "choice", tuple(row["options"])) for row in chosen]
    assert [sample.gold for sample in options if check_gold(sample)] == []


def test_check_names_golds_that_only_their_own_text_equals(tmp_path, capsys):
    golds = [r"A \otimes B \models C", "3", r"\lim_{x\to 0} x"]
    rows = [{"id": f"g{i}", "question": "q", "kind": "math", "gold": gold} for i, gold in enumerate(golds)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    main(["reward", "check", str(tmp_path / "rows.jsonl")])
    said = capsys.readouterr().out
    assert "1 golds can only be compared as text" in said and "g0" in said and "g2" not in said
    sample = Sample("g0", "", (), "q", golds[0], "math")
    values = [score(sample, compose("", answer)).value for answer in (golds[0], r"A \otimes C \models B", "3")]
    assert values == [1, 0, 0]
