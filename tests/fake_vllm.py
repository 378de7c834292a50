"""vLLM's server without a model: the routes of weight updates and sleep, in the order that vLLM 0.32 demands, with faults.

As a program it takes vLLM's place in a launch: it prints its arguments, then the calls it gets, and serves until it is ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeVllm:
    """Served from `with` on. Faults, by path: (status, text) to answer, seconds to be silent, or b"..." as it is.

    backend  of its weight transfer; "" for a server that was started without
    calls    paths in the order in which they came, with what they ask for; `bodies` are those that say something
    """

    def __init__(self, backend: str = "nccl", workers: int = 1, port: int = 0, show: bool = False):
        self.backend, self.workers, self.show = backend, workers, show
        self.calls: list[str] = []
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.faults: dict[str, Any] = {}
        self.version, self.updating, self.paused, self.asleep = "default", False, False, set()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply({})

            def do_POST(self) -> None:
                self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def reply(self, body: dict[str, Any]) -> None:
                status, answer = fake.answer(self.path, body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Silent."""

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                """A client that hangs up is what is tested."""

        self.http = Http(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        plain = path.partition("?")[0]
        if plain != "/health":
            self.calls.append(path)
            if body:
                self.bodies.append((path, body))
            if self.show:
                print(path, flush=True)
        fault = self.faults.get(plain)
        if isinstance(fault, float):
            time.sleep(fault)
        elif isinstance(fault, bytes):
            return 200, fault
        elif fault:
            self.updating = self.updating and plain != "/update_weights"
            return fault
        return self.route(path, plain, body)

    def route(self, path: str, plain: str, body: dict[str, Any]) -> tuple[int, Any]:
        if plain == "/server_info":
            return 200, {"vllm_config": {"weight_transfer_config": {"backend": self.backend} if self.backend else None}}
        if plain == "/get_world_size":
            return 200, {"world_size": self.workers}
        if plain == "/weight_info":
            return 200, {"weight_version": self.version}
        if plain in ("/pause", "/resume"):
            self.paused = plain == "/pause"
        if plain == "/sleep":
            self.asleep = {"weights", "kv_cache"}
        if plain == "/wake_up":
            self.asleep.discard(path.partition("tags=")[2])
        if "weight" in plain and plain != "/shutdown_weight_transfer_engine":
            if not self.backend:
                return 500, "Weight transfer not configured. Please set weight_transfer_config"
            if "weights" in self.asleep or self.updating != (plain in ("/update_weights", "/finish_weight_update")):
                return 500, f"{plain} out of turn"
            self.updating = plain in ("/start_weight_update", "/update_weights")
        if plain == "/finish_weight_update":
            self.version = body["weight_version"]
        if plain == "/inference/v1/generate":
            if self.paused or self.asleep:
                return 500, "paused"
            return 200, {"prompt_token_ids": body["token_ids"], "choices": []}
        return 200, {"success": True}

    def __enter__(self) -> FakeVllm:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


if __name__ == "__main__":
    given = sys.argv[1:]
    shown = {name: value for name, value in os.environ.items() if name.startswith(("VLLM_", "CUDA_VIS", "RANK"))}
    print(json.dumps({"arguments": given, "environment": shown}), flush=True)
    if "--refuse" in given:
        sys.exit("OSError: no such model\nRuntimeError: engine core initialization failed")
    FakeVllm("ipc", port=int(given[given.index("--port") + 1]), show=True).http.serve_forever()
