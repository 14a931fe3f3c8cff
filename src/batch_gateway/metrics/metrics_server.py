"""A small HTTP server that shows a Prometheus registry, on a thread of its own.

On a thread, so that a scrape is answered while the event loop is busy, and so that serving it
never delays a request by more than making the text takes.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prometheus_client import CollectorRegistry

__all__ = ["MetricsServer"]

_STOP_WITHIN_SECONDS = 5.0
_LOOK_FOR_STOP_SECONDS = 0.05
# Many more than there are scrapers; each has a thread.
_MOST_READERS = 32

_log = logging.getLogger("batch_gateway.metrics")

_Request = socket.socket | tuple[bytes, socket.socket]


class MetricsServer:
    """Answers `GET /metrics` until the block ends.

    Raises OSError when the address cannot be used.

    Attributes:
        url: where the metrics are, with the port that was chosen if 0 was given.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server = _Server((host, port), _handler(registry))
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_LOOK_FOR_STOP_SECONDS,),
            name="batch-gateway-metrics",
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join(_STOP_WITHIN_SECONDS)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A reader that never ends must not hold up the end of a run.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._lock = threading.Lock()
        self._open: list[_Request] = []
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not the parent's, which looks the host's name up and may wait for a name server.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # There are no descriptors left, say, and the listener stays ready.
            time.sleep(_LOOK_FOR_STOP_SECONDS)
            raise

    def process_request(self, request: _Request, client_address: Any) -> None:
        with self._lock:
            self._open.append(request)
            # Whoever came first had the longest time to ask.
            longest = self._open.pop(0) if len(self._open) > _MOST_READERS else None
        if isinstance(longest, socket.socket):
            with contextlib.suppress(OSError):
                longest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Request) -> None:
        with self._lock:
            if request in self._open:
                self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: _Request, client_address: Any) -> None:
        """Say nothing about scrapers that hang up; of all else a line in the log."""
        error = sys.exception()
        if not isinstance(error, OSError):
            _log.warning("metrics could not be shown: %s: %s", type(error).__name__, error)


def _handler(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/metrics", "/"):
                self.send_error(404, "only /metrics is here")
                return
            text, content_type = _page(registry, self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def do_HEAD(self) -> None:
            self.do_GET()

        def version_string(self) -> str:
            return "batch-gateway"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a scrape is no news."""

    return Handler


def _page(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    try:
        encode, content_type = choose_encoder(accept)
    except (ValueError, TypeError, IndexError):
        # What is asked for makes no sense.
        encode, content_type = choose_encoder("")
    return encode(registry), content_type
