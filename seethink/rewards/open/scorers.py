"""Scorers that need no network: token overlap, embeddings, a local reward model; and a cache around any of them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seethink.core.errors import UserError
from seethink.core.images import image_hash, open_image
from seethink.core.store import hash_text
from seethink.rewards.open.formula import OpenItem, Scorer

if TYPE_CHECKING:
    import torch


class Lexical:
    """Token F1 with the reference, as in reading comprehension: deterministic, and blind to meaning."""

    name, version, mode = "lexical", "1", "plain"

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        return [token_f1(item.answer, item.reference) for item in items]

    def close(self) -> None:
        """Nothing to release."""


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, case and punctuation aside, in [0, 1]."""
    one, other = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, reference))
    shared = sum((one & other).values())
    return 2 * shared / (one.total() + other.total()) if shared else 0.0


class Embedding:
    """Cosine similarity with the reference by a local sentence encoder (a Hugging Face folder such as MiniLM).

    The cosine of unrelated sentences is well above zero, so it is stretched between two cut points to [0, 1].
    """

    mode = "plain"

    def __init__(self, folder: str, low: float = 0.3, high: float = 0.95):
        from transformers import AutoModel, AutoTokenizer

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
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                batch = self._tokenizer(
                    texts[start : start + 64], return_tensors="pt", padding=True, truncation=True, max_length=512
                )
                hidden = self._model(**batch).last_hidden_state  # (B, T, hidden)
                mask = batch["attention_mask"].unsqueeze(-1)
                rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(rows) if rows else torch.empty(0)


class LocalRM:
    """A reward model with one output, kept in CPU memory and moved to the GPU only while it scores (paper sec. 4.4).

    `revision` pins remote code; without it none is trusted. The caller frees the policy's memory first. A batch that does
    not fit is halved down to one item; an item that does not fit alone is scored on the CPU.
    """

    mode = "vlaa"

    def __init__(
        self, path: str, revision: str = "", device: str = "", batch: int = 16, log: Callable[..., None] | None = None
    ):
        """`log` takes the seconds and sizes of every use as keywords."""
        import torch

        trust: dict[str, Any] = {"revision": revision, "trust_remote_code": True} if revision else {}
        self.name, self.version = f"rm {path}", revision or "local"
        self._processor, self._model = self._load(path, trust)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._batch, self._log = batch, log or (lambda **_: None)
        if self._device.startswith("cuda"):
            for tensor in (*self._model.parameters(), *self._model.buffers()):
                tensor.data = tensor.data.pin_memory()

    def _load(self, path: str, trust: dict[str, Any]) -> tuple[Any, Any]:
        from transformers import AutoModelForSequenceClassification, AutoProcessor

        model = AutoModelForSequenceClassification.from_pretrained(path, **trust).eval()
        if model.config.num_labels != 1:
            raise UserError(f"a reward model needs one output, this has {model.config.num_labels}", where=path)
        return AutoProcessor.from_pretrained(path, **trust), model

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        import torch

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
        self._log(
            scorer=self.name, items=len(items), transfer_seconds=seconds, halved=halved, batch=size, on_cpu=len(on_cpu)
        )
        return scores

    def close(self) -> None:
        del self._model

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[float]:
        """The model on the GPU for the length of the block; back in (pinned) CPU memory whatever happens.

        Yields the seconds that the way there took.
        """
        import torch

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
        import torch

        chats = [_chat(item) for item in items]
        inputs = self._processor.apply_chat_template(
            chats, tokenize=True, return_dict=True, return_tensors="pt", padding=True
        ).to(device)
        with torch.inference_mode():
            logits = self._model(**inputs).logits  # (B, 1)
        return [float(value) for value in logits[:, 0].float().cpu()]


class ChatRM(LocalRM):
    """A reward model that brings its own code and a method `get_score(chat, images)`: InternLM-XComposer2.5-Reward, the
    paper's. The revision is what its code is trusted by, so it has to be given."""

    def _load(self, path: str, trust: dict[str, Any]) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        if not trust:
            raise UserError(
                "a model with its own code needs a pinned revision", where=path, remedy="Give --reward.scorer_revision"
            )
        model = AutoModel.from_pretrained(path, **trust).eval()
        model.tokenizer = AutoTokenizer.from_pretrained(path, **trust)
        return model.tokenizer, model

    def _forward(self, items: Sequence[OpenItem], device: str) -> list[float | None]:
        import torch

        chats = [[{"role": "user", "content": i.question}, {"role": "assistant", "content": i.answer}] for i in items]
        with torch.inference_mode():
            return [float(self._model.get_score(chat, list(i.images))) for chat, i in zip(chats, items, strict=True)]


class Cached:
    """A scorer that remembers: in memory, and in an SQLite file where one is given.

    The key holds the scorer's name and version, the texts and the bytes of the images, so nothing stale is ever served.
    """

    def __init__(self, scorer: Scorer, path: Path | None = None):
        self.name, self.version, self.mode = scorer.name, scorer.version, scorer.mode
        self._scorer = scorer
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=60)
        self._db.execute("create table if not exists scores (key text primary key, score real not null) without rowid")
        self._writing = threading.Lock()
        self.hits = 0

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        keys = [self._key(item) for item in items]
        known = {key: score for key in keys if (score := self._find(key)) is not None}
        self.hits += sum(key in known for key in keys)
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        scores = self._scorer.score_batch(list(new.values())) if new else []
        found = {key: score for key, score in zip(new, scores, strict=True) if score is not None}
        with self._writing:
            self._db.execute("begin")  # all or none, so that a killed run asks in the same batches again
            self._db.executemany("insert or replace into scores values (?, ?)", found.items())
            self._db.execute("commit")
        known |= found
        return [known.get(key) for key in keys]

    def close(self) -> None:
        self._scorer.close()
        self._db.close()

    def _key(self, item: OpenItem) -> str:
        pictures = [image_hash(path) for path in item.images]
        return hash_text(self.name, self.version, item.question, item.answer, item.reference, *pictures)

    def _find(self, key: str) -> float | None:
        row = self._db.execute("select score from scores where key = ?", (key,)).fetchone()
        return row[0] if row else None


def _chat(item: OpenItem) -> list[dict[str, Any]]:
    """Question and answer as a chat; pictures only where there are some, so that text-only models work too."""
    if not item.images:
        return [{"role": "user", "content": item.question}, {"role": "assistant", "content": item.answer}]
    pictures = [{"type": "image", "image": open_image(path)} for path in item.images]
    return [
        {"role": "user", "content": [*pictures, {"type": "text", "text": item.question}]},
        {"role": "assistant", "content": [{"type": "text", "text": item.answer}]},
    ]
