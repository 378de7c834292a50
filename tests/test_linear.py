"""oneDNN's linear layers against torch's own, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from seethink.train.model import linear as linear_module
from seethink.train.model.linear import linear, use_onednn


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(linear_module, "SMALL", 0)


@pytest.mark.parametrize("shape", [(5, 37), (1, 9, 37), (2, 3, 4, 37)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_equal_torch(shape, bias):
    torch.manual_seed(0)
    layer, plain = nn.Linear(37, 20, bias=bias), nn.Linear(37, 20, bias=bias)
    plain.load_state_dict(layer.state_dict())
    use_onednn(layer)
    inputs = [torch.randn(shape).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    outputs = [m(x) for m, x in zip((layer, plain), inputs, strict=True)]
    assert torch.allclose(*outputs, atol=1e-5)
    weight = torch.randn_like(outputs[0])
    for out in outputs:
        (out * weight).sum().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-5)
    for a, b in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-4)


def test_it_is_oneDNN_that_computes_and_only_plain_fp32(monkeypatch):
    calls = []
    plain = linear_module._product
    monkeypatch.setattr(linear_module, "_helps", lambda: True)
    monkeypatch.setattr(linear_module, "_product", lambda *a: calls.append(1) or plain(*a))
    x, w = torch.randn(8, 16), torch.randn(4, 16, requires_grad=True)
    linear(x, w).sum().backward()
    assert len(calls) == 2, "forward and the weight's gradient; x needs none"
    linear(x.double(), w.detach().double())
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, w).dtype == torch.bfloat16
    assert len(calls) == 2


def test_strided_inputs_and_frozen_weights():
    x, w = torch.randn(16, 7, 3).transpose(0, 2), torch.randn(4, 16)
    x.requires_grad_()
    linear(x, w).sum().backward()
    assert torch.allclose(x.grad, w.sum(0).expand(3, 7, 16), atol=1e-5)


def test_a_copied_model_computes_with_its_own_weights():
    layer = nn.Linear(16, 4)
    use_onednn(layer)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.zero_()
        twin.bias.zero_()
    x = torch.randn(8, 16)
    assert not twin(x).any() and layer(x).any()
