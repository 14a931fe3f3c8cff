"""The body of a response on its way from the connection that receives it to whoever reads it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from batch_gateway.errors import RequestTimeoutError
from batch_gateway.http.connection_errors import idle_error
from batch_gateway.http.exchange import Early, LiveStream, QuickTaker, TakeChunk
from batch_gateway.wire.headers import Headers

__all__ = ["BodyStream"]

# Past this the socket is not read any more, until half of it has been taken.
_HIGH_WATER = 64 * 1024

_LONG_PAST = float("-inf")
_NO_HEADERS = Headers()
# Most streams are handed on from the first piece to the last. Nothing is put into it.
_NO_PIECES: deque[bytes] = deque()


class BodyStream(LiveStream):
    """What has arrived and has not been read yet, bounded by not reading from the socket.

    An `HTTPStream`. The connection's side (`head_received`, `body_received`, `ended`) never
    waits; `read` and `hand_on` do, until `set_deadline` has let them, and `wait_head`, until the
    deadline that the exchange began with.

    Args:
        peer: how messages name the gateway.
        pause: told True to stop reading from the socket, and False to go on.
        set_deadline: told until when (monotonic seconds) the exchange may be silent from now on.
        deadline, begin_by, idle_timeout, early: as for `HTTPExchanger.stream`.

    Attributes:
        take_chunk: what is to have a read that is one whole chunk, in `hand_on`.
        lived_at: when it took one last, in monotonic seconds; long past where it has not.
    """

    __slots__ = (
        "_at_end",
        "_begin_by",
        "_begun",
        "_buffered",
        "_closed",
        "_deadline",
        "_early",
        "_ended",
        "_error",
        "_failure",
        "_idle",
        "_most",
        "_pause",
        "_paused",
        "_peer",
        "_pieces",
        "_quick",
        "_set_deadline",
        "_take",
        "_until",
        "_waiter",
        "headers",
        "lived_at",
        "status_code",
        "take_chunk",
    )

    def __init__(
        self,
        peer: str,
        pause: Callable[[bool], None],
        set_deadline: Callable[[float], None],
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
        early: Early | None = None,
    ) -> None:
        self._peer = peer
        self._pause = pause
        self._set_deadline = set_deadline
        self._deadline = deadline
        self._begin_by = begin_by
        self._idle = idle_timeout
        self._pieces: deque[bytes] = _NO_PIECES
        self._buffered = 0
        self._begun = False
        self._closed = False
        self._paused = False
        self._ended = False
        self._error: BaseException | None = None
        self._take: Callable[[bytes], float] | None = None
        self._early = early
        self._most = 0
        self._quick: QuickTaker | None = None
        self._at_end: Callable[[], None] | None = None
        self.take_chunk: TakeChunk | None = None
        self._until = 0.0
        self.lived_at = _LONG_PAST
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.status_code = 0
        self.headers = _NO_HEADERS

    # --- the connection's side ---

    def head_received(self, status_code: int, headers: Headers) -> None:
        self.status_code, self.headers = status_code, headers
        early, self._early = self._early, None
        hand_on = None if early is None else early(self)
        if hand_on is None:
            self._wake()
        else:
            self._take, self._most, self._quick = hand_on

    def body_received(self, data: bytes) -> None:
        if self._closed:
            return
        take = self._take
        if take is not None and len(data) <= self._most:
            try:
                until = take(data)
            except Exception as failure:  # noqa: BLE001 - whoever waits in `hand_on` is to have it
                self._failure, until = failure, 0.0
            if until >= 0:
                self._go_on_handing(until)
                return
        self._begun = True
        self._take = self.take_chunk = None
        if self._pieces is _NO_PIECES:
            self._pieces = deque()
        self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered > _HIGH_WATER and not self._paused:
            self._paused = True
            self._pause(True)
        self._wake()

    def ended(self, error: BaseException | None) -> None:
        """The response is over: complete, or with an error."""
        if self._closed:
            return
        self._ended = True
        self._error = error
        if self._at_end is not None and self._take is not None and error is None:
            self._at_end()
        # A connection that goes back to the pool must notice when its peer closes it.
        self._resume()
        self._wake()

    def may_be_silent_until(self) -> float:
        """What the deadline has become by what came since it was set, in `hand_on`."""
        return min(self._deadline, max(self._until, self.alive_until))

    # --- the reader's side ---

    @property
    def is_over(self) -> bool:
        """See `LiveStream.is_over`."""
        return self._ended and not self._pieces and self._error is None

    async def wait_head(self) -> None:
        """Until the head has come, and until `early` wants no more of what is behind it."""
        while not self._ended and (self._take is not None or not self.status_code):
            await self._woken()
        self._take = self._quick = self.take_chunk = None
        self._raise_failure()
        if not self.status_code and self._error is not None:
            raise self._in_words(self._error)

    async def read(self) -> bytes:
        while not self._pieces and not self._ended:
            silent_until = time.monotonic() + self._idle if self._begun else self._begin_by
            self._let_be_silent(silent_until)
            await self._woken()
        if self._pieces:
            return self._next()
        if self._error is not None:
            raise self._in_words(self._error)
        return b""

    def arrived(self, most: int) -> bytes:
        """See `LiveStream.arrived`."""
        return self._next() if self._pieces and len(self._pieces[0]) <= most else b""

    @property
    def alive_until(self) -> float:
        """See `LiveStream.alive_until`."""
        return self.lived_at + self._idle

    async def hand_on(
        self,
        take: Callable[[bytes], float],
        most: int,
        quick: QuickTaker | None = None,
        *,
        take_chunk: TakeChunk | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> bool:
        """See `LiveStream.hand_on`. Without `quick`, `take_chunk` stays the same all the time.

        `at_end` is told when the body has come to its end and `take` got all of it.
        """
        if self._pieces or self._ended:
            return False
        self._take, self._most, self._quick = take, most, quick
        self.take_chunk, self._at_end = take_chunk, at_end
        if quick is not None:
            self._look_for_chunks(quick)
        self._until = time.monotonic() + self._idle
        self._let_be_silent(self._until)
        try:
            await self._woken()
        finally:
            self._take = self._quick = self.take_chunk = self._at_end = None
        self._raise_failure()
        return not self._until

    def close(self) -> None:
        """Nobody reads any more: forget what was not read, and whom to tell.

        The connection, the response and its error would otherwise hold one another, with all
        that had been buffered, until the garbage collector comes by.
        """
        self._closed = True
        if self.is_over:
            return
        self._pieces = _NO_PIECES
        self._take = self._quick = self.take_chunk = None
        self._early = self._at_end = None
        self._error = self._failure = None
        self._pause = self._set_deadline = _tell_nobody

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _go_on_handing(self, until: float) -> None:
        self._until = until
        if not self._begun:
            self._begun = True
            self._let_be_silent(until or self._deadline)
        if not until:
            self._stop_handing()
        elif self._quick is not None:
            self._look_for_chunks(self._quick)

    def _let_be_silent(self, until: float) -> None:
        self._set_deadline(min(self._deadline, until))

    def _look_for_chunks(self, quick: QuickTaker) -> None:
        taker = quick()
        self.take_chunk = None if taker is None else taker.take_chunk

    def _stop_handing(self) -> None:
        self._take = self.take_chunk = None
        # Whoever is busy with what came is not waiting for more.
        self._set_deadline(self._deadline)
        self._wake()

    def _next(self) -> bytes:
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        if self._paused and self._buffered <= _HIGH_WATER // 2:
            self._resume()
        if not self._ended:
            # Whoever is busy with this piece is not waiting for the next.
            self._set_deadline(self._deadline)
        return piece

    def _woken(self) -> asyncio.Future[None]:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._pause(False)

    def _in_words(self, error: BaseException) -> BaseException:
        """What ended the response, a timeout in the words of the limit that passed."""
        too_late = isinstance(error, RequestTimeoutError)
        if too_late and self._begun and time.monotonic() < self._deadline:
            idle = idle_error(self._peer, self._idle)
            idle.__cause__ = error
            return idle
        return error


def _tell_nobody(_: object) -> None:
    pass
