"""Published files as records, in every container, with pictures wherever they are kept; broken files refused by file and row."""

from __future__ import annotations

import base64
import io
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import DataRow
from seethink.evals.files.records import column, in_groups, read_records, shards, unique


def picture(n: int, kind: str = "PNG", size: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (n % 256, n // 256 % 256, 90)).save(buffer, kind)
    return buffer.getvalue()


def base64_of(n: int) -> str:
    return base64.b64encode(picture(n)).decode()


def table(path: Path, *rows: list[str]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def contents(record) -> list[bytes]:
    return [Path(file).read_bytes() for file in record.pictures]


def test_json_of_a_list_and_of_an_object(tmp_path):
    (tmp_path / "a.json").write_text('[{"x": 1, "image": "i/1.png"}, {"x": 2}]')
    (tmp_path / "b.json").write_text('{"v1_0": {"x": 1}}', encoding="utf-8-sig")
    (tmp_path / "c.jsonl").write_text('{"x": 1}\n\n{"x": 2, "image": ["1.png", "2.png"]}\n')
    first, second = read_records(tmp_path / "a.json")
    assert first == (f"{tmp_path}/a.json:1", "", {"x": 1}, (f"{tmp_path}/i/1.png",)) and second.pictures == ()
    (only,) = read_records(tmp_path / "b.json")
    assert (only.where, only.key, only.row) == (f"{tmp_path}/b.json:v1_0", "v1_0", {"x": 1})
    *_, last = read_records(tmp_path / "c.jsonl", base=tmp_path / "images")
    assert last.where.endswith(":3") and last.pictures == tuple(f"{tmp_path}/images/{n}.png" for n in (1, 2))


def test_a_table_whose_rows_show_pictures_of_others(tmp_path):
    rows = [["index", "question", "image"]]
    rows += [
        ["10", "a", "11"],
        ["11", "b", base64_of(1)],
        ["12", "c", "11"],
        ["13", "d", "14"],
        ["14", "e", base64_of(2)],
    ]
    rows += [
        ["15", "f", f"['{base64_of(1)}', '{base64_of(3)}']"],
        ["16", "g", "15"],
        ["17", "h", "data:image/png;base64," + base64_of(4)],
    ]
    path = table(tmp_path / "t.tsv", *rows)
    found = list(read_records(path, tmp_path / "pictures"))
    want = [[1], [1], [1], [2], [2], [1, 3], [1, 3], [4]]
    assert [contents(record) for record in found] == [[picture(n) for n in ns] for ns in want]
    assert [r.row["question"] for r in found] == list("abcdefgh") and not any("image" in r.row for r in found)
    assert sorted(file.suffix for file in (tmp_path / "pictures").iterdir()) == [".png"] * 4
    assert [len(r.pictures) for r in read_records(path)][5] == 0 and list((tmp_path / "pictures").iterdir())


def test_a_table_that_names_its_pictures(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(picture(1))
    long_name = "images/" + "long" * 30 + ".png"
    path = table(tmp_path / "t.tsv", ["index", "image_path", "image"], ["1", "images/1.png", ""], ["2", long_name, ""])
    found = list(read_records(path, tmp_path / "pictures", ("image", "image_path")))
    assert [r.pictures for r in found] == [(f"{tmp_path}/images/1.png",), (f"{tmp_path}/{long_name}",)]
    assert not (tmp_path / "pictures").exists()


def test_fields_with_tabs_quotes_and_line_breaks(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('index\tquestion\tanswer\n1\t"a\tb ""c""\nd"\tx\n\n2\te\t\n', newline="")
    assert [r.row for r in read_records(path)] == [
        {"index": "1", "question": 'a\tb "c"\nd', "answer": "x"}, {"index": "2", "question": "e", "answer": ""},
    ]  # fmt: skip


def shard_of(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_parquet_with_pictures_as_datasets_keeps_them(tmp_path):
    held = [{"bytes": picture(n, "JPEG" if n else "PNG"), "path": None} for n in range(3)]
    shard_of(tmp_path / "x-00001-of-00002.parquet", [{"id": 2, "image": "images/2.jpg", "decoded_image": held[2]}])
    shard_of(
        tmp_path / "x-00000-of-00002.parquet",
        [{"id": n, "image": f"images/{n}.jpg", "decoded_image": held[n]} for n in range(2)],
    )
    names = ("decoded_image", "image")
    found = list(read_records(tmp_path, tmp_path / "pictures", names))
    assert [r.row for r in found] == [{"id": n} for n in range(3)]
    assert [contents(r) for r in found] == [[held[n]["bytes"]] for n in range(3)]
    assert [Path(r.pictures[0]).suffix for r in found] == [".png", ".jpg", ".jpg"]
    assert [r.where.rpartition("/")[2] for r in found] == [
        "x-00000-of-00002.parquet:1",
        "x-00000-of-00002.parquet:2",
        "x-00001-of-00002.parquet:1",
    ]
    assert [r.pictures for r in read_records(tmp_path, None, names)][0] == (f"{tmp_path}/images/0.jpg",)


def test_parquet_with_several_pictures_of_a_row(tmp_path):
    rows = [{"id": 1, "images": [{"bytes": picture(1), "path": "a"}, {"bytes": picture(2), "path": None}]}]
    rows += [{"id": 2, "images": []}, {"id": 3, "images": [{"bytes": None, "path": "b.png"}]}]
    found = list(read_records(shard_of(tmp_path / "x.parquet", rows), tmp_path / "pictures", ("images",)))
    assert contents(found[0]) == [picture(1), picture(2)] and found[1].pictures == ()
    assert found[2].pictures == (f"{tmp_path}/b.png",)
    raw = shard_of(tmp_path / "y.parquet", [{"id": 1, "image": picture(3)}])
    assert [contents(r) for r in read_records(raw, tmp_path / "pictures")] == [[picture(3)]]


def test_a_killed_run_leaves_no_half_picture(tmp_path, monkeypatch):
    path = table(tmp_path / "t.tsv", ["index", "image"], ["1", base64_of(1)])
    written = Path.write_bytes

    def killed(self, data):
        written(self, data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        list(read_records(path, tmp_path / "pictures"))
    monkeypatch.undo()
    assert [contents(r) for r in read_records(path, tmp_path / "pictures")] == [[picture(1)]]


@pytest.mark.parametrize(
    ("name", "data", "where", "what"),
    [
        ("a.tsv", b"index\timage\tq\n1\tx\ty\n2\tx", ":2", "row has 2 fields, and there are 3 columns"),
        ("a.tsv", b"index\tq\n1\tx\n2\tx\ty\n", ":2", "row has 3 fields"),
        ("a.tsv", b'index\tq\n1\tx\n2\t"cut off', ":2", "not a readable table (unexpected end of data)"),
        ("a.tsv", b"index,q\n1,x\n", "a.tsv", "its first line names no columns"),
        ("a.tsv", b"", "a.tsv", "its first line names no columns"),
        ("a.tsv", "index\tq\n1\tcaf\u00e9\n".encode("latin-1"), "a.tsv", "not UTF-8"),
        ("a.tsv", "index\tq\n1\tx\n".encode("utf-16"), "a.tsv", "UTF-16 text"),
        ("a.tsv", b"\x1f\x8b\x08\x00\xff\xfe", "a.tsv", "compressed with gzip"),
        ("a.tsv", b"version https://git-lfs.github.com/spec/v1\noid x", "a.tsv", "a pointer of Git LFS"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid x", "a.parquet", "a pointer of Git LFS"),
        ("a.tsv", b"index\timage\n1\t" + b"?" * 2000 + b"\n", ":1", "its picture is neither base64 nor a file"),
        ("a.jsonl", b'{"a": 1}\n{"a": ', ":2", "not valid JSON"),
        ("a.json", b'[{"a": 1}, {"a": ', "a.json", "not valid JSON"),
        ("a.json", b'"text"', "a.json", "neither a list nor an object of rows"),
        ("a.json", b'[{"a": 1}, 2]', ":2", "row is not a JSON object"),
        ("a.json", b'{"data": [{"a": 1}]}', ":data", "row is not a JSON object"),
        ("a.parquet", b"PAR1" + b"\0" * 100, "a.parquet", "not a readable parquet file"),
        ("a.parquet", b"", "a.parquet", "not a readable parquet file"),
        ("a.txt", b"x", "a.txt", "no container that is known"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, name, data, where, what):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        list(read_records(tmp_path / name, tmp_path / "pictures"))
    assert caught.value.where.endswith(where) and name in caught.value.where and what in caught.value.what
    assert caught.value.remedy


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path):
    whole = shard_of(
        tmp_path / "x.parquet", [{"id": n, "image": {"bytes": picture(n), "path": ""}} for n in range(400)]
    )
    data = whole.read_bytes()
    for size in range(0, len(data), len(data) // 20):
        (tmp_path / "cut.parquet").write_bytes(data[:size])
        with pytest.raises(UserError, match="not a readable parquet file"):
            list(read_records(tmp_path / "cut.parquet"))
    torn = bytearray(data)
    torn[200 : len(data) // 2] = b"\xff" * (len(data) // 2 - 200)
    (tmp_path / "torn.parquet").write_bytes(bytes(torn))
    with pytest.raises(UserError, match="not a readable parquet file"):
        list(read_records(tmp_path / "torn.parquet", tmp_path / "pictures"))


def test_files_and_folders_that_are_not_there(tmp_path):
    for path, what in (
        (tmp_path / "no.tsv", "file not found"),
        (tmp_path / "no", "file not found"),
        (tmp_path, "no parquet files"),
    ):
        with pytest.raises(UserError, match=what):
            list(read_records(path))
    with pytest.raises(UserError, match="no parquet files"):
        shards(tmp_path)


def test_large_files_are_not_held(tmp_path):
    """60 MB of pictures, of which a few rows are in memory at once."""
    noise = [picture(n) + bytes([n % 251]) * 200_000 for n in range(300)]
    tsv = tmp_path / "t.tsv"
    with open(tsv, "w") as f:
        f.write("index\timage\n")
        for n, data in enumerate(noise):
            f.write(f"{n}\t{base64.b64encode(data).decode()}\n")
    rows = [{"id": n, "image": {"bytes": data, "path": None}} for n, data in enumerate(noise)]
    pq.write_table(
        pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=100, compression="none", use_dictionary=False
    )
    del noise, rows
    for path in (tsv, tmp_path / "x.parquet"):
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        most = 0
        for n, record in enumerate(read_records(path, tmp_path / "pictures")):
            most = max(most, pa.total_allocated_bytes() - before)
            assert len(record.pictures) == 1 and n < 300
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held < 30e6 and most < 40e6, (path.name, held, most)
    assert len(list((tmp_path / "pictures").iterdir())) == 300


def test_columns_and_ids():
    row = {"a": None, "b": 3, "c": "", "d": ["x"]}
    assert column(row, "w", "a", "b") == "3" and column(row, "w", "c", default="") == ""
    for names, what in ((("a", "c"), "row has no 'a'"), (("d",), "'d' is a list")):
        with pytest.raises(UserError, match=what):
            column(row, "f:1", *names)

    def data_row(name: str, n: int) -> DataRow:
        return DataRow(f"f:{n}", name, Example(Sample(name, "s", (), "q", "g", "math"), ""))

    rows = [data_row(name, n) for n, name in enumerate(("a/1", "b/1", "a/2", "b/1", "c/1", "a/3"))]
    assert [r.id for r in in_groups(rows)] == ["a/1", "a/2", "a/3", "b/1", "b/1", "c/1"]
    faults = [(r.where, r.read.what) for r in unique(rows) if isinstance(r.read, UserError)]
    assert faults == [("f:3", "id 'b/1' was already used in f:1")]
