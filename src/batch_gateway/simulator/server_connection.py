"""One HTTP/1.1 connection of the server: requests in through httptools, answers out."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from batch_gateway.simulator.answers.replies import HeaderPairs, Reply, openai_error
from batch_gateway.simulator.server_exchange import Exchange, ReceivedRequest

__all__ = ["ServerConnection", "Site"]

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_PIPELINED = 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Site(Protocol):
    """What a connection serves."""

    @property
    def answer_headers(self) -> HeaderPairs: ...

    def opened(self, connection: ServerConnection) -> None: ...

    def closed(self, connection: ServerConnection) -> None: ...

    def handle(self, exchange: Exchange) -> None:
        """Answer now or later, through `exchange`; must not block."""
        ...


class ServerConnection(asyncio.Protocol):
    """Answers the requests of one client in their order, pipelined ones too."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.doomed = False
        self._site = site
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._without_body = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._current: Exchange | None = None
        self._waiting: deque[ReceivedRequest] = deque()
        self._resume: Callable[[], None] | None = None
        self._writable = True
        self._refused = False

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._site.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        current, self._current = self._current, None
        self._waiting.clear()
        self._drop_request()
        if current is not None:
            current.disconnected()
        self._site.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.doomed:
            self.reset()
            return
        self._without_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The parser takes the rest for another protocol, so the body is out of reach.
            self._refuse(openai_error(400, "send no Upgrade header: only HTTP/1.1 is spoken"))
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(openai_error(400, f"this is not HTTP/1.1: {error}"))
        # The parser itself keeps a header until it ends, if ever.
        if self._without_body > MAX_HEAD_BYTES:
            self._refuse_head()

    def eof_received(self) -> bool:
        # A client that half-closes does not wait for an answer.
        return False

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        resume, self._resume = self._resume, None
        if resume is not None:
            resume()

    # -- httptools -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
            self._refuse_body()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._without_body = 0
        if self._refused:
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse_body()

    def on_message_complete(self) -> None:
        self._without_body = 0
        if self._refused or self._parser.should_upgrade():
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = ReceivedRequest(
            self._parser.get_method(),
            self._url,
            self._headers,
            body,
            self._parser.should_keep_alive(),
        )
        self._body = []
        if self._current is None:
            self._start(request)
        elif len(self._waiting) < MAX_PIPELINED:
            self._waiting.append(request)
        else:
            self.reset()

    def _start(self, request: ReceivedRequest) -> None:
        self._current = exchange = Exchange(self, request)
        self._site.handle(exchange)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def _refuse_head(self) -> None:
        self._refuse(openai_error(431, f"the head is over {MAX_HEAD_BYTES} bytes"))

    def _refuse_body(self) -> None:
        self._refuse(openai_error(413, f"the body is over {MAX_BODY_BYTES} bytes"))

    def _drop_request(self) -> None:
        """Forget what has come of it. The parser holds this object, which holds the parser."""
        self._body = []
        self._headers = {}
        self._parser = httptools.HttpRequestParser(_Nobody())

    def _refuse(self, reply: Reply) -> None:
        """Answer what is no request, and close: the stream cannot be trusted further."""
        if self._refused or self._transport is None:
            return
        self._refused = True
        self._body = []
        self._waiting.clear()
        if self._current is None:
            request = ReceivedRequest(b"", b"", {}, b"", keep_alive=False)
            self._current = Exchange(self, request)
            self._current.send(reply)
        else:
            self.close()

    # -- for exchanges ---------------------------------------------------------------------

    @property
    def answer_headers(self) -> HeaderPairs:
        """What every answer says besides its own headers."""
        return self._site.answer_headers

    def write(self, data: bytes) -> None:
        # asyncio logs writes to a connection that is known to be broken.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call back as soon as the client has read enough; at once when it has."""
        if self._writable:
            self.loop.call_soon(callback)
        else:
            self._resume = callback

    def finished(self, keep_alive: bool) -> None:
        """The current answer is complete; go on with the next request."""
        self._current = None
        if not keep_alive or self._refused:
            self.close()
        elif self._waiting:
            self._start(self._waiting.popleft())

    def close(self) -> None:
        """Close after what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once, with a TCP reset where there is TCP."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


class _Nobody:
    """Whom the parser of a closed connection tells."""
