"""Qwen3-VL from folder to folder: the image features that its first language layers take travel with the image tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from seethink.core.errors import UserError
from seethink.core.nouns import Example
from seethink.core.store import load_examples, load_samples, save_examples, write_json
from seethink.core.tags import compose
from seethink.pocket.build import build
from seethink.pocket.tokens import PREPROCESSOR, make_tokenizer
from seethink.train import grpo, sft
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.model.rescore import rescore
from tests.tiny import plain_policy, stock_log_probs, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Model, pictures and examples."""
    out = tmp_path_factory.mktemp("qwen3")
    tokenizer = make_tokenizer()
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    ids = {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}
    model = tiny_model("3", len(tokenizer), **ids)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(out / "base")
    tokenizer.save_pretrained(out / "base")
    write_json(out / "base" / "preprocessor_config.json", PREPROCESSOR)
    build(out, seed=3, sft=8, rl=0, board=0, ood=0)
    samples = load_samples(out / "sft_pool.jsonl")
    save_examples(out / "sft.jsonl", [Example(s, compose("let me look .", s.gold)) for s in samples])
    return out


@pytest.mark.parametrize("frozen", [True, False])
def test_sft_and_grpo_end_in_a_folder_that_transformers_reads(folder, tmp_path, frozen):
    model = {"path": folder / "base", "dtype": "float32", "freeze_projector": frozen}
    data = folder / "sft.jsonl"
    sft.run(SFTConfig(out=tmp_path / "sft", data=data, model=model, batch_size=8, eval_share=0, optim={"lr": 1e-3}))
    before, after = (load_file(f / "model.safetensors") for f in (folder / "base", tmp_path / "sft" / "model"))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert any("language_model" in name for name in changed)
    assert {n for n in changed if "visual" in n} == {n for n in before if "merger" in n and not frozen}
    grpo.run(
        GRPOConfig(
            out=tmp_path / "grpo", data=data, model={**model, "path": tmp_path / "sft" / "model"}, rounds=1, prompts=4,
            group=2, update_prompts=4, max_tokens=8, reward={"open": {"scorer": "lexical"}},
        )
    )  # fmt: skip
    result = tmp_path / "grpo" / "model"
    policy, stock = plain_policy(result), AutoModelForImageTextToText.from_pretrained(result, dtype=torch.float32)
    with torch.no_grad():
        batch = [sft.encode(policy, example) for example in load_examples(data)]
        ours = torch.cat(rescore(policy, [e.prompt for e in batch], [[e.completion] for e in batch], 1.0, 10_000))
        banned = policy.banned.tolist()
        theirs = torch.cat([stock_log_probs(stock, e.prompt, e.completion, banned=banned) for e in batch])
    assert (ours - theirs).abs().max() < 1e-5


def test_other_families_are_refused(folder, tmp_path):
    for path in (folder / "base").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "model_type": "qwen3_vl_moe"})
    with pytest.raises(UserError, match=r"'qwen3_vl_moe' is not supported. Use Qwen2-VL, Qwen2.5-VL or Qwen3-VL"):
        plain_policy(tmp_path)
