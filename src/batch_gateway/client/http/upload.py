"""Sends a large request body as fast as the socket takes it, without a second copy in memory."""

from __future__ import annotations

import asyncio

__all__ = ["Upload"]

# Larger than a transport's high-water mark (64 KiB), so that each write fills its buffer.
_PIECE = 256 * 1024


class Upload:
    """A request on its way out in pieces; the transport says when to pause and to go on.

    Handing the whole body to `transport.write` would copy what the socket did not take at once
    (stock asyncio before 3.12), i.e. nearly all of a 20 MB body.
    """

    __slots__ = ("_body", "_next", "_paused", "_transport")

    def __init__(self, transport: asyncio.WriteTransport, body: bytes) -> None:
        self._transport = transport
        self._body = memoryview(body)
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

    def _go_on(self) -> None:
        while (
            self._next < len(self._body) and not self._paused and not self._transport.is_closing()
        ):
            start, self._next = self._next, self._next + _PIECE
            self._transport.write(self._body[start : self._next])
