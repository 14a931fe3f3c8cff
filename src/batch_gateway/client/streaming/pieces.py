"""The body of a streamed answer in pieces of so much work that others get their turn between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from batch_gateway.errors import RequestTimeoutError
from batch_gateway.http.body_decoder import BodyDecoder
from batch_gateway.http.exchange import HandOn, HTTPStream, LiveStream

__all__ = ["STINT_BYTES", "Pieces"]

STINT_BYTES = 16 * 1024
"""After so much work without a pause, others get their turn."""

# What a piece costs however small it is, in bytes that take as long.
_PIECE_BYTES = 128


class Pieces:
    """Reads a response, whose compression it undoes where there is a `decoder`.

    Raises RequestTimeoutError when `deadline`, in monotonic seconds, passes over work on what has
    come already.
    """

    __slots__ = ("_deadline", "_decoder", "_monotonic", "_ready", "_response", "_stint", "_worked")

    def __init__(
        self,
        response: HTTPStream,
        decoder: BodyDecoder | None,
        monotonic: Callable[[], float],
        deadline: float,
    ) -> None:
        self._response = response
        self._decoder = decoder
        self._monotonic = monotonic
        self._deadline = deadline
        # Work since the last pause, and the size of the piece that is worked on.
        self._stint = self._worked = 0
        self._ready: Iterator[bytes] = iter(())

    def arrived(self, live: LiveStream) -> bytes:
        """What there is at once, without a coroutine for each step of the way to it."""
        piece = b"" if self._decoder is not None else live.arrived(STINT_BYTES)
        if piece:
            self._worked = len(piece) + _PIECE_BYTES
        return piece

    async def next(self, pushed: LiveStream | None, hand_on: HandOn) -> bytes | None:
        """The body as it comes, at most so much of it as is work for a stint; None at its end.

        It may be empty. What `pushed` brings is handed on, until no more of it is wanted.
        Raises UndecodableBodyError.
        """
        if self._worked:
            await self._pause()
        piece = next(self._ready, None)
        if piece is None:
            if pushed is not None and await pushed.hand_on(*hand_on):
                # What was taken may be the last.
                return b""
            piece = await self._read_on()
        if piece is not None:
            self._worked = len(piece) + _PIECE_BYTES
        return piece

    async def _read_on(self) -> bytes | None:
        while True:
            data = await self._response.read()
            decoder = self._decoder
            if decoder is None and len(data) <= STINT_BYTES:
                return data or None
            if decoder is None:
                self._ready = _cut(iter((data,)))
            elif data:
                self._ready = _cut(decoder.feed(data))
            else:
                self._ready, self._decoder = _cut(decoder.finish()), None
            piece = next(self._ready, None)
            if piece is not None or not data:
                return piece

    async def _pause(self) -> None:
        """Let others go on: a few bytes may unpack to the work of minutes."""
        self._stint += self._worked
        self._worked = 0
        if self._stint >= STINT_BYTES:
            self._stint = 0
            await asyncio.sleep(0)
            if self._monotonic() >= self._deadline:
                raise RequestTimeoutError("the gateway did not end its answer in time")


def _cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece) or 1, STINT_BYTES):
            yield piece[start : start + STINT_BYTES]
