"""Benchmark items among training rows: what finds them, what does not, and lists that hold no data."""

from __future__ import annotations

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from seethink import cli
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import read_json, read_jsonl, save_samples, write_jsonl
from seethink.core.tables import read_table
from seethink.data.config import BENCHMARKS
from seethink.data.contamination import ALONE, NEAR, find_contaminated, pairs_within
from seethink.data.fingerprints import list_file, picture_hash, read_fingerprints
from seethink.evals.config import FingerprintConfig
from seethink.evals.fingerprint import run as fingerprint
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import run as distil
from tests.test_data import settings

PUBLISHED = {
    "dynamath": "dynamath", "geoqa": "geoqa_gllava/test_answers.jsonl", "logicvista": "logicvista/dataset.json",
    "mathverse": "mathverse/testmini_text_only.json", "mathvision": "mathvision/test.jsonl",
    "mathvista": "mathvista/testmini.json", "wemath": "wemath/testmini.json",
}  # fmt: skip
LONG = (
    "A ladder of five metres leans on the wall of a barn and its foot stands three metres off, how high does it reach?"
)
MIDDLE = "How many of the birds in this picture are blue?"
SHORT = "What is the value of x?"


def photograph(seed: int) -> Image.Image:
    """Soft blobs of every tone, edge to edge."""
    grain = np.random.default_rng(seed).integers(0, 200, (6, 6, 3), np.uint8)
    return Image.fromarray(grain).resize((200, 160), Image.Resampling.BICUBIC)


def diagram(seed: int) -> Image.Image:
    """Five black lines on a white page."""
    rng, page = random.Random(seed), Image.new("RGB", (300, 240), "white")
    points = [(rng.randint(40, 260), rng.randint(40, 200)) for _ in range(6)]
    ImageDraw.Draw(page).line(points, "black", 3)
    return page


def saved(image: Image.Image, path: Path) -> tuple[str, ...]:
    image.save(path)
    return (str(path),)


def of_list(folder: Path, items: list[Sample], name: str = "board") -> str:
    """A list of these items, as the verb makes it."""
    save_samples(folder / f"{name}-items.jsonl", items)
    fingerprint(FingerprintConfig(data=folder / f"{name}-items.jsonl", out=folder / f"{name}.jsonl"))
    return str(folder / f"{name}.jsonl")


def test_a_picture_hash_is_that_of_imagehash_without_white_margins():
    imagehash = pytest.importorskip("imagehash")
    for seed in range(20):
        image = photograph(seed)
        assert f"{picture_hash(image)[0]:016x}" == str(imagehash.phash(image))
        page = diagram(seed)
        inside = page.crop(ImageOps.invert(page.convert("L")).getbbox())
        assert f"{picture_hash(page)[0]:016x}" == str(imagehash.phash(inside))
    assert picture_hash(Image.new("RGB", (9, 9), "white"))[1] and not picture_hash(photograph(1))[1]
    assert all(picture_hash(diagram(seed))[1] for seed in range(20)), "a drawing is plain"


@pytest.mark.parametrize("make", [photograph, diagram])
def test_copies_of_a_picture_are_near_and_others_are_not(make):
    def as_jpeg(image: Image.Image) -> Image.Image:
        image.save(file := io.BytesIO(), "JPEG", quality=75)
        return Image.open(file)

    hashes = [picture_hash(make(seed))[0] for seed in range(20)]
    copies = (as_jpeg, lambda i: i.resize((i.width * 2, i.height * 2)), lambda i: ImageOps.expand(i, 30, "white"))
    for copy in copies:
        for seed, original in enumerate(hashes):
            assert (picture_hash(copy(make(seed)))[0] ^ original).bit_count() <= NEAR
    assert min((a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[:n]) > NEAR


def test_near_pairs_equal_a_plain_loop():
    rng = random.Random(0)
    ours = [rng.getrandbits(64) for _ in range(50)] + [0, 2**64 - 1]
    theirs = [a ^ sum(1 << bit for bit in rng.sample(range(64), rng.randint(0, 9))) for a in ours[:20]] + [0, 2**64 - 1]
    expected = {a: sorted((b, (a ^ b).bit_count()) for b in theirs if (a ^ b).bit_count() <= 5) for a in ours}
    assert {a: sorted(found) for a, found in pairs_within(ours, theirs, 5).items()} == {
        a: found for a, found in expected.items() if found
    }


def test_what_finds_an_item_and_what_does_not(tmp_path):
    """An item of each sort, and rows that share its picture, its text, both, or what many share."""
    photo, page = saved(photograph(1), tmp_path / "photo.png"), saved(diagram(1), tmp_path / "page.png")
    items = [
        Sample("ladder", "", photo, LONG, "4", "math"),
        Sample("birds", "", saved(photograph(2), tmp_path / "2.png"), MIDDLE, "2", "digit"),
        Sample("x", "", page, SHORT, "7", "math"),
    ]
    items += [
        Sample(f"left-{n}", "", (), "How many of the objects that you see are left?", "1", "digit") for n in range(11)
    ]
    board = of_list(tmp_path, items)
    other, drawn = saved(photograph(9), tmp_path / "9.png"), saved(diagram(9), tmp_path / "d9.png")
    margins = saved(ImageOps.expand(diagram(1), 25, "white"), tmp_path / "margins.png")
    small = saved(photograph(1).resize((100, 80)), tmp_path / "small.jpg")
    edited = LONG.replace("reach", "go").upper()
    found_by = {
        "same": (photo, LONG, "both"),
        "another size": (small, "Describe it.", "picture"),
        "page in other margins": (margins, SHORT, "both"),
        "page alone": (page, "Find the area of it.", None),
        "text alone": (other, "Look at it. " + LONG, "text"),
        "a word changed": (other, edited, "text"),
        "half rewritten": (other, " ".join(LONG.split()[:13]) + " and how far does the top stand from there now?", None),
        "eight words alone": (other, MIDDLE, "text"),
        "eight words in another question": (other, "Tell me. " + MIDDLE, None),
        "a short question alone": (drawn, SHORT, None),
        "of a template": (other, "How many of the objects that you see are left?", None),
        "nothing": (other, "What is written on the sign in the middle of this street here?", None),
    }  # fmt: skip
    rows = [Sample(name, "s", images, asked, "1", "math") for name, (images, asked, _) in found_by.items()]
    found = find_contaminated(rows, [board])
    assert {name: found[name].by if name in found else None for name in found_by} == {
        name: by for name, (_, _, by) in found_by.items()
    }
    assert str(found["same"]) == "board ladder: a picture 0 of 64 bits off its own, and the whole question"
    assert (
        str(found["a word changed"]).startswith("board ladder: ") and "runs of 13 words" in found["a word changed"].what
    )


def test_a_text_that_many_rows_share_needs_the_picture(tmp_path):
    photos = [saved(photograph(n), tmp_path / f"{n}.png") for n in range(12)]
    board = of_list(tmp_path, [Sample("i", "", photos[0], LONG, "4", "math")])
    rows = [Sample(f"r{n}", "", photos[n], LONG, "4", "math") for n in range(12)]
    assert list(find_contaminated(rows, [board])) == ["r0"], "eleven others ask the same of other pictures"
    assert len(find_contaminated(rows[:10], [board])) == 10
    same = [replace(row, images=photos[3]) for row in rows]
    assert len(find_contaminated(same, [board])) == 12, "the same question about one picture, under many ids"


def test_a_list_holds_hashes_and_comes_back_equal(tmp_path, capsys):
    items = [Sample(f"{n}", "", saved(diagram(n), tmp_path / f"{n}.png"), f"{LONG} {n}", "4", "math") for n in range(3)]
    path = Path(of_list(tmp_path, items))
    assert "board: 3 items of" in capsys.readouterr().out
    text, found = path.read_text(), read_fingerprints(path)
    assert not {word for word in re.findall("[a-z]{4,}", LONG.lower())} & set(re.findall("[a-z]{4,}", text))
    assert [item.pictures for item in found.items] == [(picture_hash(diagram(n))[0],) for n in range(3)]
    rows = [row for _, row in read_jsonl(path)]
    for harm, message in (
        (rows[:-1], "holds 2 of 3 items"),
        (rows[1:], "no list of fingerprints"),
        ([{**rows[0], "method": "md5"}, *rows[1:]], "made by the method 'md5'"),
        ([rows[0], {**rows[1], "pictures": ["xyz"]}, *rows[2:]], "broken.jsonl:2: this row is no fingerprint"),
        ([rows[0], {**rows[1], "runs": "abc"}, *rows[2:]], "broken.jsonl:2: this row is no fingerprint"),
    ):
        write_jsonl(tmp_path / "broken.jsonl", harm)
        with pytest.raises(UserError, match=message):
            read_fingerprints(tmp_path / "broken.jsonl")
    with pytest.raises(UserError, match="Use all, dynamath"):
        find_contaminated(items, ["mathvisto"])


def test_lists_that_come_with_the_package_say_what_they_cover():
    counts = {name: read_fingerprints(list_file(name)) for name in BENCHMARKS}
    assert {path.stem for path in list_file("geoqa").parent.iterdir()} == set(BENCHMARKS)
    assert {name: len(found.items) for name, found in counts.items()} == {
        "dynamath": 5010, "geoqa": 754, "logicvista": 447, "mathverse": 788, "mathvision": 3040, "mathvista": 1000, "wemath": 1740
    }  # fmt: skip
    assert all(found.complete and not any(item.pictures for item in found.items) for found in counts.values())
    assert str(counts["mathverse"]).endswith("788 with a text to go by, without pictures")


def test_an_excerpt_is_not_taken_for_the_whole(tmp_path, capsys):
    write_jsonl(tmp_path / "test_answers.jsonl", [{"question_id": n, "text": "A"} for n in range(2)])
    asked = [{"question_id": n, "text": f"Question:{LONG}\nChoices:\nA:{n}", "image": "gone.png"} for n in range(2)]
    write_jsonl(tmp_path / "test_questions.jsonl", asked)
    out = tmp_path / "geoqa.jsonl"
    command = ["fingerprint", "--task", "geoqa", "--data", str(tmp_path / "test_answers.jsonl"), "--out", str(out)]
    assert cli.main([*command, "--dry-run"]) == 0 and not out.exists()
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "2 rows, and the benchmark has 754" in said and "GeoQA test (an excerpt): 2 items" in said
    assert "1 of 1 pictures are not there" in said and not read_fingerprints(out).complete


def test_data_drops_them_before_anything_is_paid(tmp_path):
    source = make_samples(tmp_path, 12)
    asked = "Which of these things is nearest to the left edge of the picture that you see?"
    rows = [row for _, row in read_jsonl(source)]
    rows[3]["question"] = rows[5]["question"] = rows[7]["question"] = asked
    write_jsonl(source, rows)
    board = of_list(tmp_path, [Sample("7", "", (), asked, "2", "digit")])
    with FakeApi(teacher) as api:
        distil(settings(source, tmp_path / "out", api.base_url, "--decontaminate", board))
        paid = len(api.bodies)
        distil(settings(source, tmp_path / "out", api.base_url, "--decontaminate", board))
        assert len(api.bodies) == paid and not any(asked in str(body) for body in api.bodies)
    drops = {drop["sample_id"]: drop for drop in read_table(tmp_path / "out" / "drops.parquet")}
    for number in (3, 5, 7):
        drop = drops[f"item-{number}"]
        assert (drop["step"], drop["reason"], drop["detail"]) == (
            "metadata", "contaminated", "board 7: the whole question"
        )  # fmt: skip
    dropped = [row["dropped"].get("contaminated", 0) for row in read_json(tmp_path / "out" / "funnel.json")]
    assert sum(dropped) == 3


def test_curate_drops_them_and_another_list_is_another_run(tmp_path):
    rows = [Sample(name, "s", (), asked, "2", "digit") for name, asked in (("a", LONG), ("b", MIDDLE), ("c", SHORT))]
    save_samples(tmp_path / "rl.jsonl", rows)
    board = of_list(tmp_path, [rows[0], rows[2]])
    command = ["curate", "--data", str(tmp_path / "rl.jsonl"), "--out", str(tmp_path / "out"), "--decontaminate", board]
    assert cli.main(command) == 0
    drops = read_table(tmp_path / "out" / "drops.parquet")
    assert [(d["sample_id"], d["step"], d["reason"]) for d in drops] == [("a", "decontaminate", "contaminated")]
    assert [row["id"] for _, row in read_jsonl(tmp_path / "out" / "selected.jsonl")] == ["b", "c"]
    of_list(tmp_path, [rows[1]])
    assert cli.main(command) == 2, "the list has changed"


def test_shipped_lists_are_what_the_published_files_give(shared, tmp_path):
    for name, file in PUBLISHED.items():
        out = tmp_path / f"{name}.jsonl"
        fingerprint(FingerprintConfig(task=name, data=shared / "data" / file, pictures=False, out=out))
        assert replace(read_fingerprints(out), made="") == replace(read_fingerprints(list_file(name)), made=""), name


def test_benchmarks_that_were_made_of_one_another_are_found(shared, capsys):
    """MathVerse and MathVista took items of GeoQA's test; MathVision, of competitions, took none (LOG.md)."""
    from seethink.evals.boards.find import find_board

    def items(name: str) -> list[Sample]:
        rows = find_board(name).load(shared / "data" / PUBLISHED[name], None)
        return [replace(row.read.sample, images=()) for row in rows]

    geoqa = items("geoqa")
    assert len(find_contaminated(geoqa, ["geoqa"])) == 754
    assert len(find_contaminated(geoqa, ["mathverse"])) == 170 and len(find_contaminated(geoqa, ["mathvista"])) == 26
    assert not find_contaminated(geoqa, ["mathvision", "wemath", "logicvista"])
    assert not find_contaminated(items("mathvision"), ["geoqa", "mathverse", "mathvista", "wemath", "logicvista"])


def test_real_pictures_that_are_not_plain_do_not_collide(shared):
    files = [
        p for p in sorted((shared / "data").rglob("*")) if p.suffix in (".png", ".jpg") and "dynamath" not in str(p)
    ]
    hashes = {picture_hash(Image.open(path).convert("RGB")): path for path in files}
    assert len(files) > 200
    close = [
        (a, b)
        for n, (a, plain) in enumerate(hashes)
        for b, its in list(hashes)[:n]
        if not plain and not its and (a ^ b).bit_count() <= ALONE
    ]
    assert not close and sum(not plain for _, plain in hashes) > 40
