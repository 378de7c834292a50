"""Exports of what is hostile: files that are no pictures, pictures of other kinds, sizes that readers choke on, others' tables."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import save_examples, write_jsonl
from seethink.data.export import write_parquet
from seethink.data.formats import SCHEMAS
from tests.test_data_export import ANSWER, export

ROW = {"id": "a", "source": "s", "images": ["images/0.png"], "question": "How many?", "gold": "3", "kind": "digit"}


@pytest.fixture
def rows(tmp_path) -> Path:
    """Five rows with one picture, and with completions."""
    (tmp_path / "images").mkdir()
    picture = tmp_path / "images" / "0.png"
    Image.new("RGB", (4, 4)).save(picture)
    samples = [Sample(str(i), "s", (str(picture),), "How many?", "3", "digit") for i in range(5)]
    save_examples(tmp_path / "rows.jsonl", [Example(sample, ANSWER.format(3)) for sample in samples])
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("format", ["verl", "easyr1", "hf"])
def test_parquet_is_written_in_small_row_groups_as_the_rows_come(rows, tmp_path, format, monkeypatch):
    schema, seen = SCHEMAS[format], []

    def made():
        for n in range(10):
            images = [{"bytes": bytes([n]) * (5 if n == 7 else 2), "path": f"{n}.png"}] * (n != 8)
            seen.append(len(list(tmp_path.glob(".big*"))))
            yield {name: images if name == "images" else None for name in schema.names}

    write_parquet(tmp_path / "big.parquet", made(), schema, group=4)
    file = pq.ParquetFile(tmp_path / "big.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 2, 1, 1, 2]
    assert [len(row["images"]) for row in file.read().to_pylist()] == [1] * 8 + [0, 1]
    assert seen == [1] * 10  # written while rows came
    monkeypatch.setattr("seethink.data.export.GROUP_ROWS", 2)
    assert export(rows, format, tmp_path / "few.parquet").exists()
    assert pq.ParquetFile(tmp_path / "few.parquet").num_row_groups == 3


def test_no_rows_are_still_a_table(tmp_path):
    write_parquet(tmp_path / "none.parquet", [], SCHEMAS["verl"])
    assert pq.read_schema(tmp_path / "none.parquet").names == SCHEMAS["verl"].names


@pytest.mark.parametrize("format", ["verl", "easyr1", "hf"])
@pytest.mark.parametrize("content", ["root:x:0:0\n", "<html>no picture</html>", '{"key": 1}'])
def test_what_is_no_picture_is_never_copied(rows, tmp_path, format, content):
    (tmp_path / "secret.txt").write_text(content)
    (tmp_path / "images" / "x.png").symlink_to(tmp_path / "secret.txt")
    write_jsonl(rows, [{**ROW, "images": ["images/x.png"]}])
    with pytest.raises(UserError, match=r"rows\.jsonl:1.*x\.png"):
        export(rows, format, tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_pictures_are_exported_as_our_trainers_see_them(rows, tmp_path):
    """A photograph on its side, transparency, and a format that not everything reads."""
    photo, exif = Image.new("RGB", (8, 4), "red"), Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "images" / "b.png")
    photo.save(tmp_path / "images" / "c.png", "TIFF")
    images = [f"images/{name}" for name in ("a.jpg", "b.png", "c.png", "0.png")]
    write_jsonl(rows, [{**ROW, "images": images}])
    (row,) = pq.read_table(export(rows, "verl", tmp_path / "x.parquet")).to_pylist()
    opened = [Image.open(io.BytesIO(image["bytes"])) for image in row["images"]]
    assert [image.format for image in opened] == ["PNG"] * 4
    assert [image.size for image in opened] == [(4, 8), (4, 4), (8, 4), (4, 4)]
    assert opened[1].convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert [image["path"] for image in row["images"]] == ["a.png", "b.png", "c.png", "0.png"]
    assert row["images"][3]["bytes"] == (tmp_path / "images" / "0.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("[]", "new.json", "not a JSON object"),
        ("{", "new.json", "not valid JSON"),
        ('{"new": {"file_name": "other.json"}}', "new.json", "already an entry"),
        ('{"new": 1}', "new.json", "already an entry"),
        ("{}", "dataset_info.json", "lists data sets"),
    ],
)
def test_a_table_of_data_sets_that_cannot_take_ours_stays(rows, tmp_path, content, name, message):
    info = tmp_path / "dataset_info.json"
    info.write_text(content)
    with pytest.raises(UserError, match=message):
        export(rows, "sharegpt", tmp_path / name)
    assert info.read_text() == content and not (tmp_path / "new.json").exists()


def test_our_own_entry_is_renewed_with_what_the_user_added(rows, tmp_path):
    export(rows, "sharegpt", tmp_path / "mine.json")
    info = tmp_path / "dataset_info.json"
    info.write_text(json.dumps({"mine": {**json.loads(info.read_text())["mine"], "num_samples": 3}}))
    export(rows, "sharegpt", tmp_path / "mine.json")
    assert json.loads(info.read_text())["mine"]["num_samples"] == 3


@pytest.mark.parametrize("content", [b"", b" \n", b"a\0b"])
def test_a_prompt_file_without_a_prompt_is_named(rows, tmp_path, content):
    (tmp_path / "system.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"system\.txt"):
        export(rows, "trl", tmp_path / "x.jsonl", system=tmp_path / "system.txt")
