"""One request and its answer, as a handler sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from batch_gateway.simulator.answers.replies import HeaderPairs, Reply, encode_head

__all__ = ["Exchange", "ReceivedRequest"]


class ReceivedRequest(msgspec.Struct, frozen=True):
    """A request as it came; header names are lower case."""

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    keep_alive: bool

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    def header(self, name: bytes) -> str:
        """A header's value, or "" when it is missing."""
        return self.headers.get(name, b"").decode("latin-1")

    def __repr__(self) -> str:
        # Header values may be secrets.
        return f"<ReceivedRequest {self.method.decode('latin-1')} {self.path}>"


class _Connection(Protocol):
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    doomed: bool

    @property
    def answer_headers(self) -> HeaderPairs:
        """What every answer says besides its own headers."""
        ...

    def write(self, data: bytes) -> None: ...
    def when_writable(self, callback: Callable[[], None]) -> None: ...
    def finished(self, keep_alive: bool) -> None: ...
    def close(self) -> None: ...
    def reset(self) -> None: ...


class Exchange:
    """Answers one request, once: with `send`, as a stream, or byte by byte.

    Attributes:
        request: what was asked.
        on_end: called once when the exchange is over, with the status that was sent (0 for
            none) and whether the answer was handed over whole.
    """

    __slots__ = ("_connection", "_request_id", "_status", "_timers", "ended", "on_end", "request")

    def __init__(self, connection: _Connection, request: ReceivedRequest) -> None:
        self.request = request
        self.on_end: Callable[[int, bool], None] | None = None
        self.ended = False
        self._connection = connection
        self._status = 0
        self._timers: list[asyncio.TimerHandle] | None = None
        self._request_id = request.header(b"x-request-id")

    # -- whole answers and streams ---------------------------------------------------------

    def send(self, reply: Reply) -> None:
        """Send a whole answer."""
        if self.ended:
            return
        self._status = reply.status
        head = self.head(reply, len(reply.body))
        self._connection.write(head + reply.body)
        self.finish()

    def begin_stream(self, reply: Reply) -> None:
        """Send the head of a chunked answer, and `reply.body` as its first chunk if any."""
        self._status = reply.status
        framing = (*reply.headers, ("transfer-encoding", "chunked"))
        self.write(self.head(reply._replace(headers=framing), None))
        self.send_chunk(reply.body)

    def send_chunk(self, data: bytes) -> None:
        if data:
            self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.write(b"0\r\n\r\n")
        self.finish()

    # -- byte by byte ----------------------------------------------------------------------

    def head(self, reply: Reply, length: int | None, *, close: bool | None = None) -> bytes:
        """The encoded head of an answer to this request."""
        self._status = reply.status
        if self._connection.answer_headers:
            reply = reply._replace(headers=reply.headers + self._connection.answer_headers)
        closes = not self.request.keep_alive if close is None else close
        return encode_head(reply, length, close=closes, request_id=self._request_id)

    def write(self, data: bytes) -> None:
        if not self.ended:
            self._connection.write(data)

    def when_writable(self, callback: Callable[[], None]) -> None:
        self._connection.when_writable(callback)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back later, unless the exchange is over by then."""
        if self._timers is None:
            self._timers = []
        self._timers.append(self._connection.loop.call_later(seconds, callback))

    def finish(self, *, whole: bool = True, keep_alive: bool | None = None) -> None:
        """The answer is complete; the connection goes on with its next request or closes."""
        if self.ended:
            return
        self._end(whole)
        keep = self.request.keep_alive if keep_alive is None else keep_alive
        self._connection.finished(keep)

    def reset(self) -> None:
        """Break the connection off."""
        self._end(whole=False)
        self._connection.reset()

    def doom_connection(self) -> None:
        """Reset the connection as soon as the client sends anything more on it."""
        self._connection.doomed = True

    def disconnected(self) -> None:
        """The client went away, or the server closes."""
        self._end(whole=False)

    def _end(self, whole: bool) -> None:
        if self.ended:
            return
        self.ended = True
        for timer in self._timers or ():
            timer.cancel()
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self._status, whole)
