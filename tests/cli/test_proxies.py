"""A run through an HTTP proxy that begins to refuse tunnels: no line pays for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from tests.http.behaviour.certificates import Certificates
from tests.http.behaviour.proxy_server import ProxyServer, proxying
from tests.http.behaviour.scripted_server import answer

from .commands import batch_gateway, write_batch

LINES, GOOD = 60, 30


class Gateway(BaseHTTPRequestHandler):
    """Closes each connection, so that each request needs a tunnel of its own."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"object": "chat.completion", "choices": [{"message": {"content": "x"}}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Turning(ProxyServer):
    """Opens so many tunnels, and answers whoever asks for one more with `then`."""

    def __init__(self, good: int, then: bytes) -> None:
        super().__init__()
        self._good = good
        self._then = then

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self.request_lines) >= self._good:
            self.refusal = self._then
        await super().serve(reader, writer)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Its URL, and whom to trust for it."""
    certificates = Certificates(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        context = certificates.server()
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", certificates.ca_file
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def beside(proxy: ProxyServer) -> Iterator[str]:
    """The URL of the proxy, which serves in a thread of its own."""
    started: Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def serve() -> None:
        over = asyncio.Event()
        async with proxying(proxy):
            started.put((asyncio.get_running_loop(), over))
            await over.wait()

    with ThreadPoolExecutor(1) as thread:
        served = thread.submit(asyncio.run, serve())
        loop, over = started.get(timeout=10)
        try:
            yield proxy.url.replace("http://", "http://bob:hunter22@")
        finally:
            loop.call_soon_threadsafe(over.set)
            served.result()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"407 Proxy Authentication Required", "it does not accept the user name and password"),
        (b"403 Forbidden", "ask whoever runs it to let 127.0.0.1:"),
        (b"302 Found", "it redirects to https://login.test/"),
    ],
)
def test_a_proxy_that_begins_to_refuse_leaves_the_lines_to_be_sent(
    tmp_path: Path, gateway: tuple[str, Path], status: bytes, said: str
) -> None:
    refusal = answer(b"bob:hunter22?", b"Location: https://login.test/", status=status)
    batch = write_batch(tmp_path / "requests.jsonl", LINES)
    url, authority = gateway
    command = (
        "run", batch, "--gateway", url, "--tls-ca-file", authority, "-o", "results.jsonl",
        "--concurrency", "4", "--json", "--report", "report.html",
    )  # fmt: skip
    results = tmp_path / "results.jsonl"
    with beside(Turning(GOOD, refusal)) as proxy:
        run = batch_gateway(*command, "--proxy", proxy, cwd=tmp_path)
    assert run.returncode == 3, run.stderr
    told = json.loads(run.stdout)
    assert f"refused the tunnel: HTTP {status[:3].decode()}" in told["reason"]
    assert said in told["reason"]
    done = len(results.read_bytes().splitlines())
    assert GOOD - 4 <= done <= GOOD + 4
    assert (told["succeeded"], told["failed"]) == (done, 0)
    assert not (tmp_path / "results.errors.jsonl").exists()
    for shown in (run.stdout, run.stderr, (tmp_path / "report.html").read_text()):
        assert "hunter22" not in shown
    with beside(ProxyServer()) as proxy:
        run = batch_gateway(*command, "--proxy", proxy, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert len(results.read_bytes().splitlines()) == LINES
