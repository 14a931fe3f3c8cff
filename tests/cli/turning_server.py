"""A server on a real socket that answers as a test decides, request by request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["ANSWER", "Reply", "TurningServer", "turning_server"]


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


ANSWER = Reply(
    200,
    json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "hi"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    ).encode(),
)

Decide = Callable[["TurningServer", int, dict[str, Any], str], Reply]
"""(server, number of the request from 1, its JSON, its Authorization) → what to answer."""


class TurningServer:
    """What the server has seen; `posts` counts the requests."""

    def __init__(self, decide: Decide, models: list[str]) -> None:
        self.decide = decide
        self.models = models
        self.posts = 0
        self.url = ""
        self.lock = threading.Lock()


@contextmanager
def turning_server(decide: Decide, models: list[str] | None = None) -> Iterator[TurningServer]:
    state = TurningServer(decide, models or [])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.posts += 1
                number = state.posts
            key = self.headers.get("Authorization", "")
            self._send(state.decide(state, number, body, key))

        def do_GET(self) -> None:
            listed = {"object": "list", "data": [{"id": name} for name in state.models]}
            self._send(Reply(200 if state.models else 404, json.dumps(listed).encode()))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in (*reply.headers, ("Content-Length", str(len(reply.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
