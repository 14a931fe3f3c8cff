"""Sends a large request body as fast as the socket takes it, without a second copy in memory."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Protocol

__all__ = ["Body", "Upload"]

# Larger than a transport's high-water mark (64 KiB), so that each write fills its buffer.
_PIECE = 256 * 1024

_MOST_UNREAD = 1024 * 1024


class Body(Protocol):
    """Bytes to be sent, of which each is asked for once, in order: they need not be in memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, span: slice, /) -> bytes: ...


class Upload:
    """A request on its way out in pieces; the transport says when to pause and to go on.

    Handing the whole body to `transport.write` would copy what the socket did not take at once
    (stock asyncio before 3.12), i.e. nearly all of a 20 MB body.
    """

    __slots__ = ("_body", "_next", "_paused", "_socket", "_transport")

    def __init__(self, transport: asyncio.WriteTransport, body: Body) -> None:
        self._transport = transport
        self._socket = _second_handle(transport)
        self._body = memoryview(body) if isinstance(body, bytes) else body
        self._next = 0
        self._paused = False

    def start(self, head: bytes) -> None:
        """Write `head` and as much of the body as is taken without waiting."""
        self._next = _PIECE
        # In one piece, because a packet of its own for the head costs more than this copy.
        self._transport.write(b"".join((head, self._body[:_PIECE])))
        self._go_on()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._go_on()

    @property
    def finished(self) -> bool:
        """Whether everything has been given to the kernel."""
        return self._next >= len(self._body) and not self._transport.get_write_buffer_size()

    def unread(self) -> bytes:
        """What the peer sent that the transport has not read, when writing to it failed.

        A server that refuses a body closes without reading it. Our next write then fails, and
        the transport gives up, before the refusal that is waiting in the socket was read.
        """
        received = bytearray()
        try:
            while self._socket is not None and len(received) < _MOST_UNREAD:
                data = self._socket.recv(64 * 1024)
                if not data:
                    break
                received += data
        except OSError:  # nothing more, or what followed was the reset
            pass
        return bytes(received)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _go_on(self) -> None:
        while (
            self._next < len(self._body) and not self._paused and not self._transport.is_closing()
        ):
            start, self._next = self._next, self._next + _PIECE
            self._transport.write(self._body[start : self._next])


def _second_handle(transport: asyncio.WriteTransport) -> socket.socket | None:
    """The transport's socket once more: uvloop closes its own before it tells us of an error.

    None where it is of no use, because the bytes are encrypted, or cannot be had.
    """
    if os.name != "posix" or transport.get_extra_info("sslcontext") is not None:
        return None
    try:
        return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    except OSError:  # out of descriptors, or closed this very moment
        return None
