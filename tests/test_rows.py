"""Rows as people write them: what each field may hold, what a row becomes, and what is refused in one line."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import sample_from_row, sample_to_row
from seethink.core.prompt import prompt_parts, prompt_text
from seethink.core.store import (
    load_examples,
    load_samples,
    read_json,
    read_text,
    relative_images,
    save_samples,
    write_json,
    write_json_list,
)  # fmt: skip

ROW = {"id": "a", "question": "Which?", "gold": "1", "kind": "digit", "images": ["a.png"], "completion": "c"}
WRONG = [
    None, True, False, 0, -7, 1.5, float("nan"), float("inf"), "", " ", "x", "\ud83d", "<image>", "<|image_pad|>", [], {},
    [None], [[]], ["x", 1], {"a": 1}, [float("nan")], "data:image/png;base64,AAAA", "http://x/y.png", "\0", 10**400,
]  # fmt: skip
FIELDS = (
    "id", "source", "images", "image", "question", "gold", "alternatives", "kind", "choices", "context", "licence", "meta",
    "completion", "videos", "response",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), name[0] == "a" and "red" or "blue").save(tmp_path / name)
    return tmp_path


def write(folder, *rows, name="rows.jsonl"):
    (folder / name).write_text("".join(json.dumps({**ROW, "id": str(i), **r}) + "\n" for i, r in enumerate(rows)))
    return folder / name


def read(folder, **changes):
    (sample,) = load_samples(write(folder, changes))
    return sample


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", WRONG, ids=lambda v: repr(v)[:20])
def test_any_value_in_any_field_is_read_or_refused_in_one_line(folder, field, value):
    """The fuzz over rows: a sample that reads back equal, or a UserError that names file and row."""
    path = write(folder, {field: value})
    try:
        (example,) = load_examples(path)
    except UserError as error:
        text = str(error)
        assert error.code == 2 and f"{path}:1" in text and error.remedy and "\n" not in text and len(text) < 600
        return
    save_samples(folder / "again.jsonl", [example.sample])
    assert load_samples(folder / "again.jsonl") == [example.sample]
    texts = [p["text"] for p in prompt_parts(example.sample) if p["type"] == "text"]
    assert all("<image>" not in text and "<|image_pad|>" not in text for text in texts)
    assert len(prompt_parts(example.sample)) - len(texts) == len(example.sample.images)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_missing_is_missed_or_not_needed(folder, field):
    row = {key: value for key, value in ROW.items() if key != field}
    (folder / "rows.jsonl").write_text(json.dumps(row))
    if field in ("id", "question", "gold", "kind", "completion"):
        with pytest.raises(UserError, match=rf"rows.jsonl:1: row has no '?{field}"):
            load_examples(folder / "rows.jsonl")
    else:
        assert len(load_examples(folder / "rows.jsonl")) == 1


@pytest.mark.parametrize(
    "keys", [{"image": "a.png"}, {"image": ["a.png"]}, {"images": "a.png"}, {"image": "a.png", "images": ["a.png"]}]
)
def test_an_image_is_an_image_by_both_names(folder, keys):
    sample = read(folder, **{"images": None, **keys})
    assert [path.rpartition("/")[2] for path in sample.images] == ["a.png"] and "image" not in sample.meta


@pytest.mark.parametrize(
    "key",
    [
        "img",
        "image_path",
        "image_url",
        "picture",
        "pixel_values",
        "videos",
        "imgs",
        "image_bytes",
        "local_image",
        "Image",
        "image_1",
        "img2",
        "screenshot",  # told by the value
        "query_image",
        "file_name",
    ],
)
def test_pictures_under_other_names_are_refused(folder, key):
    with pytest.raises(UserError, match=f"rows.jsonl:1: '{key}' looks like pictures.*Rename"):
        read(folder, images=[], **{key: "a.png"})


@pytest.mark.parametrize(
    "value", [["a.png"], {"bytes": "iVBO"}, [{"path": "a.jpg"}], "data:image/png;base64,AA", "a/b.WEBP"]
)
def test_pictures_under_any_name_are_refused_where_the_row_has_none(folder, value):
    with pytest.raises(UserError, match="rows.jsonl:1: 'visual' looks like pictures"):
        read(folder, images=[], visual=value)
    assert read(folder, visual=value).meta == {"visual": value}


@pytest.mark.parametrize("key", ["hint", "input", "System", "passage", "messages"])
def test_text_under_other_names_is_refused_because_no_model_would_read_it(folder, key):
    with pytest.raises(
        UserError, match=f"rows.jsonl:1: '{key}' looks like text for the model, which stands under 'question'"
    ):
        read(folder, **{key: "He was born in 1990."})
    assert read(folder, meta={key: "a note"}).meta == {key: "a note"} and read(folder, **{key: ""})


@pytest.mark.parametrize("key", ["options", "Options", "candidates", "A"])
def test_options_under_other_names_are_refused_where_no_model_would_see_them(folder, key):
    with pytest.raises(UserError, match=f"rows.jsonl:1: '{key}' looks like options, which stand under 'choices'"):
        read(folder, kind="choice", gold="A", **{key: ["red", "blue"]})
    assert read(folder, kind="choice", gold="A", question="Which? A. red B. blue", **{key: ["red", "blue"]}).meta
    assert read(folder, kind="choice", gold="A", choices=["x", "y"], **{key: ["red", "blue"]}).meta


@pytest.mark.parametrize(
    "mark", ["<IMAGE>", "<image_1>", "<image 2>", "<|image|>", "<ImageHere>", "<video>", "<image/>", "</image>"]
)
def test_marks_of_images_that_are_not_ours_are_refused(folder, mark):
    with pytest.raises(UserError, match="rows.jsonl:1: question holds .*, which marks no image here"):
        read(folder, question=f"{mark} Which?")


def test_notes_about_pictures_stay_in_meta(folder):
    notes = {"image_size": [8, 8], "image_id": 3, "img": None}
    assert read(folder, **notes).meta == notes


# ------------------------------------------------------------------------------------------------------------ places and options


@pytest.mark.parametrize(
    ("question", "images", "parts"),
    [
        ("Which?", 1, ["I", "Which?"]),
        ("<image>\nWhich?", 1, ["I", "Which?"]),
        (" <image> <image>\n Which?", 2, ["I", "I", "Which?"]),
        ("Is <image> as <image>?", 2, ["Is ", "I", " as ", "I", "?"]),
        ("Which?<image>", 1, ["Which?", "I"]),
        ("Now <image><image> compare", 2, ["Now ", "I", "I", " compare"]),
        ("Which?", 0, ["Which?"]),
    ],
)
def test_placeholders_are_places_and_never_text(folder, question, images, parts):
    sample = read(folder, question=question, images=["a.png", "b.png"][:images])
    found = prompt_parts(sample)
    assert [p.get("text", "I") for p in found] == parts
    assert [p["path"] for p in found if p["type"] == "image"] == list(sample.images)
    assert prompt_text(sample, "<image>") == "".join("<image>" if p == "I" else p for p in parts)
    assert sample_from_row(sample_to_row(sample)) == sample and "<image>" not in sample.question


@pytest.mark.parametrize(("question", "images"), [("<image> Which?", 0), ("<image> <image>", 1), ("a <image> b", 2)])
def test_placeholders_must_be_as_many_as_the_images(folder, question, images):
    with pytest.raises(UserError, match=r"rows.jsonl:1: question has \d <image> for \d image"):
        read(folder, question=question, images=["a.png", "b.png"][:images])


OPTIONS = "\nA. red\nB. blue"


@pytest.mark.parametrize(
    ("question", "choices", "more"),
    [
        ("Which colour?", ["red", "blue"], OPTIONS),
        ("Is it red or blue?", ["red", "blue"], OPTIONS),  # texts without letters
        ("Which colour? A) red B) blue", ["red", "blue"], ""),
        ("Which colour?\n(A) Red\n(B) Blue", ["red", "blue"], ""),
        ("Which?\n**A.** red\n**B.** blue", ["red", "blue"], ""),
        ("Which? A: 25° B: 35°", ["25°", "35°"], ""),
        ("Which? A. red B. green", ["red", "blue"], OPTIONS),
        ("Which letter?", ["A", "B"], ""),  # the options stand in the picture
        ("Which colour?", ["A. red", "B. blue"], OPTIONS),
        ("Which colour?", "A. red\nB. blue", OPTIONS),
        ("Which colour?", "(a) red (b) blue", OPTIONS),
        ("Which?", [3, 4.5], "\nA. 3\nB. 4.5"),
    ],
)
def test_options_that_the_question_does_not_list_are_shown_to_every_model(folder, question, choices, more):
    sample = read(folder, question=question, choices=choices, kind="mcq", gold="B")
    assert prompt_text(sample) == question + more
    assert prompt_parts(sample)[-1]["text"] == question + more


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ('["red", "blue"]', "one text without letters"),
        ("red, blue", "one text without letters"),
        (4, "choices are the number 4"),
        ({"A": "red"}, "choices are an object"),
        (["red", None], "an option in choices is null"),
        (["red", ""], "option 2 of choices is empty"),
        (["B. blue", "A. red"], "out of order"),
    ],
)
def test_choices_that_are_no_options_are_refused(folder, choices, message):
    with pytest.raises(UserError, match=f"rows.jsonl:1: .*{message}"):
        read(folder, choices=choices, kind="choice", gold="B")


@pytest.mark.parametrize(
    ("kind", "gold", "golds"),
    [
        ("open", ["a cat", "cat", "cat"], ("a cat", "cat")),
        ("digit", [3, "three"], ("3", "three")),
        ("digit", 3, ("3",)),
        ("box", [1, 2, 3, 4], ("[1, 2, 3, 4]",)),
        ("iou", [[1, 2, 3, 4], [5, 6, 7, 8]], ("[[1, 2, 3, 4], [5, 6, 7, 8]]",)),
        ("digit", [1, 2, 3, 4], ("1", "2", "3", "4")),
    ],
)
def test_a_list_of_golds_means_alternatives(folder, kind, gold, golds):
    assert read(folder, kind=kind, gold=gold).golds == golds


@pytest.mark.parametrize("gold", [[1, 2, 3], [1, 2, 3, 4, 5], [[1, 2, 3, 4], 5]])
def test_numbers_that_are_no_box_are_no_golds_of_a_box(folder, gold):
    with pytest.raises(UserError, match="rows.jsonl:1: "):
        read(folder, kind="box", gold=gold)


# ------------------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_a_file_without_rows_is_refused_by_whoever_reads_samples(folder, content):
    (folder / "rows.jsonl").write_text(content)
    with pytest.raises(UserError, match="rows.jsonl: no samples"):
        load_samples(folder / "rows.jsonl")


def test_a_folder_is_no_image(folder):
    (folder / "pictures").mkdir()
    with pytest.raises(UserError, match="rows.jsonl:1: image .*pictures is no file"):
        read(folder, images=["pictures"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"id": 1, "question": "?", "gold": 3, "kind": "digit"}]', "rows.jsonl:1: .*JSON array.*jq"),
        (b'[\n{"id": 1}\n]', "rows.jsonl:1: .*JSON array.*Make rows of it: seethink import --format hf"),
        (b"[", "rows.jsonl:1: .*JSON array.*Make rows of it"),
        (b'{\n"id": 1\n}', "rows.jsonl:1: .*JSON over several lines.*jq"),
        (b"id\tquestion\n1\tx", "rows.jsonl:1: .*TSV"),
        (b"id,question\n1,x", "rows.jsonl:1: .*CSV"),
        (b"PAR1\xff\x00", "rows.jsonl: this is a Parquet file.*Make rows of it: seethink import"),
        (b"\x1f\x8b\x08\x00", "rows.jsonl: this is compressed with gzip.*gunzip"),
        (b"PK\x03\x04\xff", "rows.jsonl: this is a ZIP archive"),
        ('{"id": 1}'.encode("utf-16"), "rows.jsonl: this is UTF-16 text"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "rows.jsonl:1: .*Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html>", "rows.jsonl:1: .*web page"),
        (b'{"id": "\\ud83d"}', r"rows.jsonl:1: a text holds half a character \(\\ud83d"),
        (b'{"id": 1' + b"0" * 5000 + b"}", "rows.jsonl:1: not valid JSON"),
        (b"[" * 100_000, "rows.jsonl:1: "),
        (b'{"a": ' * 100_000, "rows.jsonl:1: not valid JSON"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_samples(tmp_path / "rows.jsonl")
    assert len(str(error.value)) < 500


def test_a_byte_order_mark_is_no_part_of_a_text(folder):
    path = write(folder, {})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (folder / "t.txt").write_bytes(b"\xef\xbb\xbfthink")
    (folder / "t.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert len(load_samples(path)) == 1
    assert (read_text(folder / "t.txt"), read_json(folder / "t.json")) == ("think", [1])


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": ["é\nx", {}], "b": {"c": []}}, {}, {"d": None}]])
def test_a_list_written_row_by_row_is_the_file_of_the_whole_list(tmp_path, rows):
    write_json(tmp_path / "whole.json", rows)
    assert write_json_list(tmp_path / "rows.json", iter(rows)) == len(rows)
    assert (tmp_path / "rows.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_image_paths_follow_links_of_folders_and_of_files(tmp_path):
    """As resolving every path by itself would."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "real" / "deep" / "a.png")
    (tmp_path / "linked").symlink_to(tmp_path / "real" / "deep")
    (tmp_path / "real" / "b.png").symlink_to(tmp_path / "real" / "deep" / "a.png")
    images = [
        tmp_path / "real/deep/a.png",
        tmp_path / "linked/a.png",
        tmp_path / "real/b.png",
        tmp_path / "linked/../x.png",
    ]
    found = relative_images({"images": list(map(str, images))}, tmp_path / "out" / "s.jsonl")["images"]
    assert found == [os.path.relpath(image.resolve(), tmp_path / "out") for image in images]
