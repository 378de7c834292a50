"""The paper's published records: kinds, golds, options, images; and real ones end to end where they are at hand."""

import json

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.fields import lettered
from seethink.core.store import load_examples, load_samples
from seethink.core.tables import read_table
from seethink.data.pipeline import DataConfig, run
from seethink.data.sources.paper import read as load_paper
from seethink.data.sources.paper import repair_gold, worked_answer
from seethink.rewards import Rewarder
from tests.fake_api import FakeApi, last_text


def write(folder, *records, image="clevr_math/a.png"):
    (folder / "clevr_math").mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(folder / "clevr_math" / "a.png")
    base = {"id": "clevr_math-1", "image": image, "question": "How many?", "gt": 3, "ds_answer": "", "caption": ""}
    path = folder / "data.json"
    path.write_text(json.dumps([{**base, "meta": {}, **record} for record in records]))
    return path


@pytest.mark.parametrize(
    ("record", "kind", "source", "gold"),
    [
        ({}, "digit", "clevr_math", "3"),
        ({"id": "geoqa170k-geoqa_plus-1-2", "gt": "(c)"}, "choice", "geoqa170k", "C"),
        ({"id": "geoqa170k-geoqa_plus-1-2", "gt": "C)"}, "choice", "geoqa170k", "C"),
        ({"id": "arxivqa-x-1", "gt": "(B) It falls."}, "choice", "arxivqa", "B"),
        ({"id": "arxivqa-x-1", "gt": "[D]"}, "choice", "arxivqa", "D"),
        ({"id": "synthesis-2", "gt": "Step 1.\n†Answer: y = 2x."}, "math", "math_puma", "y = 2x"),
        ({"id": "docvqa-7", "gt": "page 2"}, "open", "docvqa", "page 2"),
        ({"id": "vizwiz-7", "gt": "a can"}, "open", "vizwiz", "a can"),
        ({"id": "allava-allava_laion_1", "gt": "Likely."}, "open", "allava_laion", "Likely."),
        ({"id": "coco-1", "gt": [0.1, 0.2, 0.3, 0.4]}, "box", "coco", "[0.1, 0.2, 0.3, 0.4]"),
        ({"id": "vg-1", "gt": "[0.1, 0.2, 0.3, 0.4]"}, "box", "vg", "[0.1, 0.2, 0.3, 0.4]"),
        ({"id": "coco-2", "gt": "on the left"}, "open", "coco", "on the left"),
        ({"id": "mine-2", "gt": "4", "kind": "digit"}, "digit", "mine", "4"),
        ({"id": "clevr_math-2", "gt": "A", "reward": "mcq"}, "choice", "clevr_math", "A"),
    ],
)
def test_kind_and_gold_per_source(tmp_path, record, kind, source, gold):
    (sample,) = load_paper(write(tmp_path, record), None)
    assert (sample.kind, sample.source, sample.gold) == (kind, source, gold)
    if kind == "box":
        assert sample.meta["coords"] == "norm1"


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ("What?\nChoices:\nA: 1/2\nB: 2\nC: 3", ("1/2", "2", "3")),
        ("What? Choose:\nA) up\nB) down", ("up", "down")),
        ("What?\n(A) up\n(B) down\n", ("up", "down")),
        ("What?\nA. up\nB. down", ("up", "down")),
        ("What colour? A) red B) dark blue C) green", ("red", "dark blue", "green")),
        ("What is angle A: 30 or 40?", ()),
        ("What?\nB) up\nC) down", ()),
        ("What?", ()),
    ],
)
def test_choices_are_read_from_the_question(question, choices):
    assert lettered(question) == choices


@pytest.mark.parametrize(
    ("solution", "question", "context", "expected"),
    [
        ("Step 5: y = -5 * sin(-5 * x).\n\n†Answer: y = -5 * sin(-5 * x).", "What is the function's equation?", "", "y = -5 * sin(-5 * x)"),
        ("Step 4: a = -5.\nStep 5: y = -5 * x.\n†Answer: a = -5.", "What is the function's equation?", "", "y = -5 * x"),
        ("†Answer: a = -5.", "Find the equation.", "The function y = a * sin(-5 * x) goes through (1,5).", "y = (-5) * sin(-5 * x)"),
        ("†Answer: a = -5.", "Find the equation.", "", "a = -5"),
        ("So x = 1.\n†Answer: x = 1.", "What is x?", "", "x = 1"),
        ("12", "What is x?", "", "12"),
        ("Answer: 3.5", "What is x?", "", "3.5"),
    ],
)  # fmt: skip
def test_golds_of_worked_solutions(solution, question, context, expected):
    assert worked_answer(solution, question, context) == expected


def test_the_published_gold_stays_in_meta(tmp_path):
    (sample,) = load_paper(write(tmp_path, {"id": "synthesis-2", "gt": "†Answer: y = 2x."}), None)
    assert sample.meta["gt"] == "†Answer: y = 2x."
    assert repair_gold("digit", 3, "", "") == "3"


@pytest.mark.parametrize("image", ["clevr_math/a.png", "/clevr_math/a.png", "elsewhere/clevr_math/a.png", "a.png"])
@pytest.mark.parametrize("inside", [False, True])
def test_images_are_found_below_the_folder(tmp_path, image, inside):
    path = write(tmp_path, {"image": image})
    if image == "a.png" and not inside:
        pytest.skip("a bare name says nothing about folders")
    (sample,) = load_paper(path, tmp_path / "clevr_math" if inside else tmp_path)
    assert sample.images == (str((tmp_path / "clevr_math" / "a.png").resolve()),)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([{"image": "nowhere.png"}], ("data.json[0]", "nowhere.png", "--images")),
        ([{"image": "../secret.png"}], ("data.json[0]", "leads out")),
        ([{}, {"question": ""}], ("data.json[1]", "'question'")),
        ([{"id": "synthesis-1", "gt": " "}], ("data.json[0]", "'gt'")),
        ([{}, {}], ("data.json[1]", "already used in record 0")),
        ([{"id": "strange-1"}], ("data.json[0]", "'strange'", "kind")),
        ([{"image": "x/a.png"}, {"id": "clevr_math-2", "image": "y/a.png"}], ("data.json[1]", "same file")),
        (["text"], ("data.json[0]", "not a JSON object")),
    ],
)
def test_bad_records_are_named(tmp_path, records, words):
    path = write(tmp_path, *(r for r in records if isinstance(r, dict)))
    if records == ["text"]:
        path.write_text('["text"]')
    with pytest.raises(UserError) as error:
        load_paper(path, tmp_path / "clevr_math")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_published_records_are_samples(shared):
    folder = shared / "data" / "vlaa_examples"
    samples = load_paper(folder / "data.json", folder / "images")
    assert [(s.source, s.kind) for s in samples] == [
        ("clevr_math", "digit"),
        ("geoqa170k", "choice"),
        ("math_puma", "math"),
        ("arxivqa", "choice"),
        ("allava_laion", "open"),
    ]
    assert [s.gold for s in samples[:4]] == ["3", "C", "y = -5 * sin(-5 * x)", "B"]
    assert [len(s.choices) for s in samples] == [0, 4, 0, 4, 0]
    rewarder = Rewarder()
    for sample in samples[:4]:
        assert rewarder.is_correct(rewarder.score(sample, f"<think>x</think><answer>{sample.gold}</answer>"))


def test_published_traces_are_verified_and_split(shared, tmp_path):
    """Reused traces need a judge only where rules cannot tell; two of four hesitate by the paper's cues."""
    folder = shared / "data" / "vlaa_examples"
    with FakeApi(lambda body: "Yes") as api:
        run(
            DataConfig(
                source=folder / "data.json",
                format="paper",
                images=folder / "images",
                out=tmp_path / "run",
                base_url=api.base_url,
                reuse=True,
            )
        )
        asked = [last_text(b).split("<question>\n")[1][:20] for b in api.bodies]
    assert not read_table(tmp_path / "run" / "drops.parquet")
    sft, rl = load_examples(tmp_path / "run" / "sft.jsonl"), load_samples(tmp_path / "run" / "rl.jsonl")
    assert {e.sample.source for e in sft} | {s.source for s in rl} == {
        "clevr_math", "geoqa170k", "math_puma", "arxivqa", "allava_laion",
    }  # fmt: skip
    assert "Considering the prox" in asked and len(asked) <= 2
