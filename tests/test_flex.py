"""The GPU's attention, its block mask computed by torch's own reference on a CPU: as exact as the padded views."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.attention import flex_attention

from seethink.train.model import flex, layout
from seethink.train.model.flex import FlexLayout
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import image_features
from seethink.train.model.prefix import FlexContinued
from tests import test_pack, test_prefix, test_turns
from tests.test_pack import completions, packed_log_probs, same_gradients
from tests.tiny import IMAGE, stock_log_probs, tiny_policy, tiny_prompt


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Packs go through FlexAttention, whose reference is told that it may go backward on a CPU and need not be compiled."""
    monkeypatch.setattr(flex, "DEVICES", flex.DEVICES | {"cpu"})
    monkeypatch.setattr(layout, "DEVICES", flex.DEVICES)
    monkeypatch.setattr("seethink.train.model.prefix.DEVICES", flex.DEVICES)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    used = []
    for of in (FlexLayout, FlexContinued):
        plain = of.attend
        monkeypatch.setattr(of, "attend", lambda *a, plain=plain, of=of: used.append(of) or plain(*a))
    with warnings.catch_warnings(action="ignore"):
        yield used


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
@pytest.mark.parametrize("images", [(1, 2, 0, 1), (0, 0, 0, 0)])
def test_log_probs_and_gradients_equal_the_stock_forward(as_on_a_gpu, family, images):
    test_pack.test_log_probs_and_gradients_equal_the_stock_forward(family, images)
    assert FlexLayout in as_on_a_gpu


@pytest.mark.parametrize("family", ["2.5", "3"])
def test_continuing_a_prefix_equals_the_pack(as_on_a_gpu, family):
    test_prefix.test_continuing_a_prefix_equals_the_pack(family)
    assert {*as_on_a_gpu} == {FlexLayout, FlexContinued}


def test_turns_equal_one_pass(as_on_a_gpu):
    test_turns.test_turns_have_the_gradients_and_the_metrics_of_one_pass("2.5", False, 1, test_turns.FULL)
    assert {*as_on_a_gpu} == {FlexLayout, FlexContinued}


def test_more_tokens_than_a_block_of_the_mask(as_on_a_gpu):
    policy, stock = tiny_policy()
    prompts = [tiny_prompt(policy, n, i) for n, i in ((150, 2), (9, 0), (301, 1))]
    groups = completions([[140, 3], [130, 1, 20], [5]])
    with torch.no_grad():
        ours = packed_log_probs(policy, prompts, groups)
        theirs = torch.cat([stock_log_probs(stock, p, c) for p, g in zip(prompts, groups, strict=True) for c in g])
    assert (ours - theirs).abs().max() < 1e-5


def test_blocks_in_which_nobody_sees_anybody_are_left_out(as_on_a_gpu):
    policy, _ = tiny_policy()
    prompts, groups = [tiny_prompt(policy, 512, 0)], completions([[512] * 4])  # 515 prompt tokens, of 2,563 in all
    seen = pack(prompts, groups, IMAGE).layout.every
    computed = 1 - seen.sparsity() / 100
    causal = 0.5 * (1 + 128 / 2563)
    assert computed < 0.75 * causal, "a completion sees its prompt and itself, not the completions before it"


def test_one_completion_a_prompt_is_one_causal_row():
    policy, stock = tiny_policy()
    prompts = [tiny_prompt(policy, n, i) for n, i in ((5, 1), (9, 2), (3, 0))]
    groups = completions([[6], [1], [9]])
    packed = pack(prompts, groups, IMAGE)
    assert isinstance(packed.layout, layout.CausalRows)
    ours = packed_log_probs(policy, prompts, groups)
    theirs = torch.cat([stock_log_probs(stock, p, g[0]) for p, g in zip(prompts, groups, strict=True)])
    same_gradients(policy, ours, stock, theirs)


def test_keys_have_the_precision_of_values():
    """Rotary positions leave q and k in fp32 where everything else is bf16: a cache would be twice as large for nothing."""
    policy, _ = tiny_policy()
    policy.dtype = torch.bfloat16
    seen = set()

    class Spy:
        def attend(self, layer, q, k, v, scale):
            seen.add((k.dtype, v.dtype))
            return q.transpose(0, 1).to(v.dtype)

    packed = pack([tiny_prompt(policy, 5)], completions([[4]]), IMAGE)
    packed.__dict__["layout"] = Spy()
    with policy.autocast(), torch.no_grad():
        hidden_states(policy.model, packed, image_features(policy, [tiny_prompt(policy, 5)]))
    assert seen == {(torch.bfloat16, torch.bfloat16)}


@pytest.mark.parametrize("read", [False, True])
def test_blocks_are_those_that_torch_finds_by_trying_every_pair(read):
    spans = layout.Spans((300, 20, 128), ((129, 5, 260), (), (128,)))
    sight = spans.sight()
    rows = torch.arange(3, len(sight.own), 7) if read else torch.arange(len(sight.own))
    queries, keys = sight.at(rows), len(sight.own)
    ours = flex.mask(queries, keys)
    theirs = flex_attention.create_block_mask(ours.mask_mod, None, None, len(rows), keys, device="cpu")
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    owner, own = [], []  # the same, said token by token
    for b, (prompt, group) in enumerate(zip(spans.prompts, spans.completions, strict=True)):
        for g, t in enumerate((prompt, *group)):
            owner += [b] * t
            own += [g] * t
    owner, own, place = torch.tensor(owner), torch.tensor(own), torch.arange(keys)
    shared = (own == 0) | (own == own[rows, None])
    seen = ours.mask_mod(0, 0, torch.arange(len(rows))[:, None], place)
    assert torch.equal(seen, (owner == owner[rows, None]) & shared & (place <= rows[:, None]))
