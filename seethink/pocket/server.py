"""The simulated teacher behind an OpenAI-compatible endpoint on loopback. SIMULATED: rules, no language model.

    seethink pocket teach --world world
    with Teacher(world) as teacher: Endpoint(base_url=teacher.base_url, ...)

Four kinds of model answer by name: pocket-captioner knows the pictures of its world by content hash, pocket-r1-* read
only the prompt, pocket-rewriter turns "the caption" into "the image", pocket-judge says Yes or No. The same request gets
the same answer. Faults (429, 500, hanging, cut replies) come at chosen rates, for the client to survive.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from dataclasses import dataclass
from email.message import Message as Headers
from pathlib import Path
from random import Random
from typing import Any

from seethink.ask.local import Body, LocalServer, Served
from seethink.core.errors import UserError
from seethink.core.images import image_hash
from seethink.core.store import hash_text, load_samples, read_json
from seethink.pocket.captions import read_caption, write_caption
from seethink.pocket.config import TeachConfig
from seethink.pocket.questions import answerable, read
from seethink.pocket.teacher import PERSONAS, reason
from seethink.pocket.world import scene_from_json

CAPTIONER, REWRITER, JUDGE = "pocket-captioner", "pocket-rewriter", "pocket-judge"
POOLS = ("sft_pool.jsonl", "rl_pool.jsonl", "board.jsonl", "old.jsonl")
MODELS = (CAPTIONER, *PERSONAS, REWRITER, JUDGE)
UNKNOWN_IMAGE = "The image shows something that the pocket captioner does not know."
IMAGE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of requests that fail on purpose."""

    too_many: float = 0.0
    """429 with Retry-After."""
    server_error: float = 0.0
    """500."""
    hang: float = 0.0
    """No answer for `hang_seconds`, then a closed connection."""
    cut: float = 0.0
    """The connection closes half way through the reply."""
    hang_seconds: float = 5.0


def run(config: TeachConfig, dry_run: bool = False) -> None:
    """The verb: serve until interrupted. Raises UserError where there is no world or the port is taken."""
    faults = Faults(config.too_many, config.server_error, config.hang, config.cut, config.hang_seconds)
    teacher = Teacher(config.world, config.port, config.seed, faults, config.replay)
    print(f"simulated teacher at {teacher.base_url} with {', '.join(MODELS)}; Ctrl-C stops it", flush=True)
    if dry_run:
        teacher.close()
        return
    with teacher:
        try:
            threading.Event().wait(config.minutes * 60 or None)
        except KeyboardInterrupt:
            print("stopped")
    print(f"{teacher.requests} requests answered")


def know_world(folder: Path) -> dict[str, str]:
    """Captions of every picture of a world folder by image hash. Raises UserError where there is no world."""
    pools = [path for name in POOLS if (path := Path(folder) / name).is_file() and path.stat().st_size]
    if not pools:
        raise UserError("no pocket world here", where=folder, remedy="Make one with seethink pocket build --out")
    samples = [s for pool in pools for s in load_samples(pool)]
    return {image_hash(s.images[0]): write_caption(scene_from_json(s.meta["scene"])) for s in samples}


class Teacher(LocalServer):
    """The server; a context manager. `base_url` ends in /v1."""

    def __init__(
        self, world: Path, port: int = 0, seed: int = 0, faults: Faults | None = None, replay: Path | None = None
    ):
        """`replay` holds published records (question, caption, ds_answer, local_image), repeated word for word."""
        self.seed, self.faults, self.requests = seed, faults or Faults(), 0
        self.captions, self.traces = know_world(world), {}
        for record in read_json(replay) if replay else ():
            if replay and record.get("caption") and record.get("local_image"):
                self.captions[image_hash(str(replay.parent / record["local_image"]))] = record["caption"]
            if record.get("ds_answer"):
                self.traces[record["question"].strip()] = record["ds_answer"]
        self._count = threading.Lock()
        super().__init__(self.answer, MODELS, port, self.faults.hang_seconds)

    def answer(self, body: Body, headers: Headers) -> Served:
        """A word counts as a token, and max_tokens cuts."""
        model, fault = body["model"], self.fault()
        if fault.isdigit():
            return Served(f"simulated fault {fault}", fault)
        if model not in MODELS:
            return Served(f"no model {model!r}; there are {', '.join(MODELS)}", "404")
        try:
            text, image = read_messages(body["messages"])
        except (ValueError, KeyError, TypeError) as error:
            return Served(f"messages cannot be read ({type(error).__name__})", "400")
        words = self.reply(model, text, image).split(" ")
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(words)
        tokens = len(text.split()) + (IMAGE_TOKENS if image else 0), min(len(words), limit)
        return Served(" ".join(words[:limit]), fault or ("length" if len(words) > limit else ""), tokens)

    def reply(self, model: str, text: str, image: bytes | None) -> str:
        """Served of `model` to a prompt text and at most one picture."""
        if model == CAPTIONER:
            digest = hashlib.blake2b(image or b"", digest_size=8).hexdigest()
            return self.captions.get(digest, UNKNOWN_IMAGE)
        if model == REWRITER:
            return rewrite(_between(text, "text"))
        if model == JUDGE:
            return judge(_between(text, "reference"), _between(text, "answer_to_judge"))
        return self._reason(model, text)

    def fault(self) -> str:
        """Which fault, if any, the next request meets, as the server names it. Retries count as new requests."""
        with self._count:
            self.requests += 1
            draw = Random(f"{self.seed}/fault/{self.requests}").random()
        f = self.faults
        for name, rate in (("429", f.too_many), ("500", f.server_error), ("hang", f.hang), ("drop", f.cut)):
            if draw < rate:
                return name
            draw -= rate
        return ""

    def _reason(self, model: str, text: str) -> str:
        question = _between(text, "question")
        if replayed := self.traces.get(question):
            return replayed
        scene, query = read_caption(text), read(question)
        rng = Random(f"{self.seed}/{model}/{hash_text(text)}")
        if scene is None or query is None or not answerable(scene, query):
            guess = "A" if "A)" in question else "0"
            return f"<think>hmm , i cannot see this .</think>\n\n{guess}"
        think, answer = reason(scene, query, PERSONAS[model], rng)
        return f"<think>{think}</think>\n\n{answer}"


def rewrite(text: str) -> str:
    """The same text, speaking of the image."""
    return re.sub(r"\b([Tt])he (?:caption|description)\b", r"\1he image", text)


def judge(reference: str, candidate: str) -> str:
    """Yes or No: the same words in the same order, blanks and capitals aside."""
    return "Yes" if "".join(candidate.split()).lower() == "".join(reference.split()).lower() else "No"


def _between(text: str, tag: str) -> str:
    """What stands between <tag> and </tag>; the whole text where they are missing."""
    found = re.search(rf"<{tag}>\n?(.*)\n?</{tag}>", text, re.DOTALL)
    return (found[1] if found else text).strip()


def read_messages(messages: list[dict[str, Any]]) -> tuple[str, bytes | None]:
    """All text of a chat and its last picture. Raises ValueError for a picture that is not a base64 data URL."""
    texts, image = [], None
    for message in messages:
        content = message["content"]
        parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "text":
                texts.append(part["text"])
            elif part["type"] == "image_url":
                url = part["image_url"]["url"]
                if not url.startswith("data:"):
                    raise ValueError("only data URLs")
                image = base64.b64decode(url.partition(",")[2], validate=True)
    return "\n".join(texts), image
