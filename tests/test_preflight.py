"""Before the first step: all bad rows at once, left out on demand; and a repaired file continues its run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import seethink
from seethink import cli
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.preflight import check_pictures, settle
from seethink.core.store import DataRow, load_samples, read_examples, save_examples
from seethink.core.tables import read_table
from seethink.data.load import find_broken
from seethink.train.batches import data_order
from seethink.train.checkpoint import open_run, row_marks
from seethink.train.config import ModelConfig, SFTConfig
from seethink.train.model.policy import encode_completion, encode_prompt
from seethink.train.preflight import check_lengths, load_reader
from tests.tiny import plain_policy

BASE = Path(seethink.__file__).parent / "pocket" / "base"
ANSWER = "<think>one red thing .</think>\n<answer>1</answer>"


@pytest.fixture
def folder(tmp_path):
    """good.jsonl: six rows that can be used; bad.jsonl: the same, and six that cannot, each for a reason of its own."""
    Image.new("RGB", (112, 112), "red").save(tmp_path / "a.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-100])
    Image.new("RGB", (2100, 10)).save(tmp_path / "strip.png")
    good = [row(id=f"g{n}", question=f"How many red things? {n}") for n in range(6)]
    bad = [
        row(id="cut", images=["cut.jpg"]),
        row(id="strip", images=["strip.png"]),
        row(id="long", question="red " * 200),
        row(id="gone", images=["gone.png"]),
        row(id="nan", gold=float("nan")),
        row(id="g0"),
    ]
    for name, rows in {"good": good, "bad": [*good[:3], *bad, *good[3:]]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


def row(**changes):
    fields = {"id": "a", "question": "How many red things?", "gold": "1", "kind": "digit", "images": ["a.png"]}
    return {**fields, "completion": ANSWER, **changes}


MODEL = ["--model.path", str(BASE), "--model.dtype", "float32", "--model.max_prompt_tokens", "100"]
CALLS = {
    "sft": ["--data", *MODEL, "--batch_size", "2", "--eval_share", "0"],
    "grpo": ["--data", *MODEL, "--rounds", "1", "--prompts", "2", "--group", "2", "--max_tokens", "8"],
    "select": ["--data", "--models", str(BASE), "--dtype", "float32", "--max_prompt_tokens", "100"],
    "eval": ["--data", "--model", str(BASE), "--dtype", "float32", "--max_tokens", "8"],
}


def call(verb, file, *more):
    flag, *others = CALLS[verb]
    return cli.main([verb, flag, str(file), "--out", str(file.parent / verb), *others, *more])


@pytest.mark.parametrize("verb", CALLS)
def test_all_bad_rows_are_listed_at_once_and_nothing_is_begun(folder, verb, capsys):
    assert call(verb, folder / "bad.jsonl") == 2
    said = capsys.readouterr().err
    lost = {"cut": 4, "strip": 5, "gone": 7, "nan": 8, "g0": 9} | ({} if verb == "eval" else {"long": 6})
    for name, number in lost.items():
        assert f"  {folder / 'bad.jsonl'}:{number} ({name!r}): " in said
    last = said.splitlines()[-1]
    assert last.startswith(f"seethink: {folder / 'bad.jsonl'}:4 ('cut'): {len(lost)} of 12 rows cannot be used")
    assert "--skip_bad" in last and not (folder / verb).exists()


def test_bad_rows_are_left_out_on_demand(folder, capsys):
    assert call("sft", folder / "bad.jsonl", "--skip_bad") == 0
    assert "6 of 12 rows" in capsys.readouterr().err
    drops = read_table(folder / "sft" / "drops.parquet")
    assert [d["sample_id"] for d in drops] == ["cut", "strip", "long", "gone", "nan", "g0"]
    assert "bad.jsonl:6: prompt has" in drops[2]["detail"]
    assert json.loads((folder / "sft" / "done.json").read_text())["summary"]["prompts"] == 6


def test_only_the_first_rows_are_listed(folder, capsys):
    rows = [row(id=str(n), gold=None) for n in range(30)]
    (folder / "many.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert call("sft", folder / "many.jsonl", "--dry-run") == 2
    said = capsys.readouterr().err
    assert said.count("many.jsonl:") == 21 and "and 10 more" in said and "30 of 30 rows cannot be used" in said


def test_the_longest_row_and_rows_without_images_are_said(folder, capsys):
    rows = [row(id="x"), row(id="y", images=[], question="How many red things? How many?")]
    (folder / "few.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert call("sft", folder / "few.jsonl") == 0
    said = capsys.readouterr().out
    assert f"1 of 2 rows of {folder / 'few.jsonl'} are without images" in said
    assert f"longest of 2 rows: 41 + 9 tokens, {folder / 'few.jsonl'}:1 ('x')" in said


def test_completions_in_which_no_answer_can_be_read_are_said(folder, capsys):
    rows = [row(id=f"g{n}", completion=ANSWER if n else "There is 1 .") for n in range(4)]
    (folder / "tags.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name, count in (("tags", 1), ("good", 0)):
        data, *more = CALLS["sft"]
        assert (
            cli.main(["sft", data, str(folder / f"{name}.jsonl"), *more, "--out", str(folder / "x"), "--dry-run"]) == 0
        )
        said = capsys.readouterr().err
        assert ("! 1 of 4 completions" in said and "the first of 'g0': no_format" in said) == bool(count)


def test_a_size_of_another_shape_than_the_picture_is_said(folder, capsys):
    Image.new("RGB", (120, 90)).save(folder / "wide.png")
    meta = {"coords": "norm1", "gold_coords": "pixel"}
    for size, said in (([120, 90], 0), ([90, 120], 1), ([240, 180], 0), ([112, 84], 0)):
        meta["gold_image_size"] = size
        line = row(
            kind="box", gold=[10, 10, 50, 60], images=["wide.png"], question="Where is the red thing?", meta=meta
        )
        (folder / "boxes.jsonl").write_text(json.dumps(line) + "\n")
        data, *more = CALLS["grpo"]
        out = ["--prompts", "1", "--update_prompts", "1", "--out", str(folder / "x"), "--dry-run"]
        assert cli.main(["grpo", data, str(folder / "boxes.jsonl"), *more, *out]) == 0
        err = capsys.readouterr().err
        assert ("the first 'a' with gold_image_size [90, 120] for a picture of 120 x 90" in err) == bool(said), (
            size,
            err,
        )


def test_who_is_not_told_of_the_tags_is_said(folder, capsys):
    data, *more = CALLS["grpo"]
    base = [data, str(folder / "good.jsonl"), *more, "--out", str(folder / "x"), "--dry-run"]
    for system, said in (("", True), ("Write <think> </think> <answer> </answer>.", False)):
        assert cli.main(["grpo", *base, "--model.system", system]) == 0
        assert ("was not taught the tags earns nothing" in capsys.readouterr().err) == said


def test_a_token_without_an_embedding_is_a_bad_row(folder):
    rows, sizes = check_pictures(list(read_examples(folder / "good.jsonl")))
    reader = replace(load_reader(ModelConfig(path=BASE)), vocabulary=3)
    assert all("no embedding" in str(bad.read) for bad in check_lengths(rows, reader, sizes)[0])


def test_prompts_are_counted_as_they_are_encoded(tmp_path, capsys):
    """From the sizes of the pictures, after they were turned, by the image processor's own rule."""
    exif = Image.Exif()
    exif[0x0112] = 6
    policy = plain_policy(BASE)
    policy.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64}
    reader = replace(load_reader(ModelConfig(path=BASE)), image_processor=policy.image_processor)
    for n, size in enumerate([(30, 500), (900, 40), (5, 5), (1, 150), (3, 90), (700, 640)]):
        Image.new("RGB", size).save(tmp_path / f"{n}.png", exif=exif)
        Image.new("L", (size[1], size[0])).save(tmp_path / f"{n}.jpg")
        images = (str(tmp_path / f"{n}.png"), str(tmp_path / f"{n}.jpg"))
        sample = Sample("a", "s", images, "How  and  red?", "A", "choice", ("red", "blue"), places=(4, 9))
        rows, sizes = check_pictures([DataRow("here:1", "a", Example(sample, ANSWER))])
        check_lengths(rows, reader, sizes)
        prompt, completion = len(encode_prompt(policy, sample).ids), len(encode_completion(policy, ANSWER))
        assert f"{prompt} + {completion - 1} tokens, here:1 ('a')" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- data, and going on


def test_data_drops_a_broken_image_and_stops_where_many_are(tmp_path):
    samples = []
    for n in range(40):
        Image.new("RGB", (4, 4), (n, 0, 0)).save(tmp_path / f"{n}.png")
        samples.append(Sample(str(n), "s", (str(tmp_path / f"{n}.png"),), "?", "1", "digit"))
    for n in (7, 8):
        (tmp_path / f"{n}.png").write_bytes(b"<html>")
    drops = find_broken(samples, tmp_path / "s.jsonl")
    assert {(d.sample_id, d.step, d.reason) for d in drops.values()} == {
        ("7", "metadata", "image"),
        ("8", "metadata", "image"),
    }
    assert "web page" in drops["7"].detail
    (tmp_path / "9.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"\('7'\): 3 of 40 rows cannot be used.*web page.*At most 5%"):
        find_broken(samples, tmp_path / "s.jsonl")


def test_rows_keep_their_order_where_others_leave():
    ids = [f"row {n}" for n in range(50)]
    order = data_order(ids, 50, 0)
    assert sorted(order) == list(range(50)) and order != data_order(ids, 50, 1)
    less = [i for i in ids if i != "row 9"]
    assert [less[i] for i in data_order(less, 49, 0)] == [ids[i] for i in order if ids[i] != "row 9"]
    assert data_order(ids, 120, 0)[:50] == order and sorted(data_order(ids, 100, 0)[50:]) == list(range(50))


@pytest.mark.parametrize(
    ("repair", "used", "goes_on"),
    [
        (lambda rows: rows, 4, True),
        (lambda rows: rows[:-1], 4, True),  # drawn later
        (lambda rows: rows[:-1], 6, False),
        (lambda rows: [*rows[:-1], replace(rows[-1], completion="other")], 4, True),
        (lambda rows: [replace(rows[0], completion="other"), *rows[1:]], 2, False),
        (lambda rows: [replace(rows[0], completion="other"), *rows[1:]], 0, True),
        (lambda rows: rows[1:], 2, False),
    ],
)
def test_a_repaired_file_continues_a_run_whose_used_rows_did_not_change(tmp_path, repair, used, goes_on):
    """Rows stand here in the order in which they are drawn; `used` of them were when the process ended."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = [Example(Sample(str(n), "s", (str(tmp_path / "a.png"),), "?", "1", "digit"), "c") for n in range(6)]
    config = SFTConfig(
        out=tmp_path / "run", data=tmp_path / "d.jsonl", batch_size=2, model=ModelConfig(path=BASE, system="s")
    )  # fmt: skip

    def begin(examples):
        save_examples(config.data, examples)
        return open_run(config, "sft", "step", [e.sample for e in examples], lambda: row_marks([], examples, 2))

    begin(rows).__exit__()
    if used:
        (config.out / "checkpoint").mkdir()
        (config.out / "checkpoint" / f"checkpoint-{used // 2}.pt").write_bytes(b"")
    if goes_on:
        begin(repair(rows)).__exit__()
        assert len(load_samples(config.data)) == len(repair(rows))
    else:
        with pytest.raises(UserError, match="other settings or inputs"):
            begin(repair(rows))


def test_a_picture_counts_by_its_content_and_a_finished_run_stays(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = [Example(Sample("1", "s", (str(tmp_path / "a.png"),), "?", "1", "digit"), "c")]
    before = row_marks([], rows, 1)
    Image.new("RGB", (4, 5)).save(tmp_path / "a.png")
    after = row_marks([], rows, 1)
    assert before[0] == after[0] and before[1] != after[1]
    save_examples(tmp_path / "d.jsonl", rows)
    config = SFTConfig(out=tmp_path / "run", data=tmp_path / "d.jsonl", model=ModelConfig(path=BASE, system="s"))
    with open_run(config, "sft", "step", [rows[0].sample], lambda: before) as run:
        run.finish()
    save_examples(tmp_path / "d.jsonl", [replace(rows[0], completion="other")])
    with pytest.raises(UserError, match="other settings or inputs"):
        open_run(config, "sft", "step", [rows[0].sample], lambda: before)


def test_nothing_left_is_no_run(tmp_path):
    row = DataRow("d.jsonl:1", "a", UserError("image x does not exist"))
    with pytest.raises(UserError, match="does not exist"):
        settle([row], tmp_path / "d.jsonl", skip_bad=True)
