"""A pass of the language model at the size of a real one, without its memory: how much is kept for backward, in how many kernels.

Tensors have shapes and no values (FakeTensorMode), attention is a stand-in with the inputs and outputs of a fused kernel. What
is counted is what a GPU would be given, by the code that it would run.
"""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from seethink.train.model import flex, layout, prefix
from seethink.train.model.pack import ATTENTION, Pack, hidden_states, pack
from seethink.train.model.policy import EncodedPrompt, narrow

SIZES = {  # hidden, MLP, heads, key heads, whether the head is the embedding
    "3B": (2048, 11008, 16, 2, True),
    "7B": (3584, 18944, 28, 4, False),
}


def model_config(size: str, layers: int) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL of a size with so many language layers, and a vision tower of one."""
    hidden, mlp, heads, key_heads, tied = SIZES[size]
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    text = dict(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, vocab_size=151_936, max_position_embeddings=32_768, rope_parameters=rope,
    )  # fmt: skip
    vision = dict(depth=1, hidden_size=1280, num_heads=16, intermediate_size=3420, out_hidden_size=hidden)
    vision = {**vision, "fullatt_block_indexes": [0]}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


@dataclass
class Pass:
    """`saved` bytes kept for backward beside weights, `copies` of weights in bf16 among what autocast keeps; kernels."""

    tokens: int
    saved: int
    copies: int
    forward: int
    backward: int
    kinds: Counter


class Kernels(TorchDispatchMode):
    """Counts operations that compute; views are free."""

    def __init__(self):
        super().__init__()
        self.kinds: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if not view and "prim" not in str(func):
            self.kinds[str(func)] += 1
        return out


class Live(TorchDispatchMode):
    """Bytes of all tensors alive, those of `models` included, and their highest sum. torch's own MemTracker cannot take frozen weights."""

    def __init__(self, *models: torch.nn.Module):
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.total = self.peak = 0
        for weight in (p for model in models for p in model.parameters()):
            self.add(weight)

    def add(self, tensor) -> None:
        storage = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).untyped_storage()
        if storage._cdata in self.alive and not self.alive[storage._cdata][0].expired():
            return
        self.total += storage.nbytes() - self.alive.get(storage._cdata, (None, 0))[1]
        self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        if self.total > self.peak:  # only now is it worth to see what has gone, or was emptied in its place
            self.alive = {key: (ref, size(ref)) for key, (ref, _) in self.alive.items() if not ref.expired()}
            self.total = sum(n for _, n in self.alive.values())
            self.peak = max(self.peak, self.total)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.add, out)
        return out


def size(ref: StorageWeakRef) -> int:
    """Bytes of a storage now; FSDP empties those it has gathered."""
    storage = torch.UntypedStorage._new_with_weak_ptr(ref.cdata)
    return storage.nbytes() if storage is not None else 0


class Fused(torch.autograd.Function):
    """What a fused attention kernel keeps: q, k, v, its output and one number per row."""

    @staticmethod
    def forward(ctx, q, k, v):
        out = q.new_empty(q.shape)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


def fused(q, k, v, **_):
    return Fused.apply(q, k, v)


def stock_fused(q, k, v, attn_mask=None, **_):
    assert attn_mask is None
    return Fused.apply(*(x.to(torch.bfloat16) for x in (q, k, v)))


@contextmanager
def without_memory():
    """Tensors have no values, and attention is the stand-in."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        for patch in (
            mock.patch.object(flex, "kernel", lambda _: fused),
            mock.patch.object(flex, "mask", lambda *_: None),
            mock.patch.object(prefix, "mask", lambda *_: None),
            mock.patch.object(layout, "DEVICES", {"cpu"}),
            mock.patch.object(prefix, "DEVICES", {"cpu"}),
            mock.patch("torch.nn.functional.scaled_dot_product_attention", stock_fused),
        ):
            stack.enter_context(patch)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def make_pack(P: int, T: int, G: int, prompts: int) -> Pack:
    encoded = [EncodedPrompt(torch.full((P,), 5), torch.arange(P).expand(3, -1), None, None) for _ in range(prompts)]
    return pack(encoded, [[torch.full((T,), 7)] * G] * prompts, 151_655)


def make_model(config, stock: bool = False):
    """In fp32, with our attention or with transformers'."""
    attention = {"": "sdpa", "text_config": "sdpa" if stock else ATTENTION, "vision_config": "sdpa"}
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation=attention)
    model.tie_weights()
    model.model.visual.requires_grad_(False)
    if not stock:
        narrow(model, torch.bfloat16)
    return model


def checkpoint_layers(model) -> None:
    for layer in model.model.language_model.layers[:-1]:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        layer.train()


def rehearse(
    size: str = "3B", layers: int = 4, P: int = 1200, T: int = 300, G: int = 4, prompts: int = 4, stock: bool = False,
    checkpointed: bool = False,
) -> Pass:  # fmt: skip
    """Forward and backward over `prompts` prompts of P tokens with G completions of T; `stock`: by transformers, row by row."""
    packed, kernels, sizes = make_pack(P, T, G, prompts), Kernels(), {}
    with without_memory():
        model = make_model(model_config(size, layers), stock)
        if checkpointed:
            checkpoint_layers(model)
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        shapes = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
        shapes |= {shape[::-1] for shape in shapes}

        def keep(x):
            at = x.untyped_storage()
            if at._cdata not in weights:
                sizes[at._cdata] = (at.nbytes(), tuple(x.shape) in shapes and x.dtype == torch.bfloat16)
            return x

        with kernels:
            with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                states = of_rows(model, prompts * G, P, T) if stock else hidden_states(model, packed, None)
            forward, kinds = sum(kernels.kinds.values()), Counter(kernels.kinds)
            kernels.kinds.clear()
            states.sum().backward()
        backward = sum(kernels.kinds.values())
    copies = sum(n for n, copy in sizes.values() if copy)
    saved = sum(n for n, copy in sizes.values() if not copy)
    tokens = prompts * G * (P + T) if stock else len(packed.ids)
    return Pass(tokens, saved, copies, forward, backward, kinds + kernels.kinds)


def of_rows(model, rows: int, P: int, T: int) -> torch.Tensor:
    """Hidden states of padded rows by transformers' own forward."""
    embeds = model.get_input_embeddings()(torch.full((rows, P + T), 5))
    positions = torch.arange(P + T).expand(3, rows, -1)
    language = model.model.language_model
    hidden = language(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    return hidden[:, P - 1 : -1].flatten(0, 1)
