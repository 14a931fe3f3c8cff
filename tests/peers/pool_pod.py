"""A pod of a pool that does as the model's name says, and keeps what reached it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

__all__ = ["EVENTS", "PoolPod", "Received", "running_pod"]

_LIMIT_S = 30.0
EVENTS = 5
_LARGE = 3_000_000

Received = dict[str, Any]
"""One request: its path, headers in lower case, and the size and SHA-256 of its body."""


class PoolPod:
    """Where it listens, what reached it, and which requests were given up while it worked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.received: Queue[Received] = Queue()
        self.started: Queue[None] = Queue()
        self.aborted: Queue[None] = Queue()

    def next_request(self) -> Received:
        return self.received.get(timeout=_LIMIT_S)


@contextlib.contextmanager
def running_pod() -> Iterator[PoolPod]:
    """Listening on a free port of 127.0.0.1 until the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    pod = PoolPod(f"127.0.0.1:{server.server_address[1]}")
    server.pod = pod  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield pod
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_LIMIT_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _LIMIT_S

    def do_POST(self) -> None:
        body = self._body()
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        digest = hashlib.sha256(body).hexdigest()
        self._pod.received.put(
            {"path": self.path, "headers": headers, "size": len(body), "sha256": digest}
        )
        model = str(json.loads(body)["model"])
        how = model.partition("-")[2]
        if how == "stream":
            self._stream(model)
        elif how == "busy":
            self._work_until_aborted()
        elif how == "broken":
            self._answer(400, {"error": {"message": "no such adapter", "type": "bad", "code": 7}})
        else:
            self._answer(200, _completion(model, "x" * (_LARGE if how == "large" else 20)))

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def _pod(self) -> PoolPod:
        return self.server.pod  # pyright: ignore[reportAttributeAccessIssue]

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers["content-length"]))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            delta = {"content": f"word{number} "}
            reason = "stop" if number == EVENTS - 1 else None
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            self._event(json.dumps({"id": "c-1", "model": model, "choices": [choice]}))
        usage = {"prompt_tokens": 3, "completion_tokens": EVENTS, "total_tokens": 3 + EVENTS}
        self._event(json.dumps({"id": "c-1", "model": model, "choices": [], "usage": usage}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def _work_until_aborted(self) -> None:
        """Answers nothing: ends when the other side closes the connection."""
        self._pod.started.put(None)
        end = time.monotonic() + _LIMIT_S
        while time.monotonic() < end:
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable and not self.connection.recv(1):
                break
        self._pod.aborted.put(None)
        self.close_connection = True


def _completion(model: str, content: str) -> dict[str, Any]:
    return {
        "id": "c-1",
        "object": "chat.completion",
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
