"""Entropy and KL to another model: against plain transformers and double loops, and as columns of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from seethink.core.config import build as configured
from seethink.core.errors import UserError
from seethink.core.store import load_samples, read_json
from seethink.core.tables import read_table
from seethink.evals import run as eval_run
from seethink.evals.answers.responses import LOG
from seethink.evals.config import EvalConfig
from seethink.pocket.build import build
from seethink.show import evaluation
from seethink.train.model import divergence
from seethink.train.model.divergence import distances, refuse_strangers
from seethink.train.model.policy import encode_completion, encode_prompt
from seethink.train.model.saving import save_policy
from tests.tiny import IMAGE, plain_policy, tiny_model, tiny_policy, tiny_prompt

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
BANNED = [IMAGE, 151, 152, 153]


def moved(model, by: float = 0.03):
    """The same model with other language weights."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return model


def distribution(stock, prompt, completion, banned=BANNED) -> torch.Tensor:
    """[T, V] in double precision, of one completion by transformers' own forward."""
    ids = torch.cat([prompt.ids, completion])[None]
    vision = {}
    if prompt.pixels is not None:
        types = (ids == stock.config.image_token_id).int()
        vision = dict(pixel_values=prompt.pixels, image_grid_thw=prompt.grids, mm_token_type_ids=types)
    logits = stock(input_ids=ids, **vision).logits[0].double()
    logits[:, banned] = -torch.inf
    return torch.softmax(logits, -1)[len(prompt.ids) - 1 : -1]


@torch.no_grad()
def plain(stock, other, prompt, completion, banned=BANNED) -> tuple[list[float], list[float]]:
    """(entropy, KL) of every token, term by term."""
    entropies, kls = [], []
    for p, q in zip(*(distribution(m, prompt, completion, banned) for m in (stock, other)), strict=True):
        entropies.append(-sum(float(a * a.log()) for a in p if a > 0))
        kls.append(sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True) if a > 0))
    return entropies, kls


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
def test_sums_are_those_of_plain_transformers(family, monkeypatch):
    """Two prompts with pictures and one without, several completions each, packs and chunks smaller than the whole."""
    monkeypatch.setattr(divergence, "CHUNK_LOGITS", 3 * 200)
    policy, stock = tiny_policy(family)
    other, far = tiny_policy(family)[0], moved(tiny_model(family))
    other.model.load_state_dict(far.state_dict())
    prompts = [tiny_prompt(policy, 5, 1), tiny_prompt(policy, 9, 0), tiny_prompt(policy, 3, 2)]
    groups = [[torch.tensor([5, 9, 2]), torch.tensor([7, 2])], [torch.tensor([11, 12, 13, 14])], [torch.tensor([2])]]
    found = distances(policy, other, prompts, groups, budget=40)
    flat = [(prompt, ids) for prompt, group in zip(prompts, groups, strict=True) for ids in group]
    for one, (prompt, ids) in zip(found, flat, strict=True):
        entropy, kl = plain(stock, far, prompt, ids)
        torch.testing.assert_close(one.entropy, torch.tensor(entropy), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.kl, torch.tensor(kl), rtol=1e-5, atol=1e-5)
        assert min(kl) > 1e-3, "the two models differ by more than the tolerance"


def test_a_model_is_at_no_distance_from_itself():
    policy, _ = tiny_policy()
    (one,) = distances(policy, tiny_policy()[0], [tiny_prompt(policy, 4)], [[torch.tensor([5, 2])]])
    assert one.kl.abs().max() < 1e-6 and one.entropy.min() > 0


def test_models_of_other_tokens_are_refused():
    policy, longer = plain_policy(BASE), plain_policy(BASE)
    refuse_strangers(policy, plain_policy(BASE))
    longer.tokenizer.add_tokens(["zebra"])
    with pytest.raises(UserError, match="vocabulary"):
        refuse_strangers(policy, longer)
    stranger = replace(policy, model=tiny_model("2", vocabulary=policy.model.lm_head.weight.shape[0]))
    with pytest.raises(UserError, match="family"):
        refuse_strangers(policy, stranger)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, str]:
    """(board, a model that has moved away from the base)."""
    folder = tmp_path_factory.mktemp("world")
    build(folder, seed=0, sft=0, rl=0, board=6, ood=2)
    policy = plain_policy(BASE)
    moved(policy.model, 0.01)
    save_policy(policy, folder / "moved")
    return folder / "board.jsonl", str(folder / "moved")


def test_an_evaluation_against_its_start_has_both_columns(world, tmp_path):
    board, model = world
    settings = {"model": model, "data": board, "temperature": 1.0, "max_tokens": 24, "dtype": "float32", "limit": 4}
    config = configured(EvalConfig, {**settings, "out": tmp_path / "run", "against": BASE, "samples": 2, "batch": 3})
    eval_run.run(config)
    rows = read_table(tmp_path / "run" / "scores.parquet")
    policy, stock = plain_policy(model), AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval()
    base = AutoModelForImageTextToText.from_pretrained(BASE, dtype=torch.float32).eval()
    samples = {s.id: s for s in load_samples(board)}
    checked = 0
    for row in rows:
        ids = encode_completion(policy, row["text"])
        ids = ids[:-1] if row["stop"] == "length" else ids
        if len(ids) != row["tokens"]:
            continue  # other tokens spell the same text
        entropy, kl = plain(stock, base, encode_prompt(policy, samples[row["sample_id"]]), ids, policy.banned.tolist())
        assert row["entropy"] == pytest.approx(sum(entropy) / len(ids), abs=1e-5)
        assert row["kl"] == pytest.approx(sum(kl) / len(ids), abs=1e-5)
        checked += 1
    assert len(rows) == 8 and checked >= 4
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert summary["kl"] == pytest.approx(sum(row["kl"] for row in rows) / 8) and summary["kl"] > 1e-3
    evaluation.write(tmp_path / "run", samples)
    page = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert f"{summary['entropy']:.4f} nats per token" in page and str(BASE) in page
    again = configured(EvalConfig, {**settings, "out": tmp_path / "none", "samples": 2, "batch": 3})
    eval_run.run(again)
    unmeasured = read_table(tmp_path / "none" / "scores.parquet")
    assert [row["text"] for row in unmeasured] == [row["text"] for row in rows], "measuring changes no answer"
    assert {row["kl"] for row in unmeasured} == {None} == {row["entropy"] for row in unmeasured}


def test_a_dry_run_says_that_another_model_is_held(world, tmp_path, capsys):
    board, model = world
    config = configured(EvalConfig, {"model": model, "data": board, "out": tmp_path / "none", "against": BASE})
    eval_run.run(config, dry_run=True)
    assert f"scored under {BASE}" in capsys.readouterr().out and not (tmp_path / "none").exists()


def test_a_killed_evaluation_keeps_what_was_measured(world, tmp_path):
    board, model = world
    config = configured(
        EvalConfig,
        {"model": model, "data": board, "max_tokens": 12, "limit": 3, "batch": 1, "out": tmp_path, "against": BASE},
    )
    eval_run.run(config)
    whole = read_table(tmp_path / "scores.parquet")
    lines = (tmp_path / LOG).read_text().splitlines(keepends=True)
    (tmp_path / LOG).write_text("".join(lines[:1]))
    (tmp_path / "done.json").unlink()
    eval_run.run(config)
    rows = read_table(tmp_path / "scores.parquet")
    assert [(r["entropy"], r["kl"]) for r in rows] == [(r["entropy"], r["kl"]) for r in whole]


@pytest.mark.parametrize(
    "changes", [{"base_url": "http://h/v1"}, {"engine": "vllm"}, {"model": "", "predictions": "answers.jsonl"}]
)
def test_nobody_elses_probabilities_are_known(changes, tmp_path):
    with pytest.raises(UserError, match="against"):
        configured(EvalConfig, {"model": "m", "data": "b.jsonl", "out": tmp_path, "against": BASE, **changes})


def test_another_start_is_another_run(world, tmp_path):
    board, model = world
    settings = {"model": model, "data": board, "max_tokens": 4, "limit": 1, "out": tmp_path}
    eval_run.run(configured(EvalConfig, {**settings, "against": BASE}))
    with pytest.raises(UserError, match="other settings or inputs"):
        eval_run.run(configured(EvalConfig, {**settings, "against": model}))
