"""Exports: what each trainer reads, and what comes back."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import save_examples, save_samples
from seethink.data import export as export_module
from seethink.data.export import SUFFIXES, ExportConfig, run
from seethink.data.sources.paper import read as load_paper
from seethink.rewards.adapters.common import sample_from_label, sample_from_truth
from tests.tiny import byte_tokenizer

ANSWER = "<think>I look.</think>\n<answer>{}</answer>"


@pytest.fixture
def samples(tmp_path):
    """All five kinds; none, one and two images; one gold in another alphabet."""
    images = []
    for n in range(3):
        images.append(str(tmp_path / "images" / f"{n}.png"))
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (n, 0, 0)).save(images[-1])
    return [
        Sample("a-1", "clevr_math", (images[0],), "How many?", "3", "digit", context="three balls", meta={"caption": "balls"}),
        Sample("a-2", "arxivqa", (images[0], images[1]), "Which?\nA) x\nB) y", "B", "choice", ("x", "y")),
        Sample("a-3", "math_puma", (images[2],), "Equation?", "y = 2x", "math"),
        Sample("a-4", "coco", (images[1],), "Where?", "[0.1, 0.2, 0.3, 0.4]", "box", meta={"coords": "norm1"}),
        Sample("a-5", "vizwiz", (), "What is it? Ω", "eine Dose: Ω", "open", licence="cc"),
    ]  # fmt: skip


@pytest.fixture
def rl(tmp_path, samples):
    save_samples(tmp_path / "rl.jsonl", samples)
    return tmp_path / "rl.jsonl"


@pytest.fixture
def sft(tmp_path, samples):
    save_examples(tmp_path / "sft.jsonl", [Example(s, ANSWER.format(s.gold)) for s in samples])
    return tmp_path / "sft.jsonl"


def export(data, format, out, **more):
    run(ExportConfig(data=data, format=format, out=out, **more))
    return out


def truth(row):
    return row["id"], row["source"], row["kind"], row["solution"], row["choices"], json.loads(row["meta"])


def expected_truth(sample):
    return sample.id, sample.source, sample.kind, sample.gold, list(sample.choices), sample.meta


def test_trl_rows_prepare_and_load(rl, samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    prepare = pytest.importorskip("trl.data_utils").prepare_multimodal_messages
    (tmp_path / "system.txt").write_text("Think first.\n")
    path = export(rl, "trl", tmp_path / "trl.jsonl", system=tmp_path / "system.txt")
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 5
    for row, sample in zip(rows, samples, strict=True):
        assert truth(row) == expected_truth(sample)
        messages = prepare(row["prompt"], row["images"])
        assert messages[0]["content"] == [{"type": "text", "text": "Think first."}]
        assert [p.get("image") for p in messages[1]["content"][:-1]] == list(sample.images)
        assert messages[1]["content"][-1]["text"] == sample.question


def llava_processor():
    """A real processor for images and text that needs no file and no torchvision; one token a patch, and one more."""
    transformers = pytest.importorskip("transformers")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.image_token, tokenizer.image_token_id = "<image>", tokenizer.convert_tokens_to_ids("<image>")
    part = "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}"
    template = f"{{% for m in messages %}}{{{{ m['role'] }}}}: {{% for p in m['content'] %}}{part}{{% endfor %}} / {{% endfor %}}"
    side = {"height": 28, "width": 28}
    return transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(size=side, crop_size=side), tokenizer=tokenizer, patch_size=14,
        vision_feature_select_strategy="default", chat_template=template, num_additional_image_tokens=1,
    )  # fmt: skip


def test_trl_makes_tensors_of_what_was_exported(sft, samples, tmp_path):
    """The collator of its SFT trainer, and the call of the processor that its GRPO trainer makes: names of files do."""
    datasets = pytest.importorskip("datasets")
    collate = pytest.importorskip("trl.trainer.sft_trainer").DataCollatorForVisionLanguageModeling
    prepare = pytest.importorskip("trl.data_utils").prepare_multimodal_messages
    processor, held = llava_processor(), sum(len(sample.images) for sample in samples)

    def load(format):
        path = export(sft, format, tmp_path / f"{format}.jsonl")
        return list(
            datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        )

    batch = collate(processor)([dict(row) for row in load("messages")])
    assert batch["pixel_values"].shape == (held, 3, 28, 28)
    for ids, sample in zip(batch["input_ids"], samples, strict=True):
        text = processor.tokenizer.decode(ids).replace("<image>" * 4, "<image>").replace("<pad>", "")
        asked = f"user: {'<image>' * len(sample.images)}{sample.question}"
        assert text == f"{asked} / assistant: {ANSWER.format(sample.gold)} / "
    rows = load("trl")
    prompts = [prepare(row["prompt"], images=row["images"]) for row in rows]
    texts = [processor.apply_chat_template(prompt, tokenize=False) for prompt in prompts]
    inputs = processor(images=[row["images"] for row in rows], text=texts, padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (held, 3, 28, 28)
    tokens = (inputs["input_ids"] == processor.tokenizer.image_token_id).sum(1).tolist()
    assert tokens == [4 * len(sample.images) for sample in samples]


def test_messages_end_with_the_completion(sft, samples, tmp_path):
    rows = [json.loads(line) for line in export(sft, "messages", tmp_path / "m.jsonl").read_text().splitlines()]
    for row, sample in zip(rows, samples, strict=True):
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert row["messages"][1]["content"] == ANSWER.format(sample.gold)
        assert row["images"] == list(sample.images)


def test_verl_rows_hold_pictures_and_truth(rl, samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    path = export(rl, "verl", tmp_path / "verl.parquet")
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    for row, sample in zip(rows, samples, strict=True):
        assert row["data_source"] == sample.source and row["reward_model"]["ground_truth"] == sample.gold
        assert row["prompt"] == [{"role": "user", "content": "<image>" * len(sample.images) + sample.question}]
        assert [i["bytes"] for i in row["images"]] == [Path(i).read_bytes() for i in sample.images]
        assert truth(row["extra_info"]) == expected_truth(sample) and row["extra_info"]["question"] == sample.question
    pictures = rows.cast_column("images", datasets.List(datasets.Image()))
    assert pictures[0]["images"][0].size == (4, 4)


def test_plain_columns_load_with_their_pictures(sft, samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    path = export(sft, "hf", tmp_path / "hf.parquet")
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    for row, sample in zip(rows, samples, strict=True):
        assert truth(row) == expected_truth(sample) and row["completion"] == ANSWER.format(sample.gold)
        assert [image.getpixel((0, 0)) for image in row["images"]] == [
            Image.open(image).getpixel((0, 0)) for image in sample.images
        ]


def test_rows_pass_one_by_one(sft, tmp_path, monkeypatch):
    """No row is read before the one ahead of it was handed on to the file."""
    seen, read = [], export_module.read_examples
    monkeypatch.setattr(export_module, "read_examples", lambda path: (seen.append(row.id) or row for row in read(path)))

    def writing(path, rows):
        return sum(len(seen) == count for count, _ in enumerate(rows, 1))

    for format, writer in (("trl", "write_jsonl"), ("sharegpt", "write_json_list"), ("verl", "write_parquet")):
        seen.clear()
        monkeypatch.setattr(export_module, writer, lambda path, rows, *_: writing(path, rows))
        config = ExportConfig(data=sft, format=format, out=tmp_path / f"x{SUFFIXES[format][0]}")
        assert export_module.write(export_module.exported(sft, format), config) == 5


def test_easyr1_answers_carry_kind_and_meta(rl, samples, tmp_path):
    import pyarrow.parquet as pq

    rows = pq.read_table(export(rl, "easyr1", tmp_path / "e.parquet")).to_pylist()
    for row, sample in zip(rows, samples, strict=True):
        assert row["problem"].count("<image>") == len(row["images"]) == len(sample.images)
        assert truth(json.loads(row["answer"])) == expected_truth(sample)


def test_our_reward_hooks_read_what_travels(rl, samples, tmp_path):
    import pyarrow.parquet as pq

    trl = [json.loads(line) for line in export(rl, "trl", tmp_path / "t.jsonl").read_text().splitlines()]
    verl = pq.read_table(export(rl, "verl", tmp_path / "v.parquet")).to_pylist()
    easyr1 = pq.read_table(export(rl, "easyr1", tmp_path / "e.parquet")).to_pylist()
    for sample, one, two, three in zip(samples, trl, verl, easyr1, strict=True):
        for back in (
            sample_from_truth({k: one[k] for k in ("kind", "solution", "choices", "meta", "id")}),
            sample_from_truth(two["extra_info"]),
            sample_from_label(three["answer"]),
        ):
            assert (back.id, back.gold, back.kind, back.choices) == (
                sample.id,
                sample.gold,
                sample.kind,
                sample.choices,
            )
            assert sample.meta.items() <= back.meta.items()


@pytest.mark.parametrize("fixture", ["rl", "sft"])
def test_swift_rows(fixture, samples, tmp_path, request):
    path = export(request.getfixturevalue(fixture), "swift", tmp_path / "s.jsonl")
    for line, sample in zip(path.read_text().splitlines(), samples, strict=True):
        row = json.loads(line)
        assert truth(row) == expected_truth(sample)
        assert row["messages"][0]["content"].count("<image>") == len(row["images"])
        assert len(row["messages"]) == (1 if fixture == "rl" else 2)


def test_sharegpt_comes_with_its_dataset_info(sft, samples, tmp_path):
    rows = json.loads(export(sft, "sharegpt", tmp_path / "mine.json").read_text())
    info = json.loads((tmp_path / "dataset_info.json").read_text())["mine"]
    assert info["file_name"] == "mine.json" and info["formatting"] == "sharegpt"
    for row, sample in zip(rows, samples, strict=True):
        assert set(info["columns"].values()) <= set(row)
        human, gpt = row[info["columns"]["messages"]]
        assert (human["from"], gpt["from"]) == ("human", "gpt") and gpt["value"] == ANSWER.format(sample.gold)
        assert human["value"].count("<image>") == len(row["images"])


def test_the_papers_json_reads_back_to_equal_samples(sft, samples, tmp_path):
    path = export(sft, "paper", tmp_path / "elsewhere" / "paper.json")
    rows = json.loads(path.read_text())
    assert rows[0]["ds_answer"] == "<think>\nI look.\n</think>\n\n3" and rows[0]["caption"] == "balls"
    back = load_paper(path, tmp_path / "images")
    for one, other in zip(back, samples, strict=True):
        meta = {k: v for k, v in one.meta.items() if k != "ds_answer"}
        assert (one.id, one.source, one.images, one.question, one.gold, one.kind, one.choices, one.context, meta) == (
            other.id, other.source, other.images, other.question, other.gold, other.kind, other.choices, other.context, other.meta,
        )  # fmt: skip


@pytest.mark.parametrize("format", ["messages", "sharegpt"])
def test_formats_for_sft_need_completions(rl, tmp_path, format):
    with pytest.raises(UserError, match="no completion"):
        export(rl, format, tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(
    ("format", "name", "right"),
    [
        ("verl", "x.json", "written as parquet. Name it .*/x.parquet"),
        ("easyr1", "x", "Name it .*/x.parquet"),
        ("hf", "images", "Name it .*/images.parquet"),
        ("trl", "x.json", "written as jsonl. Name it .*/x.jsonl"),
        ("sharegpt", "x.parquet", "written as json or jsonl. Name it .*/x.json"),
        ("paper", "x.jsonl", "written as json. Name it .*/x.json"),
    ],
)
def test_a_name_of_another_kind_of_file_is_refused_with_the_right_one(sft, tmp_path, format, name, right):
    """`images` is a folder that is there."""
    before = sorted(tmp_path.rglob("*"))
    for dry_run in (False, True):
        with pytest.raises(UserError, match=right):
            run(ExportConfig(data=sft, format=format, out=tmp_path / name), dry_run)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_placeholder_without_an_image_is_refused(tmp_path):
    save_samples(tmp_path / "rl.jsonl", [Sample("a", "s", (), "What is <image> here?", "3", "digit")])
    with pytest.raises(UserError, match="rl.jsonl:1: question has 1 <image> for 0 images"):
        export(tmp_path / "rl.jsonl", "verl", tmp_path / "x.parquet")


def test_dry_run_writes_nothing(rl, tmp_path, capsys):
    run(ExportConfig(data=rl, format="verl", out=tmp_path / "x.parquet"), dry_run=True)
    assert not (tmp_path / "x.parquet").exists() and "5 rows" in capsys.readouterr().out


def test_other_entries_of_dataset_info_stay(sft, tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "other.json"}}')
    export(sft, "sharegpt", tmp_path / "mine.json")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["other"] == {"file_name": "other.json"} and info["mine"]["file_name"] == "mine.json"


@pytest.mark.parametrize("completion", ["3", "<think>I look.</think>\n<answer></answer>", "I look.<answer>3</answer>"])
def test_the_published_format_refuses_a_completion_it_cannot_take_apart(tmp_path, samples, completion):
    save_examples(tmp_path / "sft.jsonl", [Example(samples[0], completion)])
    with pytest.raises(UserError, match="'a-1'.*thinking and answer"):
        export(tmp_path / "sft.jsonl", "paper", tmp_path / "paper.json")


@pytest.mark.parametrize("format", ["easyr1", "paper", "hf"])
def test_a_system_prompt_is_not_lost_without_a_word(rl, tmp_path, format):
    (tmp_path / "system.txt").write_text("Think first.")
    with pytest.raises(UserError, match="system prompt"):
        export(rl, format, tmp_path / ("x.json" if format == "paper" else "x.parquet"), system=tmp_path / "system.txt")


def test_every_format_asks_what_our_own_models_are_asked(tmp_path, samples):
    """Options that the question does not list, images in their places, other golds, upright pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), "red").save(tmp_path / "images" / "turned.png", exif=exif)
    images = (str(tmp_path / "images" / "turned.png"), samples[0].images[0])
    sample = Sample(
        "p", "s", images, "Is  bigger than ?", "A", "choice", ("yes", "no"), alternatives=("B",), places=(3, 16)
    )
    save_examples(tmp_path / "p.jsonl", [Example(sample, ANSWER.format("A"))])
    asked = "Is <image> bigger than <image>?\nA. yes\nB. no"
    for format in ("swift", "sharegpt"):
        text = export(tmp_path / "p.jsonl", format, tmp_path / f"{format}.jsonl").read_text()
        assert json.dumps(asked) in text
    for format in ("verl", "easyr1"):
        (row,) = pq.read_table(export(tmp_path / "p.jsonl", format, tmp_path / f"{format}.parquet")).to_pylist()
        assert (row["prompt"][0]["content"] if format == "verl" else row["problem"]) == asked
        assert Image.open(io.BytesIO(row["images"][0]["bytes"])).size == (4, 8)
        read = sample_from_truth(row["extra_info"]) if format == "verl" else sample_from_label(row["answer"])
        assert (read.golds, read.choices) == (("A", "B"), ("yes", "no"))
    (back,) = load_paper(export(tmp_path / "p.jsonl", "paper", tmp_path / "paper.json"), tmp_path / "images")
    assert (back.golds, back.places, back.question) == (sample.golds, sample.places, sample.question)
    with pytest.raises(UserError, match="has its images in places.*Export as"):
        export(tmp_path / "p.jsonl", "trl", tmp_path / "x.jsonl")
    save_samples(tmp_path / "q.jsonl", [replace(sample, places=())])
    row = json.loads(export(tmp_path / "q.jsonl", "trl", tmp_path / "x.jsonl").read_text())
    assert row["prompt"][0]["content"] == "Is  bigger than ?\nA. yes\nB. no" and row["alternatives"] == ["B"]


@pytest.mark.parametrize(
    ("format", "name"),
    [("hf", "x.parquet"), ("verl", "x.parquet"), ("easyr1", "x.parquet"), ("trl", "x.jsonl"), ("paper", "x.json")],
)
def test_every_row_is_counted_once(rl, tmp_path, format, name):
    assert run(ExportConfig(data=rl, format=format, out=tmp_path / name))["rows"] == 5
