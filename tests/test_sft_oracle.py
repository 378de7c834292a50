"""SFT against transformers: loss and gradient of a packed, accumulated step are those of one plain forward per example."""

from __future__ import annotations

import pytest
import torch

from seethink.train.model.policy import EncodedPrompt
from seethink.train.sft import Encoded, backward, evaluate
from tests.tiny import tiny_policy, tiny_prompt

PROMPTS = ((5, 1), (9, 2), (3, 0), (4, 1), (7, 0))  # text tokens, images
LENGTHS = (7, 1, 12, 3, 5)  # so uneven that a mean of means would show
WHOLE = 10**6


def examples(policy) -> list[Encoded]:
    g = torch.Generator().manual_seed(1)
    return [
        Encoded(tiny_prompt(policy, text, images), torch.randint(3, 100, (length,), generator=g))
        for (text, images), length in zip(PROMPTS, LENGTHS, strict=True)
    ]


def stock_loss(stock, prompt: EncodedPrompt, completion: torch.Tensor) -> torch.Tensor:
    """transformers' own loss of one example: the mean negative log-likelihood of the labels, which are the completion."""
    ids = torch.cat([prompt.ids, completion])[None]
    labels = ids.clone()
    labels[:, : len(prompt.ids)] = -100
    vision = {}
    if prompt.pixels is not None:
        types = (ids == stock.config.image_token_id).int()
        vision = dict(pixel_values=prompt.pixels, image_grid_thw=prompt.grids, mm_token_type_ids=types)
    return stock(input_ids=ids, labels=labels, **vision).loss


def plain_step(stock, batch: list[Encoded], scale: float = 1.0) -> float:
    """Gradients of the token mean over the whole batch, an example at a time."""
    total = sum(len(e.completion) for e in batch)
    loss = 0.0
    for example in batch:
        part = stock_loss(stock, example.prompt, example.completion) * len(example.completion) / total
        (scale * part).backward()
        loss += float(part.detach())
    return loss


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
@pytest.mark.parametrize(("budget", "scale"), [(1, 1.0), (40, 1.0), (WHOLE, 1.0), (40, 0.3)])
@pytest.mark.parametrize("trainable_vision", [True, False])
def test_a_step_equals_one_plain_forward_per_example(family, budget, scale, trainable_vision):
    policy, stock = tiny_policy(family, trainable_vision)
    batch = examples(policy)
    ours, theirs = backward(policy, batch, budget, scale), plain_step(stock, batch, scale)
    assert ours == pytest.approx(theirs, abs=1e-5)
    compared = 0
    for (name, a), b in zip(policy.model.named_parameters(), stock.parameters(), strict=True):
        if not a.requires_grad or b.grad is None or not b.grad.norm():
            assert a.grad is None or not a.grad.norm(), name
            continue
        assert (a.grad - b.grad).norm() / b.grad.norm() < 1e-5, name
        compared += 1
    assert compared > 20


def test_the_held_out_loss_is_the_loss_that_is_trained(monkeypatch):
    policy, stock = tiny_policy()
    batch = examples(policy)
    monkeypatch.setattr("seethink.train.sft.encode", lambda _, example: example)
    with torch.no_grad():
        theirs = sum(float(stock_loss(stock, e.prompt, e.completion)) * len(e.completion) for e in batch) / sum(LENGTHS)
    assert evaluate(policy, batch, 40) == pytest.approx(theirs, abs=1e-5)
