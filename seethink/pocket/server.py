"""The simulated teacher behind an OpenAI-compatible endpoint on loopback. SIMULATED: rules, no language model.

    with Teacher(world, port=0) as teacher: Client(teacher.base_url, ...)

Four kinds of model answer by name: pocket-captioner knows the pictures of its world by content hash, pocket-r1-* read
only the prompt, pocket-rewriter turns "the caption" into "the image", pocket-judge says Yes or No. The same request gets
the same answer. Faults (429, 500, hanging, cut replies) come at chosen rates, for the client to survive.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from seethink.core.errors import UserError
from seethink.core.images import image_hash
from seethink.core.store import hash_text, load_samples, read_json
from seethink.pocket.captions import read_caption, write_caption
from seethink.pocket.questions import answerable, read
from seethink.pocket.teacher import PERSONAS, reason
from seethink.pocket.world import scene_from_json

CAPTIONER, REWRITER, JUDGE = "pocket-captioner", "pocket-rewriter", "pocket-judge"
POOLS = ("sft_pool.jsonl", "rl_pool.jsonl", "board.jsonl")
MODELS = (CAPTIONER, *PERSONAS, REWRITER, JUDGE)
UNKNOWN_IMAGE = "The image shows something that the pocket captioner does not know."
IMAGE_TOKENS = 16
MAX_BODY = 50_000_000
OPEN_AGREES = 0.8  # token F1 from which the judge accepts a description


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
    """Half of the reply's bytes."""
    hang_seconds: float = 5.0

    def rates(self) -> dict[str, float]:
        return {"too_many": self.too_many, "server_error": self.server_error, "hang": self.hang, "cut": self.cut}


@dataclass
class Knowledge:
    """What the teacher may know: captions by image hash, replayed traces by question."""

    captions: dict[str, str] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)


def know_world(folder: Path) -> Knowledge:
    """Captions of every picture of a world folder. Raises UserError where there is no world."""
    pools = [path for name in POOLS if (path := Path(folder) / name).is_file()]
    if not pools:
        raise UserError("no pocket world here", where=folder, remedy="Make one with seethink pocket build --out")
    samples = [s for pool in pools for s in load_samples(pool)]
    return Knowledge({image_hash(s.images[0]): write_caption(scene_from_json(s.meta["scene"])) for s in samples})


def know_records(path: Path) -> Knowledge:
    """Published records (question, caption, ds_answer, local_image) to be replayed word for word."""
    knowledge = Knowledge()
    for record in read_json(path):
        if record.get("caption") and record.get("local_image"):
            knowledge.captions[image_hash(str(Path(path).parent / record["local_image"]))] = record["caption"]
        if record.get("ds_answer"):
            knowledge.traces[record["question"].strip()] = record["ds_answer"]
    return knowledge


class Teacher:
    """The server; a context manager. `base_url` ends in /v1."""

    def __init__(
        self, world: Path, port: int = 0, seed: int = 0, faults: Faults | None = None, replay: Path | None = None
    ):
        self.knowledge, self.seed, self.faults = know_world(world), seed, faults or Faults()
        if replay:
            records = know_records(replay)
            self.knowledge.captions |= records.captions
            self.knowledge.traces |= records.traces
        self.requests = 0
        self._count = threading.Lock()
        self._closing = threading.Event()
        try:
            self._server = _Server(("127.0.0.1", port), _Handler, self)
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror})", remedy="Give --port 0 for a free one"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Teacher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Release the port of a teacher that was never entered."""
        self._server.server_close()

    def reply(self, model: str, text: str, image: bytes | None) -> str:
        """Answer of `model` to a prompt text and at most one picture."""
        if model == CAPTIONER:
            digest = hashlib.blake2b(image or b"", digest_size=8).hexdigest()
            return self.knowledge.captions.get(digest, UNKNOWN_IMAGE)
        if model == REWRITER:
            return rewrite(_between(text, "text"))
        if model == JUDGE:
            return judge(_between(text, "question"), _between(text, "reference"), _between(text, "answer_to_judge"))
        return self._reason(model, text)

    def fault(self) -> str:
        """Which fault, if any, the next request meets. Retries count as new requests."""
        with self._count:
            self.requests += 1
            draw = Random(f"{self.seed}/fault/{self.requests}").random()
        for name, rate in self.faults.rates().items():
            if draw < rate:
                return name
            draw -= rate
        return ""

    def wait(self, seconds: float) -> None:
        """Sleep that ends when the server closes."""
        self._closing.wait(seconds)

    def _reason(self, model: str, text: str) -> str:
        question = _between(text, "question")
        if replayed := self.knowledge.traces.get(question):
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


def judge(question: str, reference: str, candidate: str) -> str:
    """Yes or No: the same words in the same order; for descriptions, most of the same words."""
    said, true = candidate.split(), reference.split()
    query = read(question)
    if query and query.task == "describe":
        shared = sum((Counter(said) & Counter(true)).values())
        return "Yes" if 2 * shared >= OPEN_AGREES * (len(said) + len(true)) else "No"
    return "Yes" if "".join(said).lower() == "".join(true).lower() else "No"


def _between(text: str, tag: str) -> str:
    """What stands between <tag> and </tag>; the whole text where they are missing."""
    found = re.search(rf"<{tag}>\n?(.*)\n?</{tag}>", text, re.DOTALL)
    return (found[1] if found else text).strip()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], teacher: Teacher):
        self.teacher = teacher
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own business; anything else is printed by the base class."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def do_GET(self) -> None:
        if self.path.rstrip("/") != "/v1/models":
            return self._error(404, f"no such path {self.path}")
        rows = [{"id": name, "object": "model", "owned_by": "simulated"} for name in MODELS]
        self._send(200, {"object": "list", "data": rows})

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY))
        if self.path.rstrip("/") != "/v1/chat/completions":
            return self._error(404, f"no such path {self.path}")
        fault = self.server.teacher.fault()
        if fault == "hang":
            self.server.teacher.wait(self.server.teacher.faults.hang_seconds)
            self.close_connection = True
            return None
        if fault:
            status = {"too_many": 429, "server_error": 500}.get(fault)
            if status:
                return self._error(status, f"simulated fault {fault}", {"Retry-After": "0.05"} if status == 429 else {})
        try:
            request = json.loads(body)
            model, (text, image) = request["model"], read_messages(request["messages"])
        except (ValueError, KeyError, TypeError) as error:
            return self._error(400, f"request cannot be read ({type(error).__name__})")
        if model not in MODELS:
            return self._error(404, f"no model {model!r}; there are {', '.join(MODELS)}")
        answer = self.server.teacher.reply(model, text, image)
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        return self._send(200, completion(model, text, image, answer, limit), cut=fault == "cut")

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "type": "simulated", "code": status}}, headers)

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection |= cut

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: prompts and headers belong in no log."""


def read_messages(messages: list[dict[str, Any]]) -> tuple[str, bytes | None]:
    """All text of a chat and its last picture. Raises ValueError for a picture that is not a base64 data URL."""
    texts, image = [], None
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                texts.append(part["text"])
            elif part["type"] == "image_url":
                url = part["image_url"]["url"]
                if not url.startswith("data:"):
                    raise ValueError("only data URLs")
                image = base64.b64decode(url.partition(",")[2], validate=True)
    return "\n".join(texts), image


def completion(model: str, prompt: str, image: bytes | None, answer: str, limit: int | None) -> dict[str, Any]:
    """A chat completion; a word counts as a token, and `limit` cuts."""
    words = answer.split(" ")
    stop = "length" if limit and len(words) > limit else "stop"
    text = " ".join(words[:limit]) if stop == "length" else answer
    asked = len(prompt.split()) + (IMAGE_TOKENS if image else 0)
    said = min(len(words), limit or len(words))
    return {
        "id": f"simulated-{hash_text(model, prompt)}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": stop}],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }
