"""Files and batches of the loopback server, in memory: answers are made as those of single calls are."""

from __future__ import annotations

import email
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

POLLS = 2  # looks at a batch, or so, until it has ended

Told = tuple[int, bytes]
"""Status and body of a response."""


class LocalBatches:
    """`respond(body)` answers one chat request, as (status, body). What goes wrong is set from outside.

    polls   looks at a batch before it has ended
    ends    how the next batches end: completed, expired or cancelled (after half of their lines), failed
    spoil   changes a file of results on its way out, given whether it is the one of errors
    fault   (status, body) instead of an answer, given method and path, or None
    stall   waited for before a batch is made, or after it, with the answer not sent yet: "before" or "after"
    """

    def __init__(self, respond: Callable[[dict[str, Any]], Told]):
        self._respond = respond
        self.polls, self.ends = POLLS, list[str]()
        self.spoil: Callable[[bytes, bool], bytes] = lambda data, errors: data
        self.fault: Callable[[str, str], Told | None] = lambda method, path: None
        self.stall, self.stalled, self.go_on = "", threading.Event(), threading.Event()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._looks: dict[str, int] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, kind: str, body: bytes) -> Told | None:
        """What answers a request below /v1; None: it is no request for files or batches."""
        parts = urlsplit(path)
        words = parts.path.strip("/").split("/")[1:]
        if not words or words[0] not in ("files", "batches"):
            return None
        if fault := self.fault(method, "/".join(words)):
            return fault
        match method, *words:
            case "POST", "files":
                return self._upload(kind, body)
            case "POST", "batches":
                return self._make(json.loads(body))
            case "GET", "batches":
                return self._list(parse_qs(parts.query))
            case "GET", "batches", name if name in self.batches:
                return self._look(name)
            case "GET", "files", name, "content" if name in self.files:
                return 200, self.files[name]
        return 404, _json({"error": {"message": f"no {path}", "type": "simulated"}})

    def _upload(self, kind: str, body: bytes) -> Told:
        form = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        fields: dict[Any, Any] = {part.get_param("name", header="content-disposition"): part for part in form.walk()}
        if "file" not in fields or fields["purpose"].get_payload() != "batch":
            return 400, _json({"error": {"message": "a file and its purpose, please"}})
        with self._lock:
            name = f"file-{len(self.files)}"
            self.files[name] = fields["file"].get_payload(decode=True)
        return 200, _json({"id": name, "object": "file", "purpose": "batch", "bytes": len(self.files[name])})

    def _make(self, order: dict[str, Any]) -> Told:
        if self.stall == "before":
            self.stalled.set()
            self.go_on.wait(30)
        with self._lock:
            name = f"batch_{len(self.batches)}"
            self.batches[name] = {"id": name, "object": "batch", **order, "status": "validating"}
        if self.stall == "after":
            self.stalled.set()
            self.go_on.wait(30)
        return 200, _json(self.batches[name])

    def _list(self, query: dict[str, list[str]]) -> Told:
        rows, limit = list(self.batches.values())[::-1], 2
        names = [row["id"] for row in rows]
        start = names.index(query["after"][0]) + 1 if "after" in query else 0
        page = rows[start : start + limit]
        return 200, _json({"object": "list", "data": page, "has_more": len(rows) > start + limit})

    def _look(self, name: str) -> Told:
        batch = self.batches[name]
        with self._lock:
            self._looks[name] = self._looks.get(name, 0) + 1
            if self._looks[name] > self.polls and batch["status"] in ("validating", "in_progress"):
                self._end(batch, self.ends.pop(0) if self.ends else "completed")
            elif batch["status"] == "validating":
                batch["status"] = "in_progress"
        return 200, _json(batch)

    def _end(self, batch: dict[str, Any], state: str) -> None:
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        batch["status"] = state
        if state == "failed":
            rows, batch["errors"] = [], {"object": "list", "data": [{"code": "simulated", "message": "no such line"}]}
        done = len(rows) if state == "completed" else len(rows) // 2
        answers: list[list[dict[str, Any]]] = [[], []]
        for row in rows[:done]:
            status, body = self._respond(row["body"])
            response = {"status_code": status, "request_id": "simulated", "body": json.loads(body)}
            line = {"id": "simulated", "custom_id": row["custom_id"], "response": response, "error": None}
            answers[status != 200].append(line)
        if state == "expired":
            late = {"code": "batch_expired", "message": "This request could not be executed in time."}
            answers[1] += [{"custom_id": row["custom_id"], "response": None, "error": late} for row in rows[done:]]
        for errors, lines in enumerate(answers):
            if lines:
                name = f"{batch['id']}-{'errors' if errors else 'output'}"
                data = b"".join(_json(line) + b"\n" for line in lines)
                self.files[name] = self.spoil(data, bool(errors))
                batch["error_file_id" if errors else "output_file_id"] = name


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
