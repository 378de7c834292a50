"""Configs, files, run folders: what happens to bad input, to changed settings, to a killed process."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import Field

from seethink.cli import VERBS, load
from seethink.core.config import Config, Effect, build, describe, effects, identity, resolve
from seethink.core.errors import UserError
from seethink.core.images import open_image
from seethink.core.nouns import Sample, Score, Trace, Verdict, kind_of, sample_from_row, sample_to_row
from seethink.core.run import Run, read_log
from seethink.core.store import atomic, load_examples, load_samples, save_samples, write_jsonl
from seethink.core.tables import read_table, write_table


class Inner(Config):
    lr: float = Field(1e-6, gt=0, description="rate")


class Settings(Config):
    out: Path = Field(description="folder")
    optim: Inner = Inner()
    freeze: bool = Field(True, description="freeze")
    name: str = Field("", description="name")
    seeds: list[int] = Field([0], description="seeds")
    table: dict[str, Any] = Field({}, description="settings of something else")


@pytest.mark.parametrize(
    ("arguments", "check"),
    [
        (["--out", "x"], lambda c: c.optim.lr == 1e-6),
        (["--out", "x", "--optim.lr", "1e-4"], lambda c: c.optim.lr == 1e-4),
        (["--out=x", "--no-freeze"], lambda c: c.freeze is False),
        (["--out", "x", "--freeze", "false", "--name", "3"], lambda c: c.freeze is False and c.name == "3"),
        (["--out", "x", "--seeds", "[1, 2]"], lambda c: c.seeds == [1, 2]),
        (["--seeds", "1", "2", "--out", "x"], lambda c: c.seeds == [1, 2]),
        (["--out", "x", "--seeds", "1"], lambda c: c.seeds == [1]),
        (["--out", "x", "--table.a.b", "1e-4"], lambda c: c.table == {"a": {"b": 1e-4}}),
    ],
)
def test_overrides(arguments, check):
    assert check(resolve(Settings, arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x", "--optim.lrr", "1"], "unknown config key 'optim.lrr'. Did you mean optim.lr?"),
        (["--out", "x", "--optim", "1"], "'optim' has parts and takes no value itself. Give its parts: optim.lr"),
        (["--out", "x", "--optin", "1"], "unknown config key 'optin'. Did you mean optim?"),
        (["--out", "x", "--", "1"], "'--' names no key"),
        (["--out", "x", "--optim.lr", "fast"], "optim.lr = 'fast'"),
        (["--out", "x", "--optim.lr", "-1"], "optim.lr = -1"),
        ([], "out is required"),
        (["--out"], "--out needs a value"),
        (["x"], "unexpected argument 'x'"),
        (["@missing.toml"], "missing.toml: config file not found"),
    ],
)
def test_bad_settings_say_what_was_meant(arguments, message):
    with pytest.raises(UserError, match="^" + message.replace("[", r"\[").replace("?", r"\?")):
        resolve(Settings, arguments)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim.lr": 1.0}, "'optim.lr' is not one key. Give 'lr' within 'optim'"),
        ({"optim": 1.0}, "optim has parts and takes no value itself. Give its parts: optim.lr"),
    ],
)
def test_settings_from_python_say_where_parts_go(values, message):
    with pytest.raises(UserError, match=f"^{message}"):
        build(Settings, {"out": "x", **values})


def test_later_files_and_flags_win(tmp_path):
    (tmp_path / "a.toml").write_text('out = "a"\nname = "a"\n[optim]\nlr = 1.0\n')
    (tmp_path / "b.json").write_text('{"name": "b"}')
    config = resolve(Settings, [f"@{tmp_path / 'a.toml'}", f"@{tmp_path / 'b.json'}", "--out", "c"])
    assert (str(config.out), config.name, config.optim.lr) == ("c", "b", 1.0)


def test_unknown_key_in_a_file_is_named(tmp_path):
    (tmp_path / "a.toml").write_text('out = "a"\nfreez = true\n')
    with pytest.raises(UserError, match="unknown config key 'freez'. Did you mean freeze?"):
        resolve(Settings, [f"@{tmp_path / 'a.toml'}"])


class Outer(Config):
    inner: Inner = Inner()
    n: int = 0


class Nested(Config):
    """Defaults of a field, and defaults of a field of a field."""

    optim: Inner = Inner(lr=1e-5)
    outer: Outer = Outer(inner=Inner(lr=3.0), n=1)


@pytest.mark.parametrize(
    ("given", "lr", "inner", "n"),
    [
        ({}, 1e-5, 3.0, 1),
        ({"optim": {}}, 1e-5, 3.0, 1),
        ({"optim": {"lr": 2.0}}, 2.0, 3.0, 1),
        ({"outer": {"n": 2}}, 1e-5, 3.0, 2),
        ({"outer": {"inner": {}}}, 1e-5, 3.0, 1),
    ],
)
def test_a_default_keeps_the_parts_that_are_not_given(given, lr, inner, n):
    config = build(Nested, given)
    assert (config.optim.lr, config.outer.inner.lr, config.outer.n) == (lr, inner, n)
    shown = {key: default for key, (_, default, _) in describe(Nested)}
    assert shown == {"optim.lr": "1e-05", "outer.inner.lr": "3.0", "outer.n": "1"}


def sample(**changes) -> Sample:
    return Sample(
        **{**dict(id="1", source="s", images=(), question="q", gold="3", kind="digit", meta={"a": [1]}), **changes}
    )


def test_samples_round_trip_with_relative_images(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "a.png")
    original = sample(images=(str(tmp_path / "images" / "a.png"),), choices=("x", "y"))
    save_samples(tmp_path / "s.jsonl", [original])
    assert json.loads((tmp_path / "s.jsonl").read_text())["images"] == ["images/a.png"]
    assert load_samples(tmp_path / "s.jsonl") == [original]
    assert sample_from_row(sample_to_row(original)) == original


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"id": "1"'], r"s.jsonl:1: not valid JSON .*Repair"),
        (["[1]"], r"s.jsonl:1: row is not a JSON object"),
        (['{"id": 1, "question": "q", "kind": "digit"}'], r"s.jsonl:1: row has no 'gold'"),
        (['{"id": 1, "question": "q", "gold": 1, "kind": "dgit"}'], r"s.jsonl:1: unknown reward kind 'dgit'"),
        (
            ['{"id": 1, "question": "q", "gold": 1, "kind": "digit"}'] * 2,
            r"s.jsonl:2: id '1' was already used in row 1",
        ),
        (
            ['{"id": 1, "question": "q", "gold": 1, "kind": "digit", "images": ["no.png"]}'],
            r"s.jsonl:1: image .*no.png does not exist",
        ),
    ],
)
def test_bad_rows_are_named(tmp_path, lines, message):
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        load_samples(tmp_path / "s.jsonl")


def test_sft_rows_need_a_completion(tmp_path):
    write_jsonl(tmp_path / "s.jsonl", [sample_to_row(sample())])
    with pytest.raises(UserError, match="row has no completion"):
        load_examples(tmp_path / "s.jsonl")


def test_aliases():
    assert [kind_of(k) for k in ("mcq", "iou", "math")] == ["choice", "box", "math"]


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_broken_images_are_named(tmp_path, content):
    path = tmp_path / "a.png"
    if content is None:  # cut in the middle
        Image.effect_noise((64, 64), 50).save(path)
        content = path.read_bytes()[:500]
    path.write_bytes(content)
    with pytest.raises(UserError, match="row 3: image .*a.png cannot be read"):
        open_image(str(path), where="row 3")


def test_atomic_leaves_nothing_half_written(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def settings(tmp_path, **changes) -> Settings:
    return Settings(out=tmp_path / "run", **changes)


def test_run_resumes_and_finishes(tmp_path):
    config = settings(tmp_path)
    with Run.open(config.out, "sft", config, {"data": "h"}) as run:
        run.log(1, loss=float("nan"))
        run.log(2, loss=1.0)
    with open(config.out / "metrics.jsonl", "a") as f:
        f.write('{"step": 3, "lo')  # killed while writing
    with Run.open(config.out, "sft", config, {"data": "h"}) as run:
        assert not run.done
        run.rewind(1)
        run.log(2, loss=2.0)
        run.finish(accuracy=0.5)
    assert read_log(config.out / "metrics.jsonl") == [{"step": 1, "loss": None}, {"step": 2, "loss": 2.0}]
    with Run.open(config.out, "sft", config, {"data": "h"}) as run:
        assert run.done and run.summary == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("changes", "inputs", "message"),
    [({"name": "b"}, {"data": "h"}, "name:  -> b"), ({}, {"data": "other"}, "data: h -> other")],
)
def test_changed_run_is_refused_or_overwritten(tmp_path, changes, inputs, message):
    first, second = settings(tmp_path), settings(tmp_path, **changes)
    with Run.open(first.out, "sft", first, {"data": "h"}) as run:
        run.finish()
    with pytest.raises(UserError, match=message):
        Run.open(second.out, "sft", second, inputs)
    with Run.open(second.out, "sft", second, inputs, overwrite=True) as run:
        assert not run.done


def test_two_writers_are_refused(tmp_path):
    config = settings(tmp_path)
    with Run.open(config.out, "sft", config, {}), pytest.raises(UserError, match="another process is writing"):
        Run.open(config.out, "sft", config, {})


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    config = Settings(out=tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot create the folder"):
        Run.open(config.out, "sft", config, {})


class Reading(Config):
    out: Annotated[Path, Effect.PLACE]
    data: Annotated[Path, Effect.INPUT]
    more: Annotated[Path | None, Effect.INPUT] = None
    prompt: Annotated[str, Effect.INPUT] = ""
    optim: Inner = Inner()


def test_a_run_is_known_by_what_it_reads_and_not_by_where(tmp_path):
    """Files and folders are hashed by content; the run folder may move, and so may its inputs."""
    for place, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "data").write_text(text)
    keys = {}
    for place in "abc":
        config = Reading(out=tmp_path / place / "run", data=tmp_path / place / "data", more=tmp_path / place)
        with Run.open(config.out, "sft", config.model_copy(update={"more": None}), {"prompt": ""}) as run:
            keys[place] = run.key
    assert keys["a"] == keys["b"] != keys["c"]
    (tmp_path / "a" / "run").rename(tmp_path / "moved")
    config = Reading(out=tmp_path / "moved", data=tmp_path / "b" / "data")
    with Run.open(config.out, "sft", config, {"prompt": ""}) as run:
        assert run.key == keys["a"]
    with pytest.raises(UserError, match="data: .* -> "):
        Run.open(config.out, "sft", config.model_copy(update={"data": tmp_path / "c"}), {"prompt": ""})
    with pytest.raises(UserError, match="nowhere: file not found"):
        Run.open(config.out, "sft", config.model_copy(update={"data": tmp_path / "nowhere"}), {"prompt": ""})


def test_what_is_no_file_must_be_given_even_where_it_is_empty(tmp_path):
    """So that a verb that forgets a prompt fails in its first test and not in a user's second run."""
    (tmp_path / "data").write_text("")
    config = Reading(out=tmp_path / "run", data=tmp_path / "data")
    with pytest.raises(ValueError, match="the content of prompt is not part of the key"):
        Run.open(config.out, "sft", config, {})
    assert not config.out.exists()
    assert identity(config) == {"optim": {"lr": 1e-6}}
    assert effects(Reading)["optim.lr"] is Effect.RESULT


def test_no_verb_knows_what_it_reads_by_its_name():
    """A file among the settings of a run folder is an input, which counts by content, or a place, which does not count."""
    for verb, (settings, _, _) in VERBS.items():
        marks = effects(model := load(settings))
        if "overwrite" in marks or verb in ("data", "split"):
            files = {key for key, (kind, _, _) in describe(model) if "Path" in kind}
            assert {key for key in files if marks[key] not in (Effect.PLACE, Effect.OUTPUT, Effect.INPUT)} == set(), (
                verb
            )


def test_a_reader_of_a_run_writes_nothing(tmp_path):
    config = settings(tmp_path)
    with Run.open(config.out, "sft", config, {}) as run:
        run.log(1, loss=1.0)
        run.finish(accuracy=0.5)
    before = {p.name: p.read_bytes() for p in config.out.iterdir()}
    with Run(config.out, run.key, owner=False) as reader:
        reader.log(2, loss=0.0)
        reader.alarm("name", "text")
        reader.write_rows("rows.jsonl", [{"step": 2}])
        reader.rewind(0)
        reader.finish()
        assert reader.done and reader.summary == {"accuracy": 0.5}
    assert {p.name: p.read_bytes() for p in config.out.iterdir()} == before
    with Run(config.out, run.key), Run(config.out, run.key, owner=False) as reader:
        assert reader.done  # beside the one who writes


def test_a_refused_folder_is_let_go(tmp_path):
    first, second = settings(tmp_path), settings(tmp_path, name="b")
    Run.open(first.out, "sft", first, {}).__exit__()
    try:
        Run.open(second.out, "sft", second, {})
    except UserError:
        Run.open(second.out, "sft", second, {}, overwrite=True).__exit__()


def test_a_log_keeps_rows_with_line_separators_in_their_text(tmp_path):
    config = settings(tmp_path)
    rows = [{"step": n, "text": f"one{separator}two"} for n, separator in enumerate("\u2028\u0085\x0c\n\r")]
    with Run.open(config.out, "sft", config, {}) as run:
        run.write_rows("rows.jsonl", rows)
        assert read_log(run.path("rows.jsonl")) == rows
        run.keep_rows("rows.jsonl", rows[1:])
        assert read_log(run.path("rows.jsonl")) == rows[1:]


def test_a_table_loses_no_column(tmp_path):
    with pytest.raises(ValueError, match="different columns"):
        write_table(tmp_path / "t.parquet", [{"a": 1}, {"a": 2, "b": 3}])
    write_table(tmp_path / "t.parquet", [], ["a"])
    assert read_table(tmp_path / "t.parquet") == [] and not list(tmp_path.glob("*.tmp"))


def test_a_column_without_a_value_has_the_type_of_its_field(tmp_path):
    score = Score("b", "all", "1", "digit", None, None, "unparsed", None, "text", "stop", 3, 0.1)
    write_table(tmp_path / "none.parquet", [score])
    full = replace(score, ok=True, reward=1.0, answer="3", scored="text", entropy=0.5, kl=0.1)
    write_table(tmp_path / "some.parquet", [full])
    none, some = (pq.read_schema(tmp_path / f"{name}.parquet") for name in ("none", "some"))
    assert none.equals(some) and not any(pa.types.is_null(t) for t in none.types)
    write_table(tmp_path / "dicts.parquet", [{"reward": None, "text": None}], of=(Verdict, Trace))
    assert pq.read_schema(tmp_path / "dicts.parquet").types == [pa.float64(), pa.string()]
    assert read_table(tmp_path / "none.parquet") == [asdict(score)]
