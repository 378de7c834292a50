"""Imports: what exports wrote comes back equal, what others wrote becomes our rows, and what cannot be taken is named."""

import base64
import io
import json
import re
import shlex
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import load_examples, load_samples, read_jsonl, save_examples, save_samples
from seethink.data.config import ImportConfig
from seethink.data.imports.files import ROWS, files_of, rows, size
from seethink.data.imports.run import Importer, run
from seethink.rewards.check import check_gold
from tests.test_data_export import ANSWER, export, samples  # noqa: F401

SUFFIX = {
    **dict.fromkeys(("verl", "easyr1", "hf"), "parquet"),
    "sharegpt": "json",
    "llamafactory": "json",
    "paper": "json",
}


def take(source, format, out, **more):
    """(samples, summary)"""
    columns = more.pop("columns", "")
    config = ImportConfig.model_validate(
        {"format": format, "source": source, "out": out, **({"columns": columns} if columns else {}), **more}
    )
    summary = run(config)
    return load_samples(out), summary


def png(shade=0, size=(4, 4)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(data, "PNG")
    return data.getvalue()


def seen(sample: Sample) -> Sample:
    """With what its pictures hold in the place of their names."""
    return replace(sample, images=tuple(Path(image).read_bytes().hex() for image in sample.images))


@pytest.fixture
def every(samples):  # noqa: F811
    """Those of the exports, and what only travels in words of its own: options, places, alternatives, marks of two kinds."""
    one, two = samples[0].images[0], samples[1].images[1]
    return [
        *samples,
        Sample("b-1", "s", (one,), "Is it red?", "A", "choice", ("yes", "no"), licence="mit", context="a wall"),
        Sample("b-2", "s", (one,), "Is it red?\nA. yes\nB. no", "A", "choice", ("yes", "no"), alternatives=("B",)),
        Sample("b-3", "s", (one, two), "Is it  redder\nthan that?", "x", "open", meta={"n": [1, {"k": None}]}),
    ]


def test_the_table_below_has_everything(every):
    """All kinds; none, one and several pictures; whatever a row may hold besides."""
    assert {sample.kind for sample in every} == {"digit", "choice", "math", "box", "open"}
    assert {len(sample.images) for sample in every} == {0, 1, 2}
    for part in ("choices", "context", "licence", "meta", "alternatives"):
        assert any(getattr(sample, part) for sample in every), part


@pytest.mark.parametrize("traces", [False, True])
@pytest.mark.parametrize(
    "format", ["hf", "trl", "verl", "easyr1", "swift", "ms-swift", "messages", "sharegpt", "llamafactory", "paper"]
)
def test_what_was_exported_comes_back_equal(every, tmp_path, format, traces):
    if not traces and format in ("messages", "sharegpt", "llamafactory"):
        pytest.skip("needs completions")
    if format not in ("trl", "messages"):  # which cannot hold places
        every.append(replace(every[-1], id="b-4", places=(5, 9)))
    examples = [Example(sample, ANSWER.format(sample.gold)) for sample in every]
    save_examples(tmp_path / "in.jsonl", examples) if traces else save_samples(tmp_path / "in.jsonl", every)
    out = export(tmp_path / "in.jsonl", format, tmp_path / f"there.{SUFFIX.get(format, 'jsonl')}")
    images = tmp_path / "images" if format == "paper" else None
    back, summary = take(out, format, tmp_path / "back" / "rows.jsonl", images=images)
    if format == "paper":  # which has no word for the frame of a box
        every = [replace(s, meta={"coords": "norm1", **s.meta}) if s.kind == "box" else s for s in every]
    assert [seen(sample) for sample in back] == [seen(sample) for sample in every]
    carried = traces and format not in ("trl", "verl", "easyr1")
    assert summary["completions"] == (len(every) if carried else 0) and summary["dropped"] == 0
    if carried:
        assert [e.completion for e in load_examples(tmp_path / "back" / "rows.jsonl")] == [
            e.completion for e in examples
        ]
    held = 3 if format in ("hf", "verl", "easyr1") else 0  # three pictures, each written once
    assert summary["pictures"] == held == len(list((tmp_path / "back").glob("rows-images/*")))


def test_datasets_with_pictures_however_they_are_saved(tmp_path):
    """The library writes, pyarrow reads: parquet, shards in a folder, save_to_disk, lists of pictures, names of classes."""
    datasets = pytest.importorskip("datasets")
    columns = {
        "image": [{"bytes": png(n), "path": f"{n}.png"} for n in range(40)],
        "problem": [f"How many {n}?" for n in range(40)],
        "solution": [str(n) for n in range(40)],
        "label": [n % 2 if n else -1 for n in range(40)],
    }
    features = datasets.Features(
        image=datasets.Image(), problem=datasets.Value("string"), solution=datasets.Value("string"),
        label=datasets.ClassLabel(names=["cat", "dog"]),
    )  # fmt: skip
    whole = datasets.Dataset.from_dict(columns, features)
    whole.to_parquet(str(tmp_path / "one.parquet"), batch_size=7)
    (tmp_path / "shards").mkdir()
    for n in range(2):
        whole.shard(2, n, contiguous=True).to_parquet(str(tmp_path / "shards" / f"train-0000{n}-of-00002.parquet"))
    whole.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    datasets.DatasetDict(train=whole).save_to_disk(str(tmp_path / "dict"))
    for name in ("one.parquet", "shards", "saved", "dict", "shards/train-*.parquet"):
        source = tmp_path / name
        assert sum(map(size, files_of(source))) == 40
        back, summary = take(source, "hf", tmp_path / "out.jsonl")
        assert [s.question for s in back] == columns["problem"] and [s.gold for s in back] == columns["solution"]
        assert [Path(s.images[0]).read_bytes() for s in back] == [image["bytes"] for image in columns["image"]]
        assert {s.kind for s in back} == {"digit"} and back[3].meta == {"label": "dog"} and not back[0].meta
        assert summary["rows"] == 40
    assert (
        summary["pictures"] == 0 and len(list((tmp_path / "out-images").iterdir())) == 40
    )  # written by the first alone
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(str(tmp_path / "splits"))
    (tmp_path / "shards" / "test-00000-of-00001.parquet").write_bytes((tmp_path / "one.parquet").read_bytes())
    for name in ("splits", "shards"):
        with pytest.raises(UserError, match=r"2 files or splits: .*/(train|test).*Name one"):
            files_of(tmp_path / name)
    several = whole.select_columns(["problem"]).add_column("images", [[columns["image"][0]] * 2] * 40)
    several = several.cast_column("images", datasets.List(datasets.Image())).add_column("answer", ["B"] * 40)
    several.to_parquet(str(tmp_path / "lists.parquet"))
    back, _ = take(tmp_path / "lists.parquet", "hf", tmp_path / "lists.jsonl", kind="choice")
    assert all(len(s.images) == 2 and s.gold == "B" for s in back)


WORDS = {"role": "user", "content": "<image>How many?"}
HUMAN = {"from": "human", "value": "<image>\nHow many?"}
PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
NAMED = [{"role": "user", "content": [{"type": "image", "image": "p.png"}, {"type": "text", "text": "How many?"}]}]
THOUGHT = "<think>\nI see.\n</think>\n\n3"
TRACE = "<think>I see.</think>\n<answer>3</answer>"


@pytest.mark.parametrize(
    ("format", "row", "completion"),
    [
        ("hf", {"question": "How many?", "answer": 3, "image": "p.png"}, ""),
        ("hf", {"problem": "<image>How many?", "solution": "3", "images": ["p.png"]}, ""),
        ("hf", {"question": "<image1>\nHow many?", "answer": 3, "decoded_image": "p.png"}, ""),
        ("hf", {"instruction": "How", "input": "many?", "output": TRACE, "image": "./p.png"}, TRACE),
        ("easyr1", {"problem": "<image>How many?", "answer": "3", "images": ["p.png"]}, ""),
        ("verl", {"data_source": "s", "prompt": [WORDS], "images": [{"path": "p.png"}], "ability": "reasoning",
                  "reward_model": {"style": "rule", "ground_truth": "3"}, "extra_info": {"index": 7}}, ""),
        ("trl", {"prompt": PARTS, "image": "p.png", "solution": "3"}, ""),
        ("trl", {"prompt": "How many?", "images": ["p.png"], "answer": "3", "completion": TRACE}, TRACE),
        ("trl", {"prompt": NAMED, "completion": [{"role": "assistant", "content": TRACE}]}, TRACE),
        ("trl", {"prompt": [WORDS], "images": ["p.png"], "completion": {"role": "assistant", "content": TRACE}}, TRACE),
        ("hf", {"question": "How many?", "response": 3, "image": "p.png"}, ""),
        ("messages", {"messages": [WORDS, {"role": "assistant", "content": "3"}], "images": ["p.png"]}, ""),
        ("messages", {"messages": {"role": ["user"], "content": ["How many?"]}, "answer": "3", "images": ["p.png"]}, ""),
        ("swift", {"query": "<image>How many?", "response": THOUGHT, "images": ["p.png"]}, TRACE),
        ("swift", {"messages": [WORDS, {"role": "assistant", "content": TRACE}], "images": ["p.png"], "solution": "3"}, TRACE),
        ("sharegpt", {"conversations": [HUMAN, {"from": "gpt", "value": THOUGHT}], "images": ["p.png"]}, TRACE),
        ("sharegpt", {"messages": [WORDS, {"role": "assistant", "content": TRACE}], "images": ["p.png"]}, TRACE),
        ("llava", {"id": "x", "image": "a/b/p.png", "conversations": [HUMAN, {"from": "gpt", "value": "3"}]}, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("container", ["jsonl", "json"])
def test_rows_of_others(tmp_path, format, row, completion, container):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "p.png").write_bytes(png())
    source = tmp_path / "there" / f"mine.{container}"
    source.write_text(json.dumps([row] if container == "json" else row))
    (back,), summary = take(source, format, tmp_path / "rows.jsonl")
    assert " ".join(back.question.split()) == "How many?" and (back.gold, back.kind) == ("3", "digit")
    assert back.images == (str(tmp_path / "there" / "p.png"),) and not back.places
    ((_, written),) = read_jsonl(tmp_path / "rows.jsonl")
    assert written.get("completion", "") == completion and written["images"] == ["there/p.png"]
    assert back.id == {"llava": "x", "verl": "7"}.get(format, "mine-1") and back.source == (
        "s" if format == "verl" else "mine"
    )


def test_tables_with_pictures_in_base64(tmp_path):
    """VLMEvalKit's: a column per option, a hint, a picture held by an earlier row, a list of pictures."""
    held = base64.b64encode(png(1, (40, 40))).decode()
    lines = [
        ["index", "image", "question", "hint", "A", "B", "C", "answer", "category"],
        ["1", held, "Which?", "Look.", "red", "blue", "", "B", "colour"],
        ["2", "1", "Which now?", "", "red", "blue", "green", "green", "colour"],
        ["3", str([held, base64.b64encode(png(2)).decode()]), "How\tmany?", "", "", "", "", "4", ""],
    ]
    (tmp_path / "t.tsv").write_text("\n".join("\t".join(f'"{cell}"' for cell in line) for line in lines) + "\n")
    back, summary = take(tmp_path / "t.tsv", "tsv", tmp_path / "rows.jsonl")
    assert [(s.question, s.gold, s.kind, s.choices) for s in back] == [
        ("Look.\nWhich?", "B", "choice", ("red", "blue")),
        ("Which now?", "C", "choice", ("red", "blue", "green")),
        ("How\tmany?", "4", "digit", ()),
    ]
    assert [len(s.images) for s in back] == [1, 1, 2] and back[0].images == back[1].images and summary["pictures"] == 2
    assert back[0].meta == {"category": "colour"}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"gold": "3"}, "digit"),
        ({"gold": "-3.5"}, "math"),
        ({"gold": r"\frac{1}{2}"}, "math"),
        ({"gold": "y = 2x"}, "math"),
        ({"gold": ["3", "4"]}, "digit"),
        ({"gold": "(b)", "choices": ["x", "y"]}, "choice"),
        ({"gold": "y", "choices": ["x", "y"]}, "choice"),
        ({"gold": "B. y", "choices": ["x", "y"]}, "choice"),
        ({"gold": "B", "question": "Which?\nA. x\nB. y"}, "choice"),
        ({"gold": "[1, 2, 3, 4]", "meta": {"coords": "norm1000"}}, "box"),
        ({"gold": "[1, 2, 3, 4]"}, "looks like a box, and nothing says in which frame"),
        ({"gold": "1", "choices": ["x", "y"]}, "neither a letter nor a text of the 2 options"),
        ({"gold": "A cat on a mat"}, "kind cannot be told from its gold 'A cat on a mat'"),
        ({"gold": "yes"}, "kind cannot be told from its gold 'yes'"),
    ],
)  # fmt: skip
def test_kinds_are_read_from_golds_or_refused(tmp_path, row, kind):
    (tmp_path / "in.jsonl").write_text(json.dumps({"question": "What?", **row}))
    if len(kind) > 6:
        with pytest.raises(UserError, match=rf"in\.jsonl:1.*{kind}"):
            take(tmp_path / "in.jsonl", "hf", tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()
        back, _ = take(tmp_path / "in.jsonl", "hf", tmp_path / "out.jsonl", kind="open")
        kind = "open"
    else:
        back, _ = take(tmp_path / "in.jsonl", "hf", tmp_path / "out.jsonl")
    assert back[0].kind == kind and (kind != "choice" or (back[0].gold, back[0].choices) == ("B", ("x", "y")))


GOOD = {"question": "How many?", "answer": "3", "image": "p.png"}
FAULTS = [
    ({**GOOD, "question": " "}, "row has no question. Looked for question, problem"),
    ({**GOOD, "answer": None}, "row has no gold. Looked for solution, answer"),
    ({**GOOD, "image": "q.png"}, "image 'q.png' is not below"),
    ({**GOOD, "image": "https://host/p.png"}, "is an address. Download it"),
    ({**GOOD, "image": "data:image/png;base64,iVBO$$"}, "broken base64"),
    ({**GOOD, "image": "data:image/png;base64," + base64.b64encode(png(size=(90, 90))[:-70]).decode()}, "picture 1 of the row cannot be read"),
    ({**GOOD, "image": "data:image/png;base64," + base64.b64encode(b"<html>").decode()}, "picture 1 of the row cannot be read: it is a web"),
    ({**GOOD, "question": "<image> or <image>?"}, "question has 2 <image> for 1 image"),
    ({**GOOD, "id": "good"}, "id 'good' was already used in"),
    ({**GOOD, "question": "A <|im_end|>"}, "holds <|im_end|>"),
    ({**GOOD, "kind": "fun"}, "unknown reward kind 'fun'"),
    ({**GOOD, "image": None, "photo_b64": "AAAA"}, "column 'photo_b64' looks like pictures.*--columns photo_b64=images"),
    ({**GOOD, "image": 5}, "a picture is int '5'"),
]  # fmt: skip


def test_rows_that_cannot_be_taken_are_named_and_listed(tmp_path, capsys):
    (tmp_path / "p.png").write_bytes(png())
    held = base64.b64encode(png(9)).decode()
    lines = [{**GOOD, "image": ["p.png", held], "id": "good"}, *(row for row, _ in FAULTS)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n[1]\n")
    with pytest.raises(
        UserError, match=r"in\.jsonl:2: 15 of 16 rows cannot be used, the first: row has no question.*--skip_bad"
    ):
        take(tmp_path / "in.jsonl", "hf", tmp_path / "out.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "p.png"], (
        "nothing is left behind, no folder either"
    )
    capsys.readouterr()
    back, summary = take(tmp_path / "in.jsonl", "hf", tmp_path / "out.jsonl", skip_bad=True)
    assert [s.id for s in back] == ["good"] and (summary["rows"], summary["dropped"]) == (16, 15)
    reasons = [row for _, row in read_jsonl(tmp_path / "out-dropped.jsonl")]
    assert [row["where"] for row in reasons] == [f"{tmp_path}/in.jsonl:{n}" for n in range(2, 17)]
    for row, (_, what) in zip(reasons, [*FAULTS, (0, "not valid JSON"), (0, "not a JSON object")], strict=True):
        assert re.search(what.replace("|", r"\|").replace("?", r"\?"), row["reason"]), row["reason"]
    said = capsys.readouterr()
    assert "1 of 16 rows (digit 1)" in said.out and f"dropped {tmp_path}/in.jsonl:2" in said.err


@pytest.mark.parametrize(
    ("format", "turns", "what"),
    [
        ("llava", [HUMAN, {"from": "gpt", "value": "3"}, HUMAN], "several turns"),
        ("sharegpt", [HUMAN, {"from": "function_call", "value": "f()"}], "a turn of 'function_call'"),
        ("sharegpt", [{"value": "?"}], "no speaker or no text"),
        ("sharegpt", [{"from": "gpt", "value": "3"}], "row has no question"),
    ],
)
def test_conversations_that_are_no_row(tmp_path, format, turns, what):
    (tmp_path / "in.json").write_text(json.dumps([{"conversations": turns}]))
    with pytest.raises(UserError, match=what):
        take(tmp_path / "in.json", format, tmp_path / "out.jsonl")


def test_columns_are_mapped_or_the_close_one_is_named(tmp_path, capsys):
    row = {
        "stem": "How many?",
        "key": {"value": 3},
        "image": "old.png",
        "pic": base64.b64encode(png()).decode(),
        "level": 2,
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    (back,), _ = take(
        tmp_path / "in.jsonl", "hf", tmp_path / "a.jsonl", columns="stem=question, key.value=answer,pic=image"
    )
    assert (back.question, back.gold, back.meta) == ("How many?", "3", {"level": 2}) and len(back.images) == 1
    said = capsys.readouterr().out
    assert "1 row with column 'image', left out" in said and "1 row with column 'level', kept in meta" in said
    for columns, what in [
        ("steam=question", r"no column 'steam'. Did you mean stem=question"),
        ("stem=questoin", "no column of ours. Did you mean question"),
    ]:
        with pytest.raises(UserError, match=what):
            take(tmp_path / "in.jsonl", "hf", tmp_path / "b.jsonl", columns=columns)
    assert not (tmp_path / "b.jsonl").exists()


def test_a_dry_run_shows_rows_and_counts_and_writes_nothing(tmp_path, capsys):
    row = {"question": "How many?", "answer": "3", "image": base64.b64encode(png()).decode()}
    (tmp_path / "in.json").write_text(json.dumps([row] * 5))
    config = ImportConfig(format="hf", source=tmp_path / "in.json", out=tmp_path / "out.jsonl")
    run(config, dry_run=True)
    said = capsys.readouterr().out
    assert said.count('"question": "How many?"') == 3 and "5 of 5 rows (digit 5)" in said and "(not written)" in said
    assert [p.name for p in tmp_path.iterdir()] == ["in.json"]


def test_what_was_interrupted_leaves_no_half_and_goes_on(tmp_path, monkeypatch):
    lines = [{"question": "How many?", "answer": n, "image": base64.b64encode(png(n)).decode()} for n in range(5)]
    (tmp_path / "in.json").write_text(json.dumps(lines))
    count = Importer._count

    def interrupted(self, example, notes):
        count(self, example, notes)
        if self.kinds["digit"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Importer, "_count", interrupted)
        take(tmp_path / "in.json", "hf", tmp_path / "out.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.json", "out-images"]
    back, summary = take(tmp_path / "in.json", "hf", tmp_path / "out.jsonl")
    assert [s.gold for s in back] == list("01234") and summary["pictures"] == 2


@pytest.mark.parametrize(
    ("name", "text", "format", "said"),
    [
        ("a.csv", "question;answer\nHow many?;3\n", "csv", r"a\.csv: no table: .*Put a comma between columns"),
        ("a.tsv", "question,answer\nHow many?,3\n", "tsv", r"a\.tsv: no table: .*Put a tab between columns"),
        ("a.json", '{"data": [{"question": "How many?"}]}', "hf", r"a\.json:1: .*Its rows stand in 'data'.*jq \.data"),
        ("a.json", '[{"conversations": []}]', "hf", r"a\.json:1: .*It has conversations: --format sharegpt"),
        ("a.jsonl", '{"messages": []}', "hf", r"a\.jsonl:1: .*It has messages: --format messages"),
        ("a.jsonl", '{"text": "How many?"}', "hf", r"a\.jsonl:1: row has no question.*among text; .*--columns THEIRS=question"),
        ("a.jsonl", '{"question": "What?", "answer": "dark red"}', "hf", r"a\.jsonl:1: its kind .*Give --kind open"),
        ("a.jsonl", '{"question": "?", "answer": 3, "image": "q.png"}', "hf", r"a\.jsonl:1: image 'q\.png'.*Give --images"),
        ("a.jsonl", '{"question": "?", "answer": 3, "kind": "number"}', "hf", r"a\.jsonl:1: unknown .*'number'.*digit, choice"),
        ("a.parquet", "<html>", "parquet", r"a\.parquet: not a readable parquet file"),
    ],
)  # fmt: skip
def test_what_a_new_user_may_get_wrong_is_said_with_file_row_and_remedy(tmp_path, name, text, format, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        take(tmp_path / name, format, tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("name", "row", "line"),
    [
        (
            "a.parquet",
            {"problem": "?", "answer": "3", "image": {"bytes": b"", "path": ""}},
            "--format parquet --source {}",
        ),
        ("a.parquet", {"messages": [{"role": "user", "content": "?"}]}, "--format messages --source {}"),
        ("a.parquet", {"prompt": [], "reward_model": {"ground_truth": "3"}}, "--format verl --source {}"),
        ("a b.parquet", {"question": "?"}, "--format parquet --source '{}'"),
        ("a.parquet", None, "--format parquet --source {}"),  # broken
        ("a.tsv", "question\tanswer\nx\t3\n", "--format tsv --source {}"),
        ("a.csv", "question,answer\nx,3\n", "--format csv --source {}"),
        (
            "a.json",
            [{"conversations": [], "image": "no.png"}],
            "--format sharegpt --source {} --images FOLDER_OF_PICTURES",
        ),
        ("a.json", [{"conversations": [], "images": ["a.png"]}], "--format sharegpt --source {}"),
        ("a.json", [{"messages": []}], "--format messages --source {}"),
        ("a.json", [{"problem": "?" * 100_000}], "--format hf --source {}"),  # longer than what is looked at
        ("a.jsonl", {"prompt": [{"role": "user"}], "answer": 3}, "--format trl --source {}"),
        ("a.jsonl", {"photo": "a.png", "label": 3}, "--format hf --source {}"),
        ("a.jsonl", {"question": "?", "gold": 3, "kind": "digit", "image": "a.png"}, "--format hf --source {}"),
        ("tables", None, "--format datasets --source {}"),
    ],
)
def test_training_on_another_file_names_the_line_that_makes_rows_of_it(tmp_path, name, row, line):
    path = tmp_path / name
    (tmp_path / "a.png").write_bytes(png())
    if name == "tables":
        path.mkdir()
        pq.write_table(pa.table({"question": ["?"]}), path / "train-00000-of-00001.parquet")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path) if row else path.write_bytes(b"PAR1\x00\xff")
    else:
        path.write_text(row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(UserError) as caught:
        load_samples(path)
    (named,) = re.findall(r"seethink import (.*?)$", str(caught.value))
    assert named.partition(" --out ")[0] == line.format(path)
    config = resolve(ImportConfig, shlex.split(named))  # understood as it stands
    assert config.source == path and config.out == path.with_name(f"{path.stem}-rows.jsonl")


def test_wrong_names_of_files_are_refused(tmp_path):
    (tmp_path / "in.jsonl").write_text("{}")
    for source, out, what in [
        ("in.jsonl", "out.json", "rows are written as JSONL. Name it out.jsonl"),
        ("no.jsonl", "out.jsonl", "file not found"),
        ("in.txt", "out.jsonl", "no container that is known"),
        ("a-dropped.jsonl", "a.jsonl", "the list of dropped rows would be written over it"),
    ]:
        (tmp_path / "in.txt").write_text("x")
        (tmp_path / "a-dropped.jsonl").write_text("{}")
        with pytest.raises(UserError, match=what):
            take(tmp_path / source, "hf", tmp_path / out)


@pytest.mark.parametrize("container", ["parquet", "arrow", "json"])
def test_only_a_few_rows_are_in_memory(tmp_path, container):
    """64 rows of a megabyte: never more of arrow's memory, or of a JSON's text, than a few rows take."""
    noise = [bytes([n]) * (1 << 20) for n in range(64)]
    path = tmp_path / f"big.{container}"
    if container == "json":
        path.write_text(json.dumps([{"x": part.hex()} for part in noise[:32]]))
        import tracemalloc

        tracemalloc.start()
        assert sum(len(found.row["x"]) for found in rows(path) if isinstance(found.row, dict)) == 32 * 2 << 20
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 << 20, "the whole is 64 MB of text"
        return
    table = pa.table({"x": noise})
    if container == "parquet":
        pq.write_table(
            table, path, compression="none", use_dictionary=False, data_page_size=1 << 16, write_batch_size=4
        )
    else:
        with pa.ipc.new_stream(str(path), table.schema) as f:
            f.write_table(table)
    del table
    before, most = pa.total_allocated_bytes(), 0
    found = [most := max(most, pa.total_allocated_bytes() - before) for _ in rows(path)]
    assert len(found) == 64 and most < 3 * ROWS << 20


def test_a_broken_array_says_where(tmp_path):
    for text, what in [
        ('[{"a": 1}, {"a": ', r"in\.json:2: not valid JSON"),
        ('[{"a": 1}', r"in\.json:2: the array has no end"),
    ]:
        (tmp_path / "in.json").write_text(text)
        with pytest.raises(UserError, match=what):
            list(rows(tmp_path / "in.json"))


@pytest.mark.parametrize("layout", ["jsonl", "parquet"])
def test_pictures_of_several_columns_come_together_in_the_order_named(tmp_path, layout):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(ord(name[0])))
    theirs = [
        {"question": "Which is darker?", "answer": 1, "image_2": "a.png", "image_1": "b.png"},
        {"question": "How many?", "answer": 2, "image_2": None, "image_1": "a.png"},
    ]
    source = tmp_path / f"in.{layout}"
    if layout == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in theirs))
    else:
        pq.write_table(pa.Table.from_pylist(theirs), source)
    read, _ = take(source, "hf", tmp_path / "out.jsonl", columns="image_1=images,image_2=images")
    assert [[Path(image).name for image in s.images] for s in read] == [["b.png", "a.png"], ["a.png"]]
    with pytest.raises(UserError, match="gives gold two columns, a and b"):
        take(source, "hf", tmp_path / "out.jsonl", columns="a=gold,b=gold")


def test_a_box_of_four_numbers_is_one_gold_and_no_four_counts(tmp_path):
    source, out = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    rows = [{"question": "Where?", "answer": [10, 12, 50, 60], "coords": "pixel", "image_size": [96, 72]}]
    pq.write_table(pa.Table.from_pylist(rows), source)
    (sample,), _ = take(source, "hf", out)
    assert (sample.kind, sample.gold, sample.alternatives) == ("box", "[10, 12, 50, 60]", ())
    assert sample.meta == {"coords": "pixel", "image_size": [96, 72]} and not check_gold(sample)
    pq.write_table(pa.Table.from_pylist([{"question": "Where?", "answer": [10, 12, 50, 60]}]), source)
    with pytest.raises(UserError, match=r"in which frame.*coords.*or --kind box"):
        take(source, "hf", out)


@pytest.mark.parametrize("kind", ["auto", "choice"])
@pytest.mark.parametrize(
    ("options", "gold", "letter"),
    [
        (["2", "4", "6", "8"], 2, ""),  # the text of A, the number of B or C
        (["2", "4", "6", "8"], "2", "A"),
        (["20", "40", "60"], 40, "B"),
        (["3", "2", "1", "0"], 0, ""),
    ],
)
def test_a_number_beside_numbered_options_is_never_guessed(tmp_path, kind, options, gold, letter):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"question": "Which?", "options": options, "answer": gold}))
    if letter:
        assert take(source, "hf", tmp_path / "out.jsonl", kind=kind)[0][0].gold == letter
        return
    with pytest.raises(UserError, match="may be the number of"):
        take(source, "hf", tmp_path / "out.jsonl", kind=kind)


def test_what_reaches_no_model_or_no_judge_is_said(tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    theirs = {"question": "How old is he?", "context": "Born in 1990.", "answer": "many", "response": "He is old."}
    source.write_text(json.dumps(theirs))
    take(source, "hf", out, kind="digit")
    said = capsys.readouterr()
    assert "1 row with a context, which only the captioner" in said.out
    assert "1 row with a completion without <think>" in said.out
    assert "! 1 of 1 golds cannot be judged by, the first of" in said.err and "reward check" in said.err
    (sample,), _ = take(source, "hf", out, kind="digit", columns="context=hint")
    assert sample.question == "Born in 1990.\nHow old is he?" and not sample.context


@pytest.mark.parametrize(
    ("kind", "value", "gold"),
    [
        (pa.float32(), 0.1, "0.1"),
        (pa.float64(), 0.1, "0.1"),
        (pa.decimal128(5, 2), Decimal("3.10"), "3.10"),
        (pa.list_(pa.float32()), [0.1, 0.2, 0.5, 0.6], "[0.1, 0.2, 0.5, 0.6]"),
        (pa.list_(pa.float32(), 4), [0.1, 0.2, 0.5, 0.6], "[0.1, 0.2, 0.5, 0.6]"),
        (pa.large_list(pa.float32()), [0.1, 0.2, 0.5, 0.6], "[0.1, 0.2, 0.5, 0.6]"),
        (pa.list_(pa.list_(pa.float32())), [[0.1, 0.2, 0.5, 0.6]], "[[0.1, 0.2, 0.5, 0.6]]"),
    ],
)
@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_numbers_of_tables_come_as_they_were_written(tmp_path, kind, value, gold, container):
    rows = {"q": ["Where?", None], "truth": pa.array([{"box": value}, None], pa.struct([("box", kind)]))}
    table, source = pa.table({**rows, "coords": ["norm1", None]}), tmp_path / f"a.{container}"
    if container == "parquet":
        pq.write_table(table, source)
    else:
        with pa.OSFile(str(source), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    more = {"columns": "q=question,truth.box=gold", "skip_bad": True}
    (sample,), _ = take(source, "hf", tmp_path / "o.jsonl", **more)
    assert sample.gold == gold and sample.kind == ("box" if "[" in gold else "math") and not check_gold(sample)


@pytest.mark.parametrize(
    ("choices", "answer", "options", "gold"),
    [
        ({"A": "red", "B": "blue"}, "B", ("red", "blue"), "B"),
        ({"B": "red", "A": "blue"}, "A", ("blue", "red"), "A"),
        ({"label": ["A", "B"], "text": ["red", "blue"]}, "B", ("red", "blue"), "B"),
        ({"label": ["B", "A"], "text": ["red", "blue"]}, "A", ("blue", "red"), "A"),
        ({"label": ["1", "2"], "text": ["red", "blue"]}, "1", ("red", "blue"), "A"),
        ({"label": ["1", "2"], "text": ["red", "blue"]}, 2, ("red", "blue"), "B"),
        ({"label": ["1", "2"], "text": ["2", "1"]}, "1", ("2", "1"), "A"),
        ({"label": ["1", "2"], "text": ["red", "blue"]}, "blue", ("red", "blue"), "B"),
    ],
)
def test_labels_of_options_say_which_is_which(tmp_path, choices, answer, options, gold):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"question": "Which?", "choices": choices, "answer": answer}))
    (sample,), _ = take(source, "hf", tmp_path / "out.jsonl")
    assert (sample.choices, sample.gold, sample.kind) == (options, gold, "choice")


def test_of_two_golds_none_is_taken_unasked(tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    row = {"question": "How many?", "solution": "First 2. Then 5.", "answer": "5", "label": 1}
    source.write_text(json.dumps(row))
    with pytest.raises(UserError, match="solution and answer differ.*--columns answer=gold"):
        take(source, "hf", out)
    assert take(source, "hf", out, columns="answer=gold")[0][0].gold == "5"
    source.write_text(json.dumps({**row, "solution": "5"}))
    assert take(source, "hf", out)[0][0].gold == "5"
    source.write_text(json.dumps({"question": "When?", "answer": "2020-01-02"}))
    with pytest.raises(UserError, match="kind cannot be told"):  # not 2017
        take(source, "hf", out)
