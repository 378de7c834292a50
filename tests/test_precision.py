"""Frozen weights in bf16: less memory, and not one bit of the result changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seethink.train.config import ModelConfig
from seethink.train.model.lora import full_weights
from seethink.train.model.policy import make_trainable, narrow, slim
from seethink.train.update import reference_model
from tests.test_pack import completions, packed_log_probs
from tests.tiny import tiny_policy, tiny_prompt

CHOICES = {"lora": {"lora_rank": 4}, "vision frozen": {}, "all": {"freeze_vision": False, "freeze_projector": False}}


def bf16_policy(choice: dict, round_first: bool = True):
    """A policy that computes in bf16, its weights as a checkpoint in bf16 has them."""
    policy, _ = tiny_policy()
    with torch.no_grad():
        for weight in policy.model.parameters() if round_first else ():
            weight.copy_(weight.bfloat16())
    make_trainable(policy, ModelConfig(path=".", **choice))  # before `dtype`, so that nothing is held in bf16 yet
    policy.dtype = torch.bfloat16
    return policy


def passed(policy) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    with policy.autocast():
        log_probs = packed_log_probs(
            policy, [tiny_prompt(policy, 5, 2), tiny_prompt(policy, 9, 0)], completions([[4, 6], [3]])
        )
    log_probs.sum().backward()
    return log_probs.detach(), {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}


def held(model: nn.Module) -> set[torch.dtype]:
    """Precisions of frozen linear layers; the head is the embedding."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and m is not model.lm_head]
    return {m.weight.dtype for m in layers if not m.weight.requires_grad}


@pytest.mark.parametrize("choice", CHOICES)
def test_no_bit_of_log_probs_and_gradients_changes(choice):
    plain, thin = bf16_policy(CHOICES[choice]), bf16_policy(CHOICES[choice])
    slim(thin, thin.model)
    if choice == "all":
        assert not held(thin.model), "what trains stays in fp32"
    else:
        assert held(plain.model) == {torch.float32} and held(thin.model) == {torch.bfloat16}
    (a, of_plain), (b, of_thin) = passed(plain), passed(thin)
    assert torch.equal(a, b) and of_plain.keys() == of_thin.keys()
    assert all(torch.equal(g, of_thin[n]) and g.dtype == torch.float32 for n, g in of_plain.items())


@pytest.mark.parametrize("choice", ["lora", "all"])
def test_norms_that_cast_once_change_no_log_prob_and_only_round_gradients_otherwise(choice):
    plain, cast = bf16_policy(CHOICES[choice]), bf16_policy(CHOICES[choice])
    narrow(cast.model, cast.dtype)
    exact = bf16_policy(CHOICES[choice])
    exact.dtype = torch.float32
    (a, of_plain), (b, of_cast), (_, of_exact) = (passed(p) for p in (plain, cast, exact))
    assert torch.equal(a, b) and of_plain.keys() == of_cast.keys() == of_exact.keys()
    gaps = [[(g[n] - of_exact[n]).norm() for n in of_exact] for g in (of_plain, of_cast)]
    assert sum(gaps[1]) < 1.2 * sum(gaps[0]), "no further from fp32 than autocast is"


def test_a_reference_takes_half_the_memory_and_says_the_same():
    policy = bf16_policy(CHOICES["vision frozen"])
    reference = reference_model(policy)
    assert held(reference) == {torch.bfloat16}
    ours, _ = passed(policy)
    policy.model = reference
    with torch.no_grad(), policy.autocast():
        theirs = packed_log_probs(
            policy, [tiny_prompt(policy, 5, 2), tiny_prompt(policy, 9, 0)], completions([[4, 6], [3]])
        )
    assert torch.equal(ours, theirs)


def test_weights_with_more_digits_stay_as_they_are():
    policy = bf16_policy(CHOICES["lora"], round_first=False)
    before = {n: w.clone() for n, w in full_weights(policy.model)}
    slim(policy, policy.model)
    assert held(policy.model) == {torch.float32}
    assert all(torch.equal(w, before[n]) for n, w in full_weights(policy.model))


def test_the_embedding_stays_where_it_is_the_head():
    policy = bf16_policy(CHOICES["lora"])
    slim(policy, policy.model)
    model = policy.model
    assert model.lm_head.weight is model.get_input_embeddings().weight and model.lm_head.weight.dtype == torch.float32
