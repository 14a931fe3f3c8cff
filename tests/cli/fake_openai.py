"""A batch server that is like OpenAI's and unlike ours: no ranges unless told, other words."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FakeOpenAI", "fake_openai"]

RESULTS = b"".join(b'{"custom_id":"%d","response":{"status_code":200}}\n' % n for n in range(500))
ERRORS = b'{"custom_id":"x","error":{"code":"bad"}}\n'


@dataclass
class FakeOpenAI:
    """What it says, and what it was asked.

    Attributes:
        statuses: of the batch, one for each question; the last one stays.
        down: so many of the next questions are a 503.
        cut: so many of the next downloads break off in the middle.
        ranges: whether it knows them.
        slow_to_make: what the answer to POST /v1/batches waits for.
        asked: (method, path, headers) of each request.
        uploads: the bodies of POST /v1/files.
        made: the bodies of POST /v1/batches.
    """

    url: str = ""
    statuses: list[str] = field(default_factory=lambda: ["completed"])
    down: int = 0
    cut: int = 0
    ranges: bool = False
    slow_to_make: threading.Event | None = None
    output: str | None = "file-out"
    errors: list[dict[str, Any]] | None = None
    pages: list[list[str]] = field(default_factory=lambda: [["batch_1"]])
    asked: list[tuple[str, str, dict[str, str]]] = field(
        default_factory=list[tuple[str, str, dict[str, str]]]
    )
    uploads: list[bytes] = field(default_factory=list[bytes])
    made: list[Any] = field(default_factory=list[Any])

    def batch(self, batch_id: str, status: str) -> dict[str, Any]:
        done = status == "completed"
        return {
            "id": batch_id,
            "object": "batch",
            "status": status,
            "endpoint": "/v1/chat/completions",
            "created_at": 1_714_508_499,
            "request_counts": {"total": 501, "completed": 500 if done else 0, "failed": done * 1},
            "output_file_id": self.output if done else None,
            "error_file_id": "file-err" if done else None,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "usage": None,
            "model": "m",
            "reasoning": {"nobody": ["knows", "this"]},
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """The status and the JSON, or the bytes, of an answer."""
        if self.down:
            self.down -= 1
            return 503, {"error": {"message": "overloaded"}}
        if (method, path) == ("POST", "/v1/files"):
            self.uploads.append(body)
            return 200, {"id": "file-in", "status": "processed", "purpose": "batch", "odd": 1}
        if (method, path) == ("POST", "/v1/batches"):
            self.made.append(json.loads(body))
            if self.slow_to_make is not None:
                self.slow_to_make.wait(30)
            return 200, self.batch("batch_1", "validating")
        if path.startswith("/v1/batches?"):
            found = re.search(r"after=batch_(\d+)", path)
            number = int(found[1]) if found else 0
            page = self.pages[number]
            data = [self.batch(one, "completed") for one in page]
            return 200, {"data": data, "has_more": number + 1 < len(self.pages)}
        if path == "/v1/batches/batch_1":
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            return 200, self.batch("batch_1", status)
        files = {"/v1/files/file-out/content": RESULTS, "/v1/files/file-err/content": ERRORS}
        if path in files:
            return 200, files[path]
        return 404, {"error": {"message": f"No such thing: {path.rpartition('/')[2]}"}}


@contextlib.contextmanager
def fake_openai(**how: Any) -> Iterator[FakeOpenAI]:
    fake = FakeOpenAI(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_it(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            fake.asked.append((self.command, self.path, dict(self.headers)))
            status, said = fake.answer(self.command, self.path, self.rfile.read(length))
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.reply(status, content, is_file=isinstance(said, bytes))

        do_GET = do_POST = handle_it  # noqa: N815

        def reply(self, status: int, content: bytes, *, is_file: bool) -> None:
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            total = len(content)
            if is_file and fake.ranges and start:
                status, content = 206, content[int(start[1]) :]
            self.send_response(status)
            if status == 206 and start:
                self.send_header("Content-Range", f"bytes {start[1]}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if is_file and fake.cut:
                fake.cut -= 1
                content = content[: total // 3]
                self.close_connection = True
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
