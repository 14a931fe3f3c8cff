"""uvicorn's HTTP/1.1 connection, with limits on what a client may take: size, time and company.

uvicorn has no limit on the size of a head nor on the time that one may take, and leaves a
connection open for ever whose client goes on sending after its answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from batch_gateway.server.api_errors import error_body
from batch_gateway.server.frame import SECURITY_HEADERS

__all__ = ["BoundedProtocol", "ConnectionLimits", "protocol_of"]


@dataclass(frozen=True)
class ConnectionLimits:
    """Sizes in bytes, times in seconds.

    Attributes:
        linger_seconds: how long what a refused client still sends is read and thrown away; closed
            at once, its connection would be reset, and the client might never see the answer.
    """

    header_bytes: int
    header_seconds: float
    connections: int
    linger_seconds: float = 5.0


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: ConnectionLimits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._head_bytes = 0
        self._in_head = True
        self._in_body = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "the server has too many connections: try again in a moment")
        else:
            self._close_within(self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(self.parser, data)
        except httptools.HttpParserError:
            self._refuse(400, "the request is not valid HTTP")
        if self._in_head and self._head_bytes > self._limits.header_bytes:
            self._refuse_head()
        elif self._in_head and self._head_bytes and self._timer is None:
            # A head has begun; after the end of a request there is none, and its answer has time.
            self._close_within(self._limits.header_seconds)

    def _parse(self, parser: Any, data: bytes) -> None:
        """Raises HttpParserError."""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if _is_offered_another_protocol(parser):
                first = b"%b %b HTTP/%b" % (
                    parser.get_method(), self.url, parser.get_http_version().encode()
                )  # fmt: skip
                kept = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
                head = b"\r\n".join([first, *kept, b"", b""])
                self._parse(parser, head + data[offer.args[0] :])

    def on_headers_complete(self) -> None:
        if _is_offered_another_protocol(self.parser):
            return
        self._in_head, self._in_body = False, True
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.header_bytes:
            self._refuse_head()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if _is_offered_another_protocol(self.parser):
            return
        self._in_head, self._in_body, self._head_bytes = True, False, 0
        if self.transport.is_closing():
            return
        super().on_message_complete()
        if self.cycle.response_complete:
            # The answer came before the end of the request: only now the connection is idle.
            self._stop_timer()
            self._close_within(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body and not self.transport.is_closing():
            self._close_within(self._limits.linger_seconds)

    def _refuse_head(self) -> None:
        self._refuse(431, f"the head of the request exceeds {self._limits.header_bytes} bytes")

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        body = error_body(status, message)
        headers = [
            *SECURITY_HEADERS,
            (b"x-request-id", str(uuid4()).encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        self.transport.close()

    def _close_within(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_offered_another_protocol(parser: Any) -> bool:
    """Whether the head has an Upgrade, as the first one has of curl --http2 and Java's HttpClient.

    Nobody has to take that up (RFC 9110 §7.8), but httptools takes the body for the other
    protocol: what it says of such a request is not heard, and it gets it anew without the offer.
    """
    return parser.should_upgrade() and parser.get_method() != b"CONNECT"


def protocol_of(
    limits: ConnectionLimits, config: Config, server_state: ServerState, **more: Any
) -> BoundedProtocol:
    """What uvicorn calls for each connection."""
    return BoundedProtocol(limits, config=config, server_state=server_state, **more)
