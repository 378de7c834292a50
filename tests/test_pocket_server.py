"""The simulated teacher over HTTP, asked the way a user's client would ask an OpenAI-compatible endpoint."""

import base64
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest

from seethink.core.errors import UserError
from seethink.core.store import load_samples
from seethink.pocket.build import build
from seethink.pocket.captions import read_caption
from seethink.pocket.checker import check
from seethink.pocket.server import Faults, Teacher, judge, rewrite
from seethink.pocket.world import scene_from_json

RECORDS = Path(__file__).parents[2] / "shared" / "data" / "vlaa_examples" / "data.json"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    build(folder, seed=0, sft=10, rl=5, board=5, ood=0)
    return folder


@pytest.fixture(scope="module")
def samples(world):
    return load_samples(world / "sft_pool.jsonl")


@pytest.fixture(scope="module")
def teacher(world):
    with Teacher(world) as teacher:
        yield teacher


def post(teacher, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{teacher.base_url}/chat/completions", data)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def ask(teacher, model, text, image=None, **params):
    content = [{"type": "text", "text": text}]
    if image:
        url = "data:image/png;base64," + base64.b64encode(Path(image).read_bytes()).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    return post(teacher, {"model": model, "messages": [{"role": "user", "content": content}], **params})


def text_of(reply):
    return reply["choices"][0]["message"]["content"]


def distil_prompt(sample, caption):
    return f"<description>\n{caption}\n</description>\n\n<question>\n{sample.question}\n</question>\n\nAnswer it."


def test_models_are_listed(teacher):
    with urllib.request.urlopen(f"{teacher.base_url}/models", timeout=60) as response:
        names = {row["id"] for row in json.loads(response.read())["data"]}
    assert {"pocket-captioner", "pocket-r1-hesitant", "pocket-rewriter", "pocket-judge"} <= names


def test_captioner_knows_its_pictures_and_no_other(teacher, samples, tmp_path):
    for sample in samples:
        scene = scene_from_json(sample.meta["scene"])
        assert read_caption(text_of(ask(teacher, "pocket-captioner", "Describe.", sample.images[0]))) == scene
    (tmp_path / "other.png").write_bytes(b"another picture")
    assert "does not know" in text_of(ask(teacher, "pocket-captioner", "Describe.", tmp_path / "other.png"))


def test_reasoner_works_from_the_prompt_alone(teacher, samples):
    for sample in samples:
        caption = text_of(ask(teacher, "pocket-captioner", "Describe.", sample.images[0]))
        replies = [text_of(ask(teacher, "pocket-r1-careful", distil_prompt(sample, caption))) for _ in range(2)]
        think, _, answer = replies[0].removeprefix("<think>").partition("</think>")
        assert replies[0] == replies[1] and answer.strip()
        assert not any(step.truth is False for step in check(sample, think))


def test_reasoner_guesses_where_it_was_told_nothing(teacher, samples):
    reply = text_of(ask(teacher, "pocket-r1-concise", distil_prompt(samples[1], "A dog.")))
    assert "cannot see" in reply and reply.endswith("A")


def test_usage_and_cut_by_length(teacher):
    reply = ask(teacher, "pocket-rewriter", "<text>\none two three four\n</text>", max_tokens=2)
    assert text_of(reply) == "one two" and reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 2 and reply["usage"]["prompt_tokens"] > 0


def test_rewrite_changes_only_captions():
    assert (
        rewrite("The caption says row-1 empty . the caption shows it")
        == "The image says row-1 empty . the image shows it"
    )


@pytest.mark.parametrize(
    ("gold", "said", "verdict"),
    [
        ("3", "3", "Yes"),
        ("3", "4", "No"),
        ("y = 2x + 1", "y = 2x+1", "Yes"),
        ("red circle blue square", "Red circle blue square", "Yes"),
        ("red circle blue square green cross", "red circle blue square green circle", "No"),
    ],
)
def test_judge(gold, said, verdict):
    assert judge(gold, said) == verdict


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", {"model": "pocket-judge", "messages": [{"content": 3}]}])
def test_bad_requests_are_400(teacher, body):
    with pytest.raises(urllib.error.HTTPError) as error:
        post(teacher, body)
    assert error.value.code == 400


def test_unknown_model_is_404(teacher):
    with pytest.raises(urllib.error.HTTPError) as error:
        ask(teacher, "gpt-x", "hello")
    assert error.value.code == 404


@pytest.mark.parametrize(
    ("faults", "raised"),
    [
        (Faults(too_many=1.0), urllib.error.HTTPError),
        (Faults(server_error=1.0), urllib.error.HTTPError),
        (Faults(hang=1.0, hang_seconds=0.1), HTTPException),
        (Faults(cut=1.0), HTTPException),
    ],
)
def test_faults(world, faults, raised):
    with Teacher(world, faults=faults) as teacher, pytest.raises(raised):
        ask(teacher, "pocket-judge", "hello")


def test_occupied_port_and_missing_world(teacher, world, tmp_path):
    with pytest.raises(UserError, match="cannot be used"):
        Teacher(world, port=int(teacher.base_url.split(":")[2].split("/")[0]))
    with pytest.raises(UserError, match="no pocket world"):
        Teacher(tmp_path)


@pytest.mark.skipif(not RECORDS.is_file(), reason="published records are not beside this checkout")
def test_published_records_are_replayed(world):
    with Teacher(world, replay=RECORDS) as teacher:
        for record in json.loads(RECORDS.read_text()):
            prompt = f"<question>\n{record['question']}\n</question>"
            assert text_of(ask(teacher, "pocket-r1-careful", prompt)) == record["ds_answer"]
            if record["caption"]:
                image = RECORDS.parent / record["local_image"]
                assert text_of(ask(teacher, "pocket-captioner", "Describe.", image)) == record["caption"]
