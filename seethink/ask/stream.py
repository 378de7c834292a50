"""A streamed answer: server-sent events as they arrive, put together to the chat completion that they are pieces of.

A long answer without a sign of life is cut by gateways, so reasoning is streamed. Events are read by hand, which costs a
few microseconds a chunk. What an answer is, and what is wrong with one, stays in `body`.
"""

from __future__ import annotations

from typing import Any

from seethink.ask.body import REASONING, name_body, parse, read_completion
from seethink.ask.faults import Fault, Words, error_words, status_fault
from seethink.ask.ledger import Reply

KEPT = frozenset(("content", "refusal", *REASONING))
"""Fields of a delta that make the message."""
BYTES_OBJECT = 40  # memory of a line beside its bytes
OVERHEAD = 10
"""Times that a stream may be larger than the answer in it: a token comes in some hundred bytes."""


class EventStream:
    """Takes the bytes of a response as they come, cut anywhere. Raises Fault for what cannot become an answer."""

    def __init__(self, most: int):
        """`most` bounds the answer, in characters, and each line, in bytes."""
        self.done = False
        """The endpoint said that nothing more comes."""
        self.ended = False
        """The answer is whole; its token counts may still come."""
        self._most, self._bytes, self._characters = most, 0, 0
        self._rest = bytearray()  # a line that has not ended
        self._data: list[bytes] = []  # lines of an event that has not ended
        self._held = 0  # memory of them
        self._parts: dict[str, list[Any]] = {}
        self._choice: dict[str, Any] = {}
        self._top: dict[str, Any] = {}
        self._head = b""  # for the words about a stream that is none

    @property
    def begun(self) -> bool:
        return self._bytes > 0

    def feed(self, part: bytes) -> None:
        """Lines end in LF, CRLF or CR. A CR at the end of what has come may be half of a CRLF, so it waits."""
        self._bytes += len(part)
        if self._bytes > OVERHEAD * self._most:
            raise self._too_large()
        alone = not (self._rest or self._data) and part.startswith(b"data:") and part.endswith(b"\n\n")
        if alone and part.find(b"\n") == len(part) - 2 and b"\r" not in part:  # as nearly all come: one event, whole
            return self._event(part[5:])
        if len(self._head) < 200:
            self._head += part[:200]
        if part.rfind(b"\n") < 0 and part.rfind(b"\r", 0, -1) < 0 and not self._rest.endswith(b"\r"):
            self._rest += part
            if len(self._rest) > self._most:
                raise self._too_large()
            return
        text = bytes(self._rest) + part if self._rest else part
        end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1
        self._rest = bytearray(text[end:])
        for line in text[:end].splitlines():
            self._line(line)

    def end(self, seconds: float, estimate: int) -> Reply:
        """The answer, once the connection has closed or enough has come; `estimate` as in `read_completion`."""
        for line in (*bytes(self._rest).splitlines(), b""):
            self._line(line, last=True)
        if not self._top and not self._choice and not self.done:
            name, what = name_body(self._head.decode("utf-8", "replace"))
            what = "an empty stream" if what == "an event stream" else what
            raise Fault(name, f"{what} came where a stream was due", 200, billed="HTML" not in what)
        if not self.ended:
            raise self._cut()
        message = {
            name: "".join(parts) if all(isinstance(part, str) for part in parts) else parts
            for name, parts in self._parts.items()
        }
        return read_completion({**self._top, "choices": [{**self._choice, "message": message}]}, seconds, estimate)

    def _line(self, line: bytes, last: bool = False) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:])
            self._held += len(line) + BYTES_OBJECT
            if self._held > self._most:
                raise self._too_large()
        elif not line and self._data:  # other fields, and comments that keep a connection alive, say nothing of use
            data, self._data, self._held = b"\n".join(self._data), [], 0
            self._event(data, last)

    def _event(self, data: bytes, last: bool = False) -> None:
        data = data.strip()
        if data == b"[DONE]":
            self.done = self.ended = True
        elif data and not self.done:
            chunk = parse(data.decode("utf-8", "replace"))
            if not isinstance(chunk, dict):
                raise self._cut() if last else Fault("unreadable", f"no chunk: {data[:80]!r}", 200, billed=True)
            self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        choices = chunk.get("choices")
        if (not choices or chunk.get("error")) and (words := error_words(chunk)):
            raise self._broken(words)
        for name in ("model", "usage"):
            if value := chunk.get(name):
                self._top[name] = value
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or choice.get("index") not in (None, 0):
                continue
            for name in ("finish_reason", "error"):
                if (value := choice.get(name)) is not None:
                    self._choice[name], self.ended = value, True
            if isinstance(delta := choice.get("delta"), dict):
                self._add(delta)
            elif isinstance(message := choice.get("message"), dict):  # the whole once more, at the end
                self._parts = {}
                self._add(message)

    def _add(self, delta: dict[str, Any]) -> None:
        self._choice.setdefault("index", 0)
        for name, value in delta.items():
            if value and name in KEPT:
                parts = self._parts.setdefault(name, [])
                if isinstance(value, str):
                    parts.append(value)
                    self._characters += len(value)
                else:
                    parts += value if isinstance(value, list) else [value]
                    self._characters += len(str(value))
        if self._characters > self._most:
            raise self._too_large()

    def _broken(self, words: Words) -> Fault:
        """An error instead of the next chunk; what was written before it is paid."""
        fault = status_fault(200, words, {})
        fault.billed = bool(self._parts)
        return fault

    def _cut(self) -> Fault:
        return Fault("cut", "the stream ended in the middle of the answer", 200, billed=True)

    def _too_large(self) -> Fault:
        return Fault("too_large", f"the stream is larger than {self._most / 1e6:g} MB of answer", 200, billed=True)
