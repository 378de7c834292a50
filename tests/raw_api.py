"""A server that sends exactly what a test wants sent, and keeps what it was sent."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWER = {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}


class RawApi:
    """Answers every POST with `status`, `headers` and `body`: bytes; what becomes JSON; or a tuple, sent piece by piece until
    the connection closes, whose numbers are seconds of silence. A function of what was sent may give status and body. With
    `tls` (certificate, key) over HTTPS."""

    def __init__(
        self,
        body: Any = ANSWER,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
    ):
        answer = body if callable(body) else lambda sent: (status, body)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                requests.append((self.path, dict(self.headers), sent))
                code, data = answer(sent)
                pieces = data if isinstance(data, tuple) else ()
                data = data if isinstance(data, bytes | tuple) else json.dumps(data).encode()
                self.send_response(code)
                if not pieces:
                    self.send_header("Content-Length", str(len(data)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in pieces or (data,):
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                    else:
                        time.sleep(piece)

            def log_message(self, *_: object) -> None:
                """Silent."""

        class Http(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that hangs up, on a bad certificate or a long answer, is what is tested."""

        self._http = Http(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        self.base_url = f"{'https' if tls else 'http'}://{self.address}/v1"

    def __enter__(self) -> RawApi:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
