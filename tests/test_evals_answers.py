"""Where answers come from: draws, budgets, pictures and their controls, prompts, several processes, predictions."""

from __future__ import annotations

import base64
import io
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.images import fitted, image_hash
from seethink.core.nouns import Example, Sample
from seethink.core.pictures import exchanged, own_pictures
from seethink.core.run import read_log
from seethink.core.store import DataRow, read_json, save_samples, write_json
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.evals import run as eval_run
from seethink.evals.config import EvalConfig
from seethink.pocket.build import build as build_world
from tests.fake_api import FakeApi, last_text

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"


def picture(path: Path, size: tuple[int, int], seed: int) -> str:
    """Noise, another for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1])).save(path)
    return str(path)


def board(folder: Path, n: int, size: tuple[int, int] = (40, 20), kind: str = "digit") -> list[Sample]:
    """`n` items with a picture each, written to board.jsonl."""
    items = [
        Sample(str(i), "s", (picture(folder / f"{i}.png", (size[0] + i, size[1]), i),), f"question {i}", "3", kind)  # type: ignore[arg-type]
        for i in range(n)
    ]
    save_samples(folder / "board.jsonl", items)
    return items


def asking(folder: Path, api: FakeApi, **changes) -> EvalConfig:
    settings = dict(out=folder / "run", model="name", base_url=api.base_url, data=folder / "board.jsonl", batch=4)
    return EvalConfig(**{**settings, **changes})


def table(folder: Path) -> list[dict]:
    """scores.parquet without the times."""
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in read_table(folder / "scores.parquet")
    ]


def summary_of(folder: Path) -> dict:
    return read_json(folder / "done.json")["summary"]


def sent_pictures(body: dict) -> list[bytes]:
    parts = body["messages"][-1]["content"]
    urls = [p["image_url"]["url"] for p in parts if p.get("type") == "image_url"] if isinstance(parts, list) else []
    return [base64.b64decode(url.partition("base64,")[2]) for url in urls]


def by_seed(body: dict) -> str:
    """Right in some draws of some items."""
    return compose("so", "3" if (body["seed"] + int(last_text(body).split()[-1])) % 3 else "4")


# ---- draws


def test_every_draw_is_a_call_of_its_own_and_none_is_made_twice(tmp_path):
    board(tmp_path, 5)
    with FakeApi(answer=by_seed) as api:
        config = asking(tmp_path, api, samples=3, temperature=0.7, seed=5)
        summary = eval_run.run(config)
        asked = Counter((last_text(b), b["seed"]) for b in api.bodies)
        assert asked == {(f"question {i}", seed): 1 for i in range(5) for seed in (5, 6, 7)}
        whole = table(tmp_path / "run")
        log = tmp_path / "run" / "responses.jsonl"
        assert [(r["sample_id"], r["draw"]) for r in read_log(log)] == [(str(i), d) for i in range(5) for d in range(3)]
        (tmp_path / "run" / "done.json").unlink()
        log.write_text("\n".join(log.read_text().splitlines()[:7]) + '\n{"sample_id": "2", "dr')
        assert eval_run.run(config) == summary
        assert len(api.bodies) == 15 and table(tmp_path / "run") == whole
    assert [r["draw"] for r in whole] == [0, 1, 2] * 5 and summary["n"] == 15
    assert (summary["items"], summary["samples"], summary["pass@3"]) == (5, 3, 100.0)
    assert summary["score"] == pytest.approx(200 / 3) == summary["pass@1"] < summary["pass@2"]
    assert summary["majority@3"] == 100.0


def test_answers_are_kept_as_they_come(tmp_path):
    board(tmp_path, 12)
    with FakeApi(answer=by_seed, fault=lambda n, body: "401" if n > 5 else None) as api, pytest.raises(UserError):
        eval_run.run(asking(tmp_path, api))
    assert 2 <= len(read_log(tmp_path / "run" / "responses.jsonl")) <= 6


def test_the_budget_ends_the_run_and_a_larger_one_goes_on(tmp_path):
    board(tmp_path, 6)
    with FakeApi(answer=by_seed) as api:
        priced = dict(price=(0.0, 1e6), max_tokens=10)  # a dollar a word
        with pytest.raises(UserError, match="USD are spent") as error:
            eval_run.run(asking(tmp_path, api, budget=12.0, **priced))
        before = len(api.bodies)
        assert error.value.code == 4 and 0 < before < 6 and not (tmp_path / "run" / "done.json").exists()
        summary = eval_run.run(asking(tmp_path, api, budget=1000.0, **priced))
        assert len(api.bodies) == 6 and summary["spending"]["calls"] == 6
        assert summary["spending"]["usd"] == summary["spending"]["completion_tokens"] > 0
        assert summary["spending"]["steps"][0]["step"] == "eval"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("world")
    build_world(out, seed=3, sft=0, rl=0, board=10, ood=0)
    return out


def local(world: Path, out: Path, **changes) -> EvalConfig:
    settings = dict(batch=4, max_tokens=48, device="cpu", dtype="float32")
    return EvalConfig(out=out, model=str(BASE), data=world / "board.jsonl", **{**settings, **changes})


def test_local_draws_share_their_prompt_and_resume_to_equal_answers(world, tmp_path):
    config = local(world, tmp_path / "run", samples=3, temperature=1.0, limit=6)
    summary = eval_run.run(config)
    whole, log = table(tmp_path / "run"), tmp_path / "run" / "responses.jsonl"
    assert len(whole) == 18 and any(len({r["text"] for r in whole[i : i + 3]}) > 1 for i in range(0, 18, 3))
    (tmp_path / "run" / "done.json").unlink()
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:7]))
    assert eval_run.run(config) == summary and table(tmp_path / "run") == whole
    assert len(read_log(log)) == 18 and summary["items"] == 6 and "pass@3" in summary


# ---- pictures


@pytest.mark.parametrize("size", [(4000, 3000), (1024, 1024), (97, 3001), (5, 900), (100, 100), (1, 1)])
@pytest.mark.parametrize("budget", [(None, 262144), (65536, 262144), (40000, None), (1, 1), (None, None)])
def test_a_picture_is_fitted_into_its_budget(size, budget):
    least, most = budget
    width, height = fitted(size, *budget)
    pixels = size[0] * size[1]
    assert width >= 1 and height >= 1 and (not most or width * height <= most)
    if pixels < (least or 1):
        assert least <= width * height
    elif pixels <= (most or pixels):
        assert (width, height) == size
    else:
        assert width * height > 0.9 * most or min(width, height) == 1 or most < 10


def test_an_endpoint_gets_pictures_of_the_budget(tmp_path):
    items = board(tmp_path, 3, (900, 600))
    with FakeApi(answer=by_seed) as api:
        summary = eval_run.run(asking(tmp_path, api, min_pixels=10, max_pixels=262144))
        for body in api.bodies:
            (data,) = sent_pictures(body)
            width, height = Image.open(io.BytesIO(data)).size
            assert 0.97 * 262144 < width * height <= 262144 and width / height == pytest.approx(1.5, rel=0.02)
        eval_run.run(asking(tmp_path, api, out=tmp_path / "other"))
        assert {d for b in api.bodies[3:] for d in sent_pictures(b)} == {Path(s.images[0]).read_bytes() for s in items}
    assert (summary["min_pixels"], summary["max_pixels"]) == (10, 262144)


def test_blank_and_shuffled_pictures_reach_the_endpoint(tmp_path):
    items = board(tmp_path, 4)
    own = {s.question: Path(s.images[0]).read_bytes() for s in items}
    with FakeApi(answer=by_seed) as api:
        for control in ("blank", "shuffled"):
            api.bodies.clear()
            summary = eval_run.run(asking(tmp_path, api, images=control, out=tmp_path / control))
            sent = {last_text(b): sent_pictures(b)[0] for b in api.bodies}
            assert summary["images"] == control and len(sent) == 4 and all(sent[q] != own[q] for q in own)
            if control == "shuffled":
                assert sorted(sent.values()) == sorted(own.values())
            else:
                for i, item in enumerate(items):
                    grey = Image.open(io.BytesIO(sent[item.question]))
                    assert grey.size == (40 + i, 20) and grey.getcolors() == [(20 * (40 + i), (128, 128, 128))]


def test_a_control_needs_pictures(tmp_path):
    save_samples(tmp_path / "board.jsonl", [Sample("a", "s", (), "q", "3", "digit")])
    with FakeApi() as api, pytest.raises(UserError, match="no item has a picture"):
        eval_run.run(asking(tmp_path, api, images="blank"))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kinds", [[0, 1], [0, 0, 1], [0, 0, 0, 1, 1, 2], list(range(9)), [0] * 7 + [1]])
def test_nobody_gets_its_own_picture_where_there_is_another(tmp_path, kinds, seed):
    """Equal contents under several names count as one picture."""
    one = [
        Sample(f"{i}", "s", (picture(tmp_path / f"{i}.png", (8, 8), kind),), "q", "3", "digit")
        for i, kind in enumerate(kinds)
    ]
    two = [replace(s, id=f"two {s.id}", images=s.images * 2) for s in one[:2]]
    samples = [*one, Sample("text", "s", (), "q", "3", "digit"), *two]
    shown = exchanged(samples, seed)
    assert [s.id for s in shown] == [s.id for s in samples] and [len(s.images) for s in shown] == [
        len(s.images) for s in samples
    ]
    assert shown == exchanged(samples, seed)
    same = kinds[0] == kinds[1]
    assert own_pictures(samples, shown) == (2 if same else 0)
    if 2 * max(Counter(kinds).values()) <= len(kinds):
        assert sorted(s.images for s in shown[: len(one)]) == sorted(s.images for s in one)
    assert all(image_hash(a.images[0]) != image_hash(b.images[0]) for a, b in zip(one, shown, strict=False))


def test_local_answers_change_with_the_pictures(world, tmp_path):
    texts = {}
    for control in ("own", "blank", "shuffled"):
        summary = eval_run.run(local(world, tmp_path / control, images=control))
        texts[control] = [r["text"] for r in table(tmp_path / control)]
        assert summary["images"] == control and (summary["min_pixels"], summary["max_pixels"]) == (12544, 12544)
        assert ("control" in {a["alarm"] for a in read_log(tmp_path / control / "alarms.jsonl")}) == (control != "own")
    assert sum(a != b for a, b in zip(texts["own"], texts["blank"], strict=True)) >= 3
    assert sum(a != b for a, b in zip(texts["own"], texts["shuffled"], strict=True)) >= 3


@pytest.mark.parametrize("budget", [{}, {"max_pixels": 262144}, {"min_pixels": 40000, "max_pixels": 90000}])
def test_tokens_are_counted_before_as_they_are_encoded(tmp_path, capsys, budget):
    from seethink.evals.answers.local import check_prompts
    from seethink.evals.config import model_of
    from seethink.train.model.policy import encode_prompt, load_policy

    config = local(tmp_path, tmp_path / "run", **budget)
    policy, seen = load_policy(model_of(config)), set()
    for i, size in enumerate([(3000, 2000), (300, 300), (50, 70), (28, 2000)]):
        sample = Sample(str(i), "s", (picture(tmp_path / f"{i}.png", size, i),), "how many", "3", "digit")
        prompt = encode_prompt(policy, sample)
        rows_ = check_prompts(config, [DataRow("f:1", str(i), Example(sample, ""))], {sample.images[0]: size})
        assert isinstance(rows_[0].read, Example)
        assert f"longest of 1 rows: {len(prompt.ids)} + 0 tokens" in capsys.readouterr().out
        assert prompt.grids is not None
        pixels = int(prompt.grids.prod()) * 14 * 14
        if budget:
            assert budget.get("min_pixels", 12544) <= pixels <= budget["max_pixels"]
            assert i or pixels > 0.9 * budget["max_pixels"]
        seen.add(len(prompt.ids))
    assert len(seen) > 1


def test_the_papers_budget_is_256_tokens_of_32_by_32_pixels(tmp_path):
    from seethink.train.model.parts import load_processor

    settings = read_json(BASE / "preprocessor_config.json")
    write_json(tmp_path / "preprocessor_config.json", {**settings, "patch_size": 16, "min_pixels": 3136})
    processor = load_processor(tmp_path, {}, (None, 256 * 32 * 32))
    assert processor.get_number_of_image_patches(4096, 4096) == 256 * 4
    with pytest.raises(UserError, match="min_pixels 3136 is larger than max_pixels 1000"):
        load_processor(tmp_path, {}, (None, 1000))


def test_a_saved_model_keeps_the_budget_it_was_trained_with(tmp_path):
    from seethink.train.config import ModelConfig
    from seethink.train.model.folder import pixel_budget
    from seethink.train.model.policy import load_policy
    from seethink.train.model.saving import save_policy

    save_policy(load_policy(ModelConfig(path=BASE, max_pixels=262144)), tmp_path / "a")
    save_policy(load_policy(ModelConfig(path=BASE)), tmp_path / "b")
    assert pixel_budget(tmp_path / "a") == (12544, 262144) and pixel_budget(tmp_path / "b") == (12544, 12544)
    assert load_policy(ModelConfig(path=tmp_path / "a")).image_processor.size["longest_edge"] == 262144
    assert (tmp_path / "b" / "preprocessor_config.json").read_bytes() == (
        BASE / "preprocessor_config.json"
    ).read_bytes()
