"""Gateways on real sockets, each with something wrong, for the doctor to look at."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["ANSWER", "MODELS", "Reply", "served"]


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


MODELS = Reply(200, b'{"object":"list","data":[{"id":"m-1"},{"id":"m-2"}]}')
ANSWER = Reply(
    200,
    json.dumps(
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        }
    ).encode(),
)
Answer = Callable[[str, dict[str, Any]], Reply]
"""(path, body of a POST or {}) → what to answer."""


def events(*, usage: bool = True) -> Reply:
    """The same answer as a stream."""
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    last = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    data = [{"choices": [choice]}, *([last] if usage else [])]
    text = "".join(f"data: {json.dumps(one)}\n\n" for one in data) + "data: [DONE]\n\n"
    return Reply(200, text.encode(), (("Content-Type", "text/event-stream"),))


def well(path: str, body: dict[str, Any]) -> Reply:
    """What a gateway says with which nothing is wrong; it has no metrics."""
    if path == "/v1/models":
        return MODELS
    if path.startswith("/v1/chat/completions"):
        return events() if body.get("stream") else ANSWER
    return Reply(404, b'{"error": {"message": "Not Found"}}')


@contextmanager
def served(
    answer: Answer = well, *, context: ssl.SSLContext | None = None, clock: float = 0.0
) -> Iterator[str]:
    """Its URL; its clock is so many seconds off."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self._reply(answer(self.path, json.loads(self.rfile.read(self._length()))))

        def do_GET(self) -> None:
            self._reply(answer(self.path, {}))

        def _length(self) -> int:
            return int(self.headers.get("Content-Length", 0))

        def _reply(self, reply: Reply) -> None:
            self.send_response_only(reply.status)
            own = (("Date", formatdate(time.time() + clock, usegmt=True)),)
            for name, value in (*reply.headers, *own, ("Content-Length", str(len(reply.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a handshake that the other side breaks off

        def get_request(self) -> tuple[Any, Any]:
            sock, address = super().get_request()
            if context is None:
                return sock, address
            return context.wrap_socket(sock, True, do_handshake_on_connect=False), address

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    scheme = "http" if context is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
