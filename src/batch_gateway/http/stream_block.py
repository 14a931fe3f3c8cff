"""The block in which a streamed response is read, from sending its request on."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType

from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.connection import Connection
from batch_gateway.http.exchange import Early, HandOn, HTTPStream

__all__ = ["StreamBlock"]


class StreamBlock:
    """An asynchronous context manager: a generator would cost as much as sending.

    Attributes:
        opening: what enters it, with the `connection` and the `stream` that are then its own.
        unread: head and body of the request, while it may have to be sent again.
    """

    __slots__ = ("_early", "_release", "connection", "opening", "stream", "unread")
    opening: CoroutineType[None, None, BodyStream]
    connection: Connection
    stream: BodyStream
    unread: tuple[bytes, bytes]

    def __init__(self, release: Callable[[Connection], None], early: Early | None) -> None:
        self._release = release
        self._early = early

    def begins(self, response: HTTPStream) -> HandOn | None:
        """The head has come, so that the request has been read."""
        self.unread = b"", b""
        return None if self._early is None else self._early(response)

    def __aenter__(self) -> CoroutineType[None, None, BodyStream]:
        return self.opening

    async def __aexit__(self, *exception: object) -> None:
        # As in `post`: what has not been read to its end is not reusable.
        self._release(self.connection)
        self.stream.close()
