"""LoRA: switched off it is the reference, merged it is a plain model that transformers loads."""

from __future__ import annotations

import torch

from seethink.train.config import ModelConfig
from seethink.train.grpo import reference_model
from seethink.train.model.lora import full_weights, without_lora
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import image_features, make_trainable
from tests.tiny import IMAGE, tiny_model, tiny_policy, tiny_prompt


def hidden(policy, prompt):
    packed = pack([prompt], [[torch.tensor([5, 6, 7])]], IMAGE)
    return hidden_states(policy.model, packed, image_features(policy, [prompt]))


def test_adapters_train_alone_and_switch_off():
    policy, _ = tiny_policy()
    prompt = tiny_prompt(policy, 5)
    before = hidden(policy, prompt).detach()
    make_trainable(policy, ModelConfig(path=".", lora_rank=4))
    assert torch.allclose(hidden(policy, prompt), before, atol=1e-6), "a fresh adapter changes nothing"
    trainable = [n for n, p in policy.model.named_parameters() if p.requires_grad]
    assert len(trainable) == 2 * 7 * 2 and all("lora_" in n for n in trainable)
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.normal_()
    changed = hidden(policy, prompt).detach()
    assert not torch.allclose(changed, before, atol=1e-3)
    with without_lora(reference_model(policy)):
        assert torch.allclose(hidden(policy, prompt), before, atol=1e-6)
    assert torch.equal(hidden(policy, prompt), changed)


def test_full_weights_are_those_of_a_plain_model():
    policy, _ = tiny_policy()
    make_trainable(policy, ModelConfig(path=".", lora_rank=4))
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    prompt = tiny_prompt(policy, 5)
    changed = hidden(policy, prompt)
    plain, _ = tiny_policy()
    weights = dict(full_weights(policy.model))
    assert set(weights) == {n for n, _ in tiny_model().named_parameters()}
    plain.model.load_state_dict(weights, strict=False)  # the head is the embedding
    assert torch.allclose(hidden(plain, prompt), changed, atol=1e-4)
    assert torch.allclose(hidden(policy, prompt), changed, atol=1e-4), "merging leaves the model as it was"
