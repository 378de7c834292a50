"""Scorers that are local models: a sentence encoder, and reward models that visit the GPU only to score. They need torch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor, AutoTokenizer

from seethink.core.errors import UserError
from seethink.core.images import open_image
from seethink.rewards.open.formula import OpenItem, Scorer

HD_NUM = 9  # tiles of a picture, as the card of InternLM-XComposer2.5-Reward has it


class Embedding(Scorer):
    """Cosine similarity with the reference by a local sentence encoder (a Hugging Face folder such as MiniLM).

    The cosine of unrelated sentences is well above zero, so it is stretched between two cut points to [0, 1].
    """

    mode = "plain"

    def __init__(self, folder: str, low: float = 0.3, high: float = 0.95):
        self.name, self.version = f"embedding {folder}", f"{low} {high}"
        self._tokenizer, self._model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        self._low, self._high = low, high

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        texts = list(dict.fromkeys(text for item in items for text in (item.answer, item.reference)))
        vectors = dict(zip(texts, self._encode(texts), strict=True))
        cosines = [float(vectors[item.answer] @ vectors[item.reference]) for item in items]
        return [min(1.0, max(0.0, (cosine - self._low) / (self._high - self._low))) for cosine in cosines]

    def close(self) -> None:
        del self._model

    def _encode(self, texts: list[str]) -> torch.Tensor:
        """Unit vectors, mean-pooled over tokens; shape (texts, hidden)."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                part, how = texts[start : start + 64], {"padding": True, "truncation": True, "max_length": 512}
                batch = self._tokenizer(part, return_tensors="pt", **how)
                hidden = self._model(**batch).last_hidden_state  # (B, T, hidden)
                mask = batch["attention_mask"].unsqueeze(-1)
                rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(rows) if rows else torch.empty(0)


class LocalRM(Scorer):
    """A reward model with one output, kept in CPU memory and moved to the GPU only while it scores (paper sec. 4.4).

    `revision` pins remote code; without it none is trusted. The caller frees the policy's memory first. A batch that does
    not fit is halved down to one item; an item that does not fit alone is scored on the CPU.
    """

    mode = "vlaa"

    def __init__(
        self, path: str, revision: str = "", device: str = "", batch: int = 16, log: Callable[..., None] | None = None
    ):
        """`log` takes the seconds and sizes of every use as keywords."""
        trust: dict[str, Any] = {"revision": revision, "trust_remote_code": True} if revision else {}
        self.name, self.version = f"rm {path}", revision or "local"
        self._processor, self._model = self._load(path, trust)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._batch, self._log = batch, log or (lambda **_: None)
        if self._device.startswith("cuda"):
            for tensor in (*self._model.parameters(), *self._model.buffers()):
                tensor.data = tensor.data.pin_memory()

    def _load(self, path: str, trust: dict[str, Any]) -> tuple[Any, Any]:
        model = AutoModelForSequenceClassification.from_pretrained(path, **trust).eval()
        if model.config.num_labels != 1:
            raise UserError(f"a reward model needs one output, this has {model.config.num_labels}", where=path)
        return AutoProcessor.from_pretrained(path, **trust), model

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        scores: list[float | None] = []
        size, halved, seconds = self._batch, 0, 0.0
        with contextlib.suppress(torch.cuda.OutOfMemoryError), self._on_device() as moved:
            seconds = moved
            while len(scores) < len(items):
                part = items[len(scores) : len(scores) + size]
                try:
                    scores += self._forward(part, self._device)
                except torch.cuda.OutOfMemoryError:
                    if size == 1:
                        raise
                    size, halved = max(1, size // 2), halved + 1
        on_cpu = items[len(scores) :]  # the model, or one item, did not fit beside whatever else is on the GPU
        scores += [score for item in on_cpu for score in self._forward([item], "cpu")]
        sizes = {"items": len(items), "halved": halved, "batch": size, "on_cpu": len(on_cpu)}
        self._log(scorer=self.name, transfer_seconds=seconds, **sizes)
        return scores

    def close(self) -> None:
        del self._model

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[float]:
        """The model on the GPU for the length of the block, back whatever happens; yields the seconds of the way there."""
        if self._device == "cpu":
            yield 0.0
            return
        home = {name: tensor.data for name, tensor in self._tensors()}
        start = time.perf_counter()
        try:
            for _, tensor in self._tensors():
                tensor.data = tensor.data.to(self._device, non_blocking=True, copy=True)
            if self._device.startswith("cuda"):
                torch.cuda.synchronize()
            yield time.perf_counter() - start
        finally:
            for name, tensor in self._tensors():
                tensor.data = home[name]  # weights do not change: the CPU copy is still true
            torch.cuda.empty_cache()  # nothing of the visit stays, where the policy needs the memory next

    def _tensors(self) -> list[tuple[str, torch.Tensor]]:
        return [*self._model.named_parameters(), *self._model.named_buffers()]

    def _forward(self, items: Sequence[OpenItem], device: str) -> list[float | None]:
        chats = []
        for item in items:  # pictures only where there are some, so that text-only models work too
            question, answer = item.question, item.answer
            if item.images:
                pictures = [{"type": "image", "image": open_image(path)} for path in item.images]
                question = [*pictures, {"type": "text", "text": question}]
                answer = [{"type": "text", "text": answer}]
            chats.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
        how = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "padding": True}
        inputs = self._processor.apply_chat_template(chats, **how).to(device)
        with torch.inference_mode():
            logits = self._model(**inputs).logits  # (B, 1)
        return [float(value) for value in logits[:, 0].float().cpu()]


class ChatRM(LocalRM):
    """A model with its own code and a method `get_score(chat, images)`: InternLM-XComposer2.5-Reward, the paper's.

    The revision is what its code is trusted by, so it has to be given. One that has `get_scores` is asked in batches, with
    its own tiling of pictures and in fp16 on a GPU, as its card does.
    """

    def _load(self, path: str, trust: dict[str, Any]) -> tuple[Any, Any]:
        model = AutoModel.from_pretrained(path, **trust).eval()
        model.tokenizer = AutoTokenizer.from_pretrained(path, **trust)
        return model.tokenizer, model

    def _forward(self, items: Sequence[OpenItem], device: str) -> list[float | None]:
        chats = [[{"role": "user", "content": i.question}, {"role": "assistant", "content": i.answer}] for i in items]
        images = [list(i.images) for i in items]
        kind = torch.device(device).type
        half = torch.autocast(kind, torch.float16) if kind == "cuda" else contextlib.nullcontext()
        with torch.inference_mode(), half:
            if hasattr(self._model, "get_scores"):
                return [float(score) for score in self._model.get_scores(chats, images, hd_num=HD_NUM)]
            return [float(self._model.get_score(*pair)) for pair in zip(chats, images, strict=True)]
