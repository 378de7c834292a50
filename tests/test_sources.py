"""The paper's nine sources: small folders in the published shape, hostile rows among them, and real records where they are."""

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from seethink.core.config import describe, resolve
from seethink.core.errors import UserError
from seethink.core.nouns import by_gold
from seethink.core.store import load_samples, read_json, read_jsonl
from seethink.core.tables import read_table, write_table
from seethink.data.config import DataConfig
from seethink.data.pipeline import run
from seethink.data.sources import SOURCES, golds, paper
from seethink.data.sources.published import read
from seethink.data.sources.source import Picture, Unusable
from seethink.rewards import Rewarder
from tests.fake_api import FakeApi, last_text

OPTIONS = "Choices:\nA:40°\nB:60°\nC:120°"


def picture(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)


def chat(*turns):
    return [{"from": "human" if i % 2 == 0 else "gpt", "value": text} for i, text in enumerate(turns)]


def clevr(answer, image="a.png", question="How many objects are left?"):
    return {"question": question, "answer": answer, "image_filename": image, "template_filename": "subtraction.json"}


def puma(short, output, long=""):
    more = {"instruction_2": long, "output_2": output, "image_url_2": "images/a.png"} if long else {}
    return {"instruction": short, "output": output, "image_url": "images/a.png"} | more


def arxiv(id, label, options=("A) up", "B) down", "C) flat")):
    return {
        "id": id,
        "image": "images/a.jpg",
        "question": "Where to?",
        "options": list(options),
        "label": label,
        "rationale": "r",
    }


def page(id, answers, image="documents/a.png"):
    return {
        "questionId": id,
        "question": "What date?",
        "image": image,
        "docId": 1,
        "answers": answers,
        "data_split": "train",
    }


def photo(*answers, image="a.jpg", question="What is this?"):
    said = [{"answer": answer, "answer_confidence": "yes"} for answer in answers]
    return {"image": image, "question": question, "answers": said, "answer_type": "other", "answerable": 1}


def geo(
    reply,
    question=f"<image>\nFirst perform reasoning. \nQuestion:How large is angle A?\n{OPTIONS}",
    image="geo3k/a.png",
):
    return {"image": image, "conversations": chat(question, reply)}


def allava(id, *turns, image="allava_laion/images/a.jpeg"):
    return {"id": id, "image": image, "conversations": chat(*turns), "url": "https://example.org/a.jpeg"}


def cot(image, *turns):
    return {"id": image, "image": image, "conversations": chat(*turns)}


def conclude(text):
    return f"<SUMMARY> I look. </SUMMARY>\n<REASONING> [0.9, 0.9, 1, 1] is another. </REASONING>\n<CONCLUSION> {text} </CONCLUSION>"


TEN = ["a can"] * 4 + ["soda"] * 4 + ["unanswerable"] * 2
# name: (file of rows, its content, pictures, {id: golds}, {id: (reason, words)})
FOLDERS = {
    "clevr_math": (
        "clevr-math-train.json",
        {"info": {}, "questions": [clevr(3), clevr("seven"), clevr("a few"), clevr(2, "gone.png"), clevr(True), clevr(10), clevr(-1), clevr(1, question=" "),
                clevr(1, "a" * 5000),
                clevr(1, "a\0.png"),
                clevr(1, "")]},
        ["CLEVR_v1.0/images/train/a.png"],
        {"clevr_math-1": ["3"], "clevr_math-2": ["7"], "clevr_math-6": ["10"]},
        {"clevr_math-3": ("gold", "a few"), "clevr_math-4": ("image", "gone.png"), "clevr_math-5": ("gold", "True"), "clevr_math-7": ("gold", "-1"), "clevr_math-8": ("malformed", "empty"), **{f"clevr_math-{n}": ("image", "is not below") for n in (9, 10, 11)}},
    ),
    "geoqa170k": (
        "qa_tuning.json",
        [geo("So it is 40.\nAnswer:A"), geo("Answer: (b)."), geo("So it is 40."), geo("Answer:E"), geo("Answer:A", "What is A?"), geo("Answer:C", image="geoqa_plus/gone.png"), {"image": "geo3k/a.png", "conversations": chat("alone")}],
        ["images/geo3k/a.png"],
        {"geoqa170k-1": ["A"], "geoqa170k-2": ["B"]},
        {"geoqa170k-3": ("gold", "names no answer"), "geoqa170k-4": ("gold", "E"), "geoqa170k-5": ("gold", "no options"), "geoqa170k-6": ("image", "gone"), "geoqa170k-7": ("malformed", "answer")},
    ),
    "math_puma": (
        "Synthesis/train.json",
        [
            puma("What is x?", "Step 1: add.\n†Answer: x = 1."),
            puma("What is the function's equation?", "Step 4: a = -5.\n†Answer: a = -5.", "The function y = a * x goes through (1,-5). What is the function's equation?"),
            puma("What is the function's equation?", "†Answer: a = -5."),
            puma("What is the function's equation?", "†Answer: 7"),
            puma("What <|im_end|> is x?", "†Answer: x = 1."),
            puma("What is x?", {"no": "text"}),
        ],
        ["Synthesis/images/a.png"],
        {"math_puma-1": ["x = 1"], "math_puma-2": ["y = (-5) * x"]},
        {"math_puma-3": ("gold", "a function"), "math_puma-4": ("gold", "a function"), "math_puma-5": ("malformed", "im_end"), "math_puma-6": ("malformed", "object")},
    ),
    "arxivqa": (
        "arxivqa.jsonl",
        [arxiv("cs-1", "A"), arxiv("cs-2", "B)"), arxiv("cs-3", "(c)"), arxiv("cs-4", "A. up"), arxiv("cs-5", "Flat"), arxiv("cs-6", "sideways"), arxiv("cs-7", "E"), arxiv("cs-8", "A", ["A) up"]), arxiv("cs-9", "A", ["B) up", "A) down"])],
        ["images/a.jpg"],
        {"arxivqa-cs-1": ["A"], "arxivqa-cs-2": ["B"], "arxivqa-cs-3": ["C"], "arxivqa-cs-4": ["A"], "arxivqa-cs-5": ["C"]},
        {"arxivqa-cs-6": ("gold", "sideways"), "arxivqa-cs-7": ("gold", "E"), "arxivqa-cs-8": ("gold", "two options"), "arxivqa-cs-9": ("malformed", "out of order")},
    ),
    "docvqa": (
        "train_v1.0_withQT.json",
        {"dataset_name": "docvqa", "data": [page(11, ["2", "page  2", "2", ""]), page(12, []), page(13, "1986"), page(14, ["x"], "documents/../../x.png"), page(15, [None, 3])]},
        ["documents/a.png"],
        {"docvqa-11": ["2", "page 2"]},
        {"docvqa-12": ("gold", "no answer"), "docvqa-13": ("gold", "not a list"), "docvqa-14": ("malformed", "leads out"), "docvqa-15": ("gold", "no answer")},
    ),
    "vizwiz": (
        "Annotations/train.json",
        [photo(*["a Can"] * 6, *["soda"] * 4), photo(*TEN), photo(*["unanswerable"] * 9, "soda"), photo(*"abcdefghij"), photo(*["unsuitable image"] * 5, *["soda"] * 5), photo(*TEN, image="gone.jpg"), photo(*TEN, question="")],
        ["train/a.jpg"],
        {"vizwiz-1": ["a can"], "vizwiz-2": ["a can", "soda"], "vizwiz-5": ["soda"]},
        {"vizwiz-3": ("unanswerable", "9 of 10"), "vizwiz-4": ("gold", "no two the same"), "vizwiz-6": ("image", "gone.jpg"), "vizwiz-7": ("malformed", "empty")},
    ),
    "allava_laion": (
        "allava_laion/ALLaVA-Instruct-LAION-4V.json",
        [allava("allava_laion_inst_1", "<image>\nWhy?", "Because."), allava("allava_laion_inst_2", "<image>\nWhy?", " "), allava("allava_laion_inst_3"), allava("allava_laion_inst_4", "<image><image>\nWhy?", "So.")],
        ["allava_laion/images/a.jpeg"],
        {"allava_laion_inst_1": ["Because."]},
        {"allava_laion_inst_2": ("gold", "empty"), "allava_laion_inst_3": ("malformed", "no question"), "allava_laion_inst_4": ("malformed", "2 <image>")},
    ),
    "coco": (
        "train.jsonl",
        [
            cot("coco/train2017/a.jpg", "<image>\nWhere is the dog?", conclude("It is at [0.1, 0.2, 0.5, 0.6].")),
            cot("vg/VG_100K/a.jpg", "<image>\nNot here?", conclude("No.")),
            cot("coco/train2017/a.jpg", "<image>\nWhat is it?", conclude("A dog."), "Which colour?", "Brown"),
            cot("coco/train2017/a.jpg", "<image>\nWhere?", conclude("[0.1, 0.2, 0.5, 0.6] or [0.2, 0.2, 0.5, 0.6]")),
            cot("coco/train2017/a.jpg", "<image>\nWhere?", conclude("[0.5, 0.2, 0.1, 0.6]")),
            cot("coco/train2017/a.jpg", "<image>\nWhere?", conclude("")),
        ],
        ["coco/train2017/a.jpg", "vg/VG_100K/a.jpg"],
        {"coco-1": ["[0.1, 0.2, 0.5, 0.6]"], "coco-3-1": ["A dog."], "coco-3-2": ["Brown"]},
        {"coco-4": ("gold", "2 different boxes"), "coco-5": ("gold", "box"), "coco-6": ("gold", "empty")},
    ),
    "vg": (
        "train.jsonl",
        [
            cot("vg/VG_100K/a.jpg", "<image>\nWhere is the dog?", conclude("[0.25, 0.25, 0.5, 0.75]")),
            cot("vg/VG_100K/a.jpg", "<image>\nWhat is in [0.0, 0.25, 1.0, 0.5]?", conclude("A dog.")),
            cot("vg/VG_100K/a.jpg", "<image>\nWhere is the dog?", conclude("[0.25, 0.1, 0.5, 0.7]")),
        ],
        ["vg/VG_100K/a.jpg"],
        {"vg-1": ["[0.25, 0.0, 0.5, 1.0]"], "vg-2": ["A dog."]},
        {"vg-3": ("frame", "outside the picture")},
    ),
}  # fmt: skip


def publish(folder, name, rows=None):
    """The folder of a source as its authors give it."""
    file, content, pictures, _, _ = FOLDERS[name]
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content if rows is None else rows
    path.write_text("\n".join(map(json.dumps, content)) if path.suffix == ".jsonl" else json.dumps(content))
    for image in pictures:
        picture(folder / image, (80, 40))
    return path


@pytest.mark.parametrize("named", ["folder", "file"])
@pytest.mark.parametrize("name", FOLDERS)
def test_published_rows_are_samples_or_drops_with_a_reason(tmp_path, name, named, capsys):
    path = publish(tmp_path, name)
    loaded, (*_, expected, dropped) = read(SOURCES[name], tmp_path if named == "folder" else path, None), FOLDERS[name]
    kept = [s for s in loaded.samples if s.id not in loaded.drops]
    assert {s.id: list(s.golds) for s in kept} == expected
    assert {i: drop.reason for i, drop in loaded.drops.items()} == {i: reason for i, (reason, _) in dropped.items()}
    for i, (_, words) in dropped.items():
        assert words in loaded.drops[i].detail and path.name in loaded.drops[i].detail
    said, rewarder = capsys.readouterr().err, Rewarder()
    assert f"{len(dropped)} of {len(loaded.samples)} rows dropped" in said
    for sample in kept:
        assert sample.source == name and sample.licence == SOURCES[name].licence and Path(sample.images[0]).is_file()
        assert sample.question and "<image>" not in sample.question
        for version in by_gold(sample) if sample.kind != "open" else ():
            reward = rewarder.score(version, f"<think>x</think><answer>{version.gold}</answer>")
            assert rewarder.is_correct(reward), (sample.id, reward)


def test_what_rows_hold_beside_their_golds(tmp_path):
    scenes = {
        "scenes": [
            {
                "image_filename": "a.png",
                "objects": [{"size": "large", "color": "red", "material": "metal", "shape": "cube"}],
            }
        ]
    }
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "CLEVR_train_scenes.json").write_text(json.dumps(scenes))
    captions = [allava("allava_laion_cap_1", "<image>\nDescribe.", "A can.")]
    (tmp_path / "allava_laion").mkdir()
    (tmp_path / "allava_laion" / "ALLaVA-Caption-LAION-4V.json").write_text(json.dumps(captions))
    first = {}
    for name in FOLDERS:
        folder = tmp_path if name in ("clevr_math", "allava_laion") else tmp_path / name
        publish(folder, name)
        first[name] = {s.id: s for s in read(SOURCES[name], folder, None).samples}
    assert first["clevr_math"]["clevr_math-2"].context == "Objects: large red metal cube."
    assert first["clevr_math"]["clevr_math-2"].meta == {"template": "subtraction", "gt": "seven"}
    assert first["allava_laion"]["allava_laion_inst_1"].context == "A can."
    assert first["geoqa170k"]["geoqa170k-1"].question == f"How large is angle A?\n{OPTIONS}"
    assert first["geoqa170k"]["geoqa170k-1"].choices == ("40°", "60°", "120°")
    assert first["math_puma"]["math_puma-2"].context.startswith("The function y = a * x")
    assert first["math_puma"]["math_puma-2"].meta["gt"].endswith("†Answer: a = -5.")
    assert first["arxivqa"]["arxivqa-cs-2"].choices == ("up", "down", "flat")
    assert first["vizwiz"]["vizwiz-2"].meta == {"votes": 4, "of": 10, "tie": ["a can", "soda"]}
    assert [s.kind for s in first["coco"].values()][:3] == ["box", "open", "open"]
    assert first["coco"]["coco-1"].meta["coords"] == "norm1"
    assert first["vg"]["vg-2"].question == "What is in [0.0, 0.0, 1.0, 0.5]?", (
        "80 x 40 in a square: 20 pixels of padding"
    )


@pytest.mark.parametrize("size", [(80, 40), (40, 80), (50, 50), (7, 1000)])
def test_boxes_come_back_out_of_the_square(tmp_path, size):
    """Padding a box's picture and coming back is the identity, up to the three decimals of both."""
    picture(tmp_path / "a.png", size)
    side, box = max(size), (0.125, 0.25, 0.5, 1.0)
    padded = [round((v * size[i % 2] + (side - size[i % 2]) / 2) / side, 6) for i, v in enumerate(box)]
    assert json.loads(golds.out_of_square(str(padded), Picture(tmp_path / "a.png"))) == pytest.approx(box, abs=1e-3)


def test_a_broken_picture_leaves_before_its_box_is_moved(tmp_path):
    publish(tmp_path, "vg")
    (tmp_path / "vg" / "VG_100K" / "b.jpg").write_text("no picture")
    rows = [*FOLDERS["vg"][1], cot("vg/VG_100K/b.jpg", "<image>\nWhere?", conclude("[0.25, 0.25, 0.5, 0.75]"))]
    publish(tmp_path, "vg", rows)
    assert read(SOURCES["vg"], tmp_path, None).drops["vg-4"].reason == "image"


def test_a_parquet_of_rows_reads_as_its_json(tmp_path):
    publish(tmp_path, "geoqa170k")
    expected = read(SOURCES["geoqa170k"], tmp_path, None)
    write_table(tmp_path / "data" / "qa_tuning-00000.parquet", read_json(tmp_path / "qa_tuning.json"))
    (tmp_path / "qa_tuning.json").unlink()
    found = read(SOURCES["geoqa170k"], tmp_path, None)
    assert found.samples == expected.samples and found.drops.keys() == expected.drops.keys()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "arxivqa.jsonl").unlink(), ("no arxivqa.jsonl", "hf.co/datasets/MMInstruction/ArxivQA")),
        (lambda folder: (folder / "arxivqa.jsonl").write_text('{"id": '), ("arxivqa.jsonl:1", "not valid JSON", "Repair")),
        (lambda folder: (folder / "arxivqa.jsonl").write_text('["a"]'), ("arxivqa.jsonl:1", "not a JSON object")),
        (lambda folder: (folder / "arxivqa.jsonl").write_text('{"id": "1", "image": "images/a.jpg"}'), ("arxivqa.jsonl:1", "no 'options'", "--format")),
        (lambda folder: publish(folder, "arxivqa", [arxiv("1", "A"), arxiv("1", "B")]), ("arxivqa.jsonl:2", "already used in", ":1")),
        (lambda folder: (folder / "images" / "a.jpg").unlink(), ("none of 9 rows", "images/a.jpg", "--images")),
        (lambda folder: publish(folder, "arxivqa", [arxiv("1", "A"), {**arxiv("2", "A"), "image": "x/a.jpg"}]), ("arxivqa.jsonl:2", "same file")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_whole_file_stops(tmp_path, break_it, words):
    publish(tmp_path, "arxivqa")
    break_it(tmp_path)
    with pytest.raises(UserError) as error:
        read(SOURCES["arxivqa"], tmp_path, None)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_another_count_than_the_papers_is_said_with_both(tmp_path, capsys):
    publish(tmp_path, "docvqa")
    read(SOURCES["docvqa"], tmp_path, None)
    assert "docvqa: 5 records; the paper began with 10,194 and kept 8,206" in capsys.readouterr().err
    read(SOURCES["docvqa"], tmp_path, None, limit=2)
    assert "the paper" not in capsys.readouterr().err, "of a part nothing follows"


@pytest.mark.parametrize(
    ("clean", "given"),
    [(golds.count, "3.5"), (golds.count, "three or four"), (golds.count, ""), (golds.letter, "AB"), (golds.letter, ""), (golds.last_answer, "Answer: ")],
)  # fmt: skip
def test_what_fits_no_rule_is_unusable(clean, given):
    with pytest.raises(Unusable):
        clean(given)


def test_a_run_reads_a_source_by_its_name(tmp_path):
    """Dropped rows are in the funnel, GeoQA goes to RL alone, and pictures beside the file are not read for the key."""
    publish(tmp_path / "geo", "geoqa170k")
    publish(tmp_path / "clevr", "clevr_math")

    def teacher(body):
        n = "3" if "How many" in last_text(body) else "none"
        return f"<think>I count.</think>\nAnswer: {n}"

    with FakeApi(teacher) as api:
        for name in ("geoqa170k", "clevr_math"):
            out, folder = tmp_path / "runs" / name, tmp_path / {"geoqa170k": "geo", "clevr_math": "clevr"}[name]
            given = ["--source", str(folder), "--format", name, "--out", str(out), "--base_url", api.base_url]
            run(resolve(DataConfig, given))
            reasons = {
                d["sample_id"]: d["reason"] for d in read_table(out / "drops.parquet") if d["step"] == "metadata"
            }
            *_, kept, dropped = FOLDERS[name]
            duplicates = {i: "duplicate" for i in list(kept)[1:]}  # all ask the same of the same picture
            assert reasons == {i: reason for i, (reason, _) in dropped.items()} | duplicates
            assert next(row for row in read_json(out / "funnel.json"))["in"] == len(kept) + len(dropped)
            before = len(api.bodies)
            (folder / "another.png").write_bytes(b"new")
            run(resolve(DataConfig, given))
            assert len(api.bodies) == before
    assert [s.id for s in load_samples(tmp_path / "runs" / "geoqa170k" / "rl.jsonl")] == ["geoqa170k-1"]
    assert not list(read_jsonl(tmp_path / "runs" / "geoqa170k" / "sft.jsonl"))


def test_declarations_are_listed_where_people_look():
    listed = dict(describe(DataConfig))["format"][-1]
    assert all(f"{s.name} ({s.licence})" in listed for s in SOURCES.values())
    assert {s.name for s in SOURCES.values() if s.rl_only} == {"geoqa170k"}
    known = [s.counts for s in SOURCES.values()]
    assert sum(c.rl for c in known) == 25_195 and sum(c.sft or 0 for c in known) == 126_413, "the paper's totals"
    assert sum(c.original or 0 for c in known) == 203_182 and sum(c.kept or 0 for c in known) == 144_895
    sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
    from render import rows_page

    page = (Path(__file__).parents[1] / "docs" / "rows.md").read_text(encoding="utf-8")
    assert page == rows_page(page), "render it: python docs/render.py"


def test_real_docvqa_records(shared):
    folder = shared / "data" / "docvqa"
    loaded = read(SOURCES["docvqa"], folder / "data.json", folder / "images")
    published = read_json(folder / "data.json")
    assert not loaded.drops and len(loaded.samples) == len(published)
    for sample, record in zip(loaded.samples, published, strict=True):
        assert sample.golds == tuple(record["answers"]) and sample.id == f"docvqa-{record['questionId']}"
        assert Path(sample.images[0]).name == Path(record["image"]).name


def test_real_geoqa_wording(shared, tmp_path):
    """Real prompts of GeoQA170K with real replies of a model trained on it, and the golds published beside them."""
    folder = shared / "data" / "geoqa_gllava"
    asked, replies, answers = (
        [row for _, row in read_jsonl(folder / f"{name}.jsonl")] for name in ("test_questions", "Gllava-test_merged", "test_answers")
    )  # fmt: skip
    rows = []
    for question, reply, answer in zip(asked, replies, answers, strict=True):
        text = re.sub(r"(?s)(.*Answer:).*", rf"\g<1>{answer['text']}", reply["text"])
        rows.append({"image": "test/0.png", "conversations": chat(f"<image>{question['text']}", text)})
    publish(tmp_path, "geoqa170k", rows)
    picture(tmp_path / "images" / "test" / "0.png")
    loaded = read(SOURCES["geoqa170k"], tmp_path, None)
    wrong = [
        s.id for s, a in zip(loaded.samples, answers, strict=True) if s.id not in loaded.drops and s.gold != a["text"]
    ]
    assert not wrong and [d.reason for d in loaded.drops.values()] == ["gold"], "one reply of 754 names no answer"


def test_both_readers_agree_on_real_records(shared, tmp_path):
    """The paper's own records, put back into the shapes of their sources, are the samples that its file gives."""
    records = read_json(shared / "data" / "vlaa_examples" / "data.json")
    images = shared / "data" / "vlaa_examples" / "images"
    expected = paper.read(shared / "data" / "vlaa_examples" / "data.json", images)
    names = [Path(record["local_image"]).name for record in records]
    asked, gt = [record["question"] for record in records], [record["gt"] for record in records]
    stem, *options = asked[3].split("\n")
    rows = {
        "clevr_math": {"questions": [clevr(gt[0], names[0], asked[0])]},
        "geoqa170k": [geo(f"Hence.\nAnswer:{gt[1]}", f"<image>\nReason.\nQuestion:{asked[1]}", names[1])],
        "math_puma": [puma(asked[2], gt[2], records[2]["meta"]["text_question"]) | {"image_url": names[2], "image_url_2": names[2]}],
        "arxivqa": [{**arxiv("cond-mat-23815", f"{gt[3]})", options), "image": names[3], "question": stem}],
        "allava_laion": [allava("allava_laion_inst_1", f"<image>\n{asked[4]}", gt[4], image=names[4])],
    }  # fmt: skip
    for (name, published), there in zip(rows.items(), expected, strict=True):
        path = publish(tmp_path / name, name, published)
        (sample,) = read(SOURCES[name], path, images).samples
        for field in ("source", "kind", "gold", "choices", "images"):
            assert getattr(sample, field) == getattr(there, field), (name, field)
        if name in ("geoqa170k", "math_puma"):
            assert (sample.question, sample.context) == (there.question, there.context)
