"""The five published records and real image questions through all six steps; what answers is scripted (tests/real_data.py)."""

import io
import json
from collections import Counter

import pytest
from PIL import Image, ImageChops

from seethink import cli
from seethink.core.images import open_image
from seethink.core.prompt import prompt_text
from seethink.core.store import load_examples, load_samples, read_json, read_jsonl, save_samples
from seethink.core.tables import read_table
from seethink.data.sources.paper import read as load_paper
from tests.fake_api import FakeApi, last_text
from tests.real_data import MODELS, RealTeacher, carried, published, questions
from tests.test_data_page import page_data

EXPECTED = {
    "plain": {("split", "sft")}, "aha": {("split", "rl")}, "wrong": {("verify", "rule_no"), ("verify", "judge_no")},
    "gap": {("rewrite", "gap")}, "puzzle": {("verify", "judge_unparsable")}, "refusal": {("distill", "format")},
    "cut": {("distill", "too_long")}, "filter": {("distill", "filtered")},
}  # fmt: skip


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """(samples, the scripted teacher after the run, requests, run folder) of the real questions."""
    folder = tmp_path_factory.mktemp("real")
    save_samples(folder / "samples.jsonl", questions(shared))
    return run(load_samples(folder / "samples.jsonl"), folder, "--source", str(folder / "samples.jsonl"))


def run(samples, folder, *source):
    answers = RealTeacher(samples)
    with FakeApi(answers, answers.fault) as api:
        assert cli.main(["data", *source, "--out", str(folder / "run"), "--base_url", api.base_url, *MODELS]) == 0
    assert answers.lost == [], "every prompt is about one question"
    return samples, answers, api.bodies, folder / "run"


def ends_of(out):
    ends = {row["sample_id"]: (row["step"], row["reason"]) for row in read_table(out / "drops.parquet")}
    kept = {part: [row["id"] for _, row in read_jsonl(out / f"{part}.jsonl")] for part in ("sft", "rl")}
    return ends | {i: ("split", part) for part, ids in kept.items() for i in ids}


def test_every_question_ends_as_it_was_scripted(real):
    samples, answers, _, out = real
    ends = ends_of(out)
    assert (
        len(samples) == len(ends) >= 35 and len({s.kind for s in samples}) >= 4 and "box" in {s.kind for s in samples}
    )
    seen = Counter()
    for sample, end in answers.ends.values():
        assert ends[sample.id] in EXPECTED[end], (sample, end)
        seen[ends[sample.id]] += 1
    assert set(seen) == set().union(*EXPECTED.values()), "every kind of end is there"
    kinds = {(s.kind, ends[s.id][1]) for s in samples}
    assert {("box", "sft"), ("math", "sft"), ("choice", "rl"), ("open", "sft")} <= kinds


def test_the_funnel_adds_up(real):
    samples, _, _, out = real
    rows = read_json(out / "funnel.json")
    for row in rows:
        assert row["in"] == row["out"] + sum(row["dropped"].values()) and row["pending"] == 0
    first = [row for row in rows if row["step"] == "metadata"]
    assert sum(row["in"] for row in first) == len(samples)
    last = [row for row in rows if row["step"] == "split"]
    sft, rl = load_examples(out / "sft.jsonl"), load_samples(out / "rl.jsonl")
    assert (sum(row["sft"] for row in last), sum(row["rl"] for row in last)) == (len(sft), len(rl))
    assert all("caption" not in example.completion.lower() for example in sft), "the rewriter was heard"


def test_every_question_carries_its_own_picture_to_the_captioner(real):
    samples, answers, bodies, _ = real
    assert set(answers.seen) == {carried(sample) for sample in samples}, "each picture once, by content"
    as_they_are = 0
    for sample in samples:
        data, path = carried(sample), sample.images[0]
        with open(path, "rb") as file:
            as_they_are += data == file.read()
        sent = Image.open(io.BytesIO(data)).convert("RGB")
        assert ImageChops.difference(sent, open_image(path)).getbbox() is None, "pixel by pixel"
    assert as_they_are >= 30, "bytes of the request are those of the file, transparent pictures aside"
    eyes = [body for body in bodies if body["model"] == "simulated-eye"]
    assert len(eyes) == len(answers.seen) and all("image_url" not in json.dumps(b) for b in bodies if b not in eyes)


def test_the_page_shows_every_question_with_its_picture(real):
    samples, answers, _, out = real
    data = page_data(out)
    cards = {card["id"]: card for card in data["cards"]}
    assert len(cards) == len(samples) and all(data["pictures"][c["images"][0]] for c in cards.values())
    assert (out / "report.html").stat().st_size < 15_000_000
    for sample, end in answers.ends.values():
        card = cards[sample.id]
        assert card["caption"] and (end in ("refusal", "cut", "filter")) == ("trace" not in card)
        assert bool(card["said"]) == (end in ("refusal", "cut", "puzzle"))
    assert "Simulated: simulated-eye-0001" in (out / "report.html").read_text()


def test_the_published_records_with_their_captions(shared, tmp_path):
    """Captions that are there are taken; GeoQA goes to RL without a trace, Math-PUMA's own text is its caption."""
    file, images = published(shared, tmp_path, captions=True)
    samples = load_paper(file, images)
    _, answers, bodies, out = run(
        samples, tmp_path, "--source", str(file), "--images", str(images), "--format", "paper"
    )
    assert answers.seen == [] and len(ends_of(out)) == 5
    assert ends_of(out)["geoqa170k-geoqa_plus-2905-63590"] == ("split", "rl")
    asked = [last_text(body) for body in bodies if body["model"] == "simulated-mind"]
    captions = {s.id: str(s.meta.get("caption") or s.context) for s in samples if s.source != "geoqa170k"}
    assert len(asked) == 4 and all(any(caption in text for text in asked) for caption in captions.values())
    cards = {card["id"]: card for card in page_data(out)["cards"]}
    assert {i: cards[i]["caption"] for i in captions} == captions
    assert all(cards[i]["captioned"] == "by the source" for i in captions)


def test_the_published_records_without_captions(shared, tmp_path):
    file, images = published(shared, tmp_path, captions=False)
    samples = load_paper(file, images)
    every = ("--split.rl_only", "[]", "--context_is_caption", "[]")
    _, answers, _, out = run(
        samples, tmp_path, "--source", str(file), "--images", str(images), "--format", "paper", *every
    )
    assert set(answers.seen) == {carried(sample) for sample in samples} and len(answers.seen) == 5
    ends = ends_of(out)
    assert all(ends[s.id] in EXPECTED[end] for s, end in answers.ends.values()) and len(ends) == 5
    assert {prompt_text(s) for s, _ in answers.ends.values()} == {prompt_text(s) for s in samples}


def test_the_traces_that_were_published_can_be_reused(shared, tmp_path):
    """`--reuse` asks for no distillation and no rewriting; what remains is the verdict."""
    file, images = published(shared, tmp_path, captions=True)
    source = ("--source", str(file), "--images", str(images), "--format", "paper", "--reuse")
    answers = RealTeacher(load_paper(file, images))
    with FakeApi(answers, answers.fault) as api:
        assert cli.main(["data", *source, "--out", str(tmp_path / "run"), "--base_url", api.base_url, *MODELS]) == 0
    assert {body["model"] for body in api.bodies} <= {"simulated-judge"}
    traced = [card for card in page_data(tmp_path / "run")["cards"] if "trace" in card]
    assert len(traced) == 4 and all(card["trace"]["think"][0][1] == "" for card in traced)
