"""Line separators that are none, halves of characters, and fields of any type: whole again from every file, or named."""

from __future__ import annotations

import json
import os

import pytest

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.run import Run, read_log
from seethink.core.store import hash_text, read_jsonl, well_formed, write_json, write_jsonl
from seethink.core.tables import read_table, write_table
from seethink.core.tags import compose
from seethink.data.kept import load_kept
from tests.fake_api import FakeApi
from tests.test_core import settings

BREAKS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\r\nj"
HALVES = "\ud83d and \ude00 apart"


def test_a_text_is_one_line_of_every_file(tmp_path):
    rows = [{"step": 1, "text": BREAKS}, {"step": 2, "text": HALVES}, {"step": 3, "text": "\\" + HALVES}]
    config = settings(tmp_path)
    with Run.open(config.out, "sft", config, {}) as run:
        run.write_rows("rollouts.jsonl", rows)
        run.rewind(3)
    assert read_log(config.out / "rollouts.jsonl") == rows
    write_jsonl(tmp_path / "rows.jsonl", rows[:1])
    assert [row for _, row in read_jsonl(tmp_path / "rows.jsonl")] == rows[:1]
    write_table(tmp_path / "t.parquet", rows)
    assert [row["text"] for row in read_table(tmp_path / "t.parquet")] == [
        BREAKS,
        *map(well_formed, (HALVES, "\\" + HALVES)),
    ]
    write_json(tmp_path / "t.json", rows)
    assert json.loads((tmp_path / "t.json").read_text()) == rows


def test_halves_of_characters_become_the_replacement_character():
    assert well_formed({"a\udc00": [HALVES, "whole \U0001f600", 1]}) == {
        "a\ufffd": ["\ufffd and \ufffd apart", "whole \U0001f600", 1]
    }
    assert hash_text(HALVES) != hash_text(well_formed(HALVES))


def test_a_log_that_is_broken_in_its_middle_is_named_and_a_cut_end_left_out(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n\n{"step": 2}\n{"ste')
    assert read_log(log) == [{"step": 1}, {"step": 2}]
    log.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(UserError, match="metrics.jsonl:2"):
        read_log(log)


SAMPLE = {"id": "a", "source": "s", "question": "How many?", "gold": "1", "kind": "digit"}
TRACE = {
    "sample_id": "a",
    "text": "x",
    "ok": True,
    "reward": 1.0,
    "stop": "stop",
    "tokens": 3,
    "entropy": 0.5,
    "part": "p",
}
KEPT = {
    **SAMPLE,
    "think": "t",
    "answer": "1",
    "model": "m",
    "tokens": 3,
    "verdict": {"ok": True, "by": "rule", "reason": ""},
}
VALUES = [
    None, True, 0, -1, 7, 1.5, 10**400, float("nan"), float("inf"), "", "x", "1", BREAKS, [], ["x"], [[1]], {}, {"a": 1},
    {"ok": "yes"}, {"ok": True, "score": 1}, {"role": "assistant", "content": "x"}, [{"role": "user"}],
]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "key", "lines"),
    [
        *((TRACE, key, ["traces FILE --out OUT/t", "reward check FILE"]) for key in TRACE),
        *((KEPT, key, ["split --traces FILE --out OUT/s", "traces FILE --out OUT/t", "view FILE --out OUT/v"]) for key in KEPT if key not in SAMPLE),
        ({**SAMPLE, "completion": "x"}, "completion", ["export --data FILE --format messages --out OUT/e.jsonl", "traces FILE --out OUT/t"]),
        ({**SAMPLE, "completion": "x"}, "completion", ["export --data FILE --format verl --out OUT/e.parquet", "view FILE --out OUT/v"]),
    ],
)  # fmt: skip
def test_a_field_of_any_type_is_read_or_named(tmp_path, capsys, base, key, lines):
    """Exit code 0, or 2 with one line that names file and row; never anything else."""
    file = tmp_path / "rows.jsonl"
    for number, value in enumerate(VALUES):
        file.write_text("\n" + json.dumps({**base, key: value}) + "\n")
        for line in lines:
            out = tmp_path / str(number)
            code = main(line.replace("FILE", str(file)).replace("OUT", str(out)).split())
            said = capsys.readouterr().err
            assert code == 0 or (code == 2 and said.startswith("seethink: ") and f"{file}" in said), (value, line, said)
            assert code == 0 or line.startswith("reward") or f"{file}:2" in said, (value, line, said)
            assert said.count("\n") <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "yes"}, "'verdict' is a text, not an object"),
        ({"verdict": {"ok": True, "score": 1}}, "'verdict' has a key 'score'"),
        ({"verdict": {"ok": "yes"}}, "'ok' is a text, not true or false"),
        ({"tokens": "3"}, "'tokens' is a text, not a whole number"),
        ({"think": ["t"]}, "'think' is a list, not a text"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said(tmp_path, changes, message):
    write_jsonl(tmp_path / "t.jsonl", [KEPT, {**KEPT, "id": "b", **changes}])
    with pytest.raises(UserError, match=rf"t\.jsonl:2.*{message}"):
        load_kept(tmp_path / "t.jsonl")


def test_a_table_of_other_columns_is_named(tmp_path, capsys):
    write_table(tmp_path / "rollouts.parquet", [{"a": 1}])
    write_table(tmp_path / "scores.parquet", [{"a": 1}])
    for name in ("scores", "rollouts"):
        assert main(["view", str(tmp_path), "--samples", "none.jsonl", "--out", str(tmp_path / "v")]) == 2
        assert main(["traces", str(tmp_path / f"{name}.parquet"), "--out", str(tmp_path / "t")]) == 2
        assert f"{name}.parquet" in capsys.readouterr().err
        (tmp_path / "scores.parquet").unlink(missing_ok=True)
    (tmp_path / "rollouts.parquet").write_bytes(b"PAR1" + b"x" * 40 + b"PAR1")
    assert main(["traces", str(tmp_path / "rollouts.parquet"), "--out", str(tmp_path / "t")]) == 2


def test_a_file_whose_name_is_no_utf8_is_read_written_and_found_again(tmp_path):
    """As Latin-1 systems left them: half characters in a path, which JSON, parquet and a run's record must hold."""
    home = tmp_path / os.fsdecode(b"caf\xe9")
    home.mkdir()
    write_jsonl(home / "board.jsonl", [{"id": "a", "question": "q", "gold": "1", "kind": "digit"}])
    with FakeApi(answer=lambda body: compose("so", "1")) as api:
        for _ in range(2):
            arguments = ["--model", "m", "--base_url", api.base_url, "--data", str(home / "board.jsonl")]
            assert main(["eval", *arguments, "--out", str(home / "run")]) == 0
        assert len(api.bodies) == 1 and len(read_table(home / "run" / "scores.parquet")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "eval --model \udce9 --base_url http://127.0.0.1:9 --data b --out o",
        "eval --model m --base_url http://127.0.0.1:9 --system \udce9 --data b --out o",
        "sft --model.path m --data d --out \udce9",
        "grpo --model.path \udce9 --data d --out o",
    ],
)
def test_what_no_model_can_take_is_refused(line, capsys):
    assert main(line.split()) == 2 and "is not UTF-8" in capsys.readouterr().err
