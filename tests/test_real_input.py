"""The five published records with the real Qwen tokenizer, chat template and image settings, at their real size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from seethink.core.nouns import Example
from seethink.core.store import load_samples, save_examples
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.model.policy import encode_prompt, image_features
from seethink.train.rollout.sampler import LocalSampler
from tests.tiny import plain_policy

SYSTEM = "You are VL-Thinking. First think in <think> </think>, then answer in <answer> </answer>."


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory) -> Path:
    """Random-weight Qwen2.5-VL of real vocabulary (151,936) and real image settings, in a plain Hugging Face folder."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("qwen")
    text = dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=151_936, rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        max_position_embeddings=32_768, bos_token_id=151_643, eos_token_id=151_645, pad_token_id=151_643,
    )  # fmt: skip
    vision = dict(
        depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=64, fullatt_block_indexes=[1]
    )
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, image_token_id=151_655,
        video_token_id=151_656, vision_start_token_id=151_652, vision_end_token_id=151_653,
    )  # fmt: skip
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.json", "preprocessor_config.json"):
        shutil.copyfile(shared / "tokenizer" / name, out / name)
    return out


@pytest.fixture(scope="module")
def samples(shared: Path) -> list:
    from seethink.data.sources.paper import read as load_paper

    return load_paper(shared / "data" / "vlaa_examples" / "data.json", shared / "data" / "vlaa_examples")


def test_records_become_samples_of_the_right_kind(samples):
    assert [s.kind for s in samples] == ["digit", "choice", "math", "choice", "open"]


def test_prompts_hold_one_id_per_image_token(folder, samples):
    policy = plain_policy(folder, SYSTEM)
    for sample in samples:
        prompt = encode_prompt(policy, sample)
        assert int((prompt.ids == policy.image_token).sum()) == int(prompt.grids.prod(1).sum()) // 4
        assert len(image_features(policy, [prompt])) == int((prompt.ids == policy.image_token).sum())


def test_rollouts_on_real_images(folder, samples):
    policy = plain_policy(folder, SYSTEM)
    prompts = [encode_prompt(policy, s) for s in samples]
    groups = LocalSampler(policy).rollout(prompts, 2, 8, 1.0, seed=0)
    assert [len(g) for g in groups] == [2] * 5
    assert not torch.isin(torch.cat([c.ids for g in groups for c in g]), policy.banned).any()


def test_sft_and_grpo_steps_on_real_images(folder, samples, tmp_path):
    from seethink.train import grpo, sft

    records = {s.id: s for s in samples}
    examples = [Example(s, "<think>so</think>\n<answer>" + s.gold + "</answer>") for s in records.values()]
    save_examples(tmp_path / "sft.jsonl", examples)
    model = {"path": folder, "system": SYSTEM}
    sft.run(SFTConfig(out=tmp_path / "sft", data=tmp_path / "sft.jsonl", model=model, batch_size=5, eval_share=0))
    done = json.loads((tmp_path / "sft" / "done.json").read_text())["summary"]
    assert done["optimiser_steps"] == 1 and done["tokens_trained"] > 0
    rl = [s for s in load_samples(tmp_path / "sft.jsonl") if s.kind != "open"]
    assert len(rl) == 4
    model["path"] = tmp_path / "sft" / "model"
    config = GRPOConfig(
        out=tmp_path / "grpo", data=tmp_path / "sft.jsonl", model=model, rounds=1, prompts=5, group=2, update_prompts=5,
        max_tokens=8, reward={"open": {"scorer": "lexical"}},
    )  # fmt: skip
    grpo.run(config)
    assert (tmp_path / "grpo" / "model" / "model.safetensors").is_file()
