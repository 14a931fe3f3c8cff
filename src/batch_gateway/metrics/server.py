"""A small HTTP server that shows a Prometheus registry, on a thread of its own.

On a thread, so that a scrape is answered while the event loop is busy, and so that serving it
never delays a request by more than making the text takes.
"""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from batch_gateway.metrics.prometheus import CollectorRegistry

__all__ = ["MetricsServer"]

_STOP_WITHIN_SECONDS = 5.0
_LOOK_FOR_STOP_SECONDS = 0.05


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

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            import socket  # noqa: PLC0415

            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not the parent's, which looks the host's name up and may wait for a name server.
        socketserver.TCPServer.server_bind(self)


def _handler(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/metrics", "/"):
                self.send_error(404, "only /metrics is here")
                return
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            text = encode(registry)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a scrape is no news."""

    return Handler
