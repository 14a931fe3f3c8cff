"""A streamed answer on its way from a pod to its reader, by way of the endpoint picker.

A piece is reported as it comes and handed on as it comes back. One task reads from the pod, so
that the picker may hold pieces back, or cut them otherwise, without holding up the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from batch_gateway.errors import BadResponseError, InferenceError
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.exchange import HTTPResponse, HTTPStream, LiveStream, QuickTaker
from batch_gateway.http.redaction import Redactor
from batch_gateway.http.response_errors import refusal_error
from batch_gateway.picker.dialogue import Dialogue
from batch_gateway.picker.encode import PIECE, response_head
from batch_gateway.picker.pods import PodStream
from batch_gateway.picker.teller import HIGH_WATER, MOST_AWAITED, Teller, end_of_message
from batch_gateway.wire.headers import Headers

__all__ = ["Refusal", "Relay"]

_NEVER = float("inf")


class Refusal:
    """An `HTTPStream` over an answer that is all there."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self._body = response.body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


class Relay(LiveStream):
    """An `HTTPStream` over a pod's answer, reported to the picker meanwhile.

    Args:
        dialogue: where the choice was made.
        patience: seconds to wait for the picker to hand back what it was told.
        arm: sets when the dialogue is to expire.
        idle_timeout: seconds that the pod may be silent for.
        most: bytes of an answer that is not an event stream, which a picker keeps to its end.
    """

    __slots__ = (
        "_alive_until",
        "_arm",
        "_conversation",
        "_dialogue",
        "_echo",
        "_failure",
        "_had_enough",
        "_head",
        "_idle",
        "_is_events",
        "_mistake",
        "_most",
        "_most_taken",
        "_patience",
        "_pump",
        "_quick",
        "_reader",
        "_returned",
        "_room",
        "_take",
        "_take_events",
        "_teller",
        "_telling",
        "_untold",
        "headers",
        "status_code",
    )

    status_code: int
    headers: Headers
    _teller: Teller

    def __init__(
        self,
        dialogue: Dialogue,
        patience: float,
        arm: Callable[[Dialogue, float], None],
        idle_timeout: float,
        most: int,
    ) -> None:
        self._dialogue = dialogue
        self._conversation = dialogue.conversation
        self._echo = dialogue.conversation.echo
        self._patience = patience
        self._arm = arm
        self._idle = idle_timeout
        self._most = most
        self._head: tuple[int, Headers] | None = None
        self._is_events = False
        self._telling = False
        self._failure: InferenceError | None = None
        self._pump: asyncio.Task[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        # What the reader takes of what comes back, when it does, and up to which size.
        self._take: Callable[[bytes], float] | None = None
        self._most_taken = 0
        self._quick: QuickTaker | None = None
        self._take_events: Callable[[bytes], int] | None = None
        self._alive_until = 0.0
        # How much had come back when it was last asked whether more was overdue.
        self._returned = 0
        self._had_enough = False
        self._mistake: Exception | None = None
        self._untold = b""

    async def begin(self, pod: PodStream) -> HTTPStream:
        """Send the request; returns when the head of the answer is there, or a refusal is.

        Raises as `HTTPExchanger.stream` does on entering.
        """
        self._pump = asyncio.get_running_loop().create_task(self._forward(pod))
        self._pump.add_done_callback(self._forwarded)
        self._echo.hand = self._hand
        send = self._dialogue.watch(self._heard, self._echo.came_back, self._patient_until)
        self._teller = Teller(
            self._dialogue,
            send,
            self._tell_in_parts,
            patience=self._patience,
            arm=self._arm,
            idle_timeout=self._idle,
        )
        while self._head is None or not (self._conversation.head_echoed or self._gone):
            if self._conversation.refusal is not None:
                return Refusal(self._conversation.refusal)
            self._raise_failure()
            await self._wait()
        self.status_code, self.headers = self._conversation.head(*self._head)
        return self

    @property
    def is_over(self) -> bool:
        """See `LiveStream.is_over`."""
        return self._echo.ended and not self._echo.buffered and self._failure is None

    @property
    def alive_until(self) -> float:
        """See `LiveStream.alive_until`."""
        return self._alive_until

    async def read(self) -> bytes:
        """See `HTTPStream.read`."""
        echo = self._echo
        while not echo.buffered:
            self._raise_failure()
            if echo.ended:
                return b""
            await self._wait()
        return self._next()

    def arrived(self, most: int) -> bytes:
        """See `LiveStream.arrived`."""
        return self._next() if 0 < self._echo.next_size <= most else b""

    def _next(self) -> bytes:
        piece = self._echo.take()
        if self._room is not None and self._echo.buffered <= HIGH_WATER // 2:
            _wake(self._room)
        return piece

    async def hand_on(
        self, take: Callable[[bytes], float], most: int, quick: QuickTaker | None = None
    ) -> bool:
        """See `LiveStream.hand_on`. The pod, not this, is held to what `take` returns."""
        self._take, self._most_taken, self._had_enough = take, most, False
        self._quick = quick
        self._look_for_events()
        try:
            self._hand_out()
            if self._take is not None:
                self._raise_failure()
                await self._wait()
        finally:
            self._take = self._take_events = self._quick = None
        mistake, self._mistake = self._mistake, None
        if mistake is not None:
            raise mistake
        return self._had_enough

    async def aclose(self) -> None:
        """Stop reading from the pod; its connection is closed unless the answer was complete."""
        pump = self._pump
        if pump is not None and not pump.done():
            if not self._echo.reported_all or self._failure is not None:
                pump.cancel()
            await asyncio.wait([pump])
        self._dialogue.polite = self._echo.ended and self._echo.reported_all
        # As in `Dialogue.leave`: these would close a circle with the frames of an error.
        self._pump = self._failure = self._echo.hand = None

    # --- the task ---

    async def _forward(self, pod: PodStream) -> None:
        dialogue, echo = self._dialogue, self._echo
        async with pod as (served_by, upstream):
            kind = upstream.headers.get("content-type", "")
            self._is_events = kind.lower().startswith("text/event-stream")
            self._conversation.reporting()
            if self._gone:
                echo.give_up()
            head = response_head(upstream.status_code, upstream.headers.raw, served_by.served)
            self._head = (upstream.status_code, upstream.headers)
            self._set_patience(dialogue.deadline)
            await dialogue.say(head)
            await self._tell(upstream)

    async def _tell(self, upstream: HTTPStream) -> None:
        """Report the answer's body piece by piece."""
        size, piece, teller = 0, b"first", self._teller
        live = upstream if self._is_events and isinstance(upstream, BodyStream) else None
        # The first is nearly always there; else it may be later than the others.
        first = b"" if live is None else live.arrived(PIECE)
        if first:
            teller.take(first)
        handing = live if first else None
        while piece:
            if self._gone:
                # What is told goes straight to the reader.
                _wake(self._reader)
            while self._is_full():
                self._room = asyncio.get_running_loop().create_future()
                await self._room
                self._room = None
            if self._untold:
                piece, self._untold = self._untold, b""
            elif handing is None:
                piece = await upstream.read()
            elif await handing.hand_on(
                teller.take, PIECE, take_chunk=teller.take_chunk, at_end=self._tell_end
            ):
                continue
            elif self._echo.reported_all:
                break
            else:
                piece = await upstream.read()
            size += 0 if self._is_events else len(piece)
            if size > self._most:
                raise BadResponseError(
                    f"the response is larger than max_response_bytes ({self._most} bytes)"
                )
            self._telling = True
            self._set_patience(self._dialogue.deadline)
            await self._dialogue.say_body(piece, last=not piece)
            self._telling = False
            self._set_patience(self._dialogue.deadline)
            handing = live

    def _tell_in_parts(self, piece: bytes) -> float:
        """Report a piece that may be too large, or not wanted, for `LiveStream.hand_on`."""
        dialogue, now, rest = self._dialogue, time.monotonic(), piece
        while rest:
            end = end_of_message(rest)
            piece, rest = rest[:end], rest[end:]
            if not (self._teller.tell(piece) or dialogue.say_body_nowait(piece, last=False)):
                self._untold = piece + rest
                return 0.0
        if self._gone:
            self._hand_out()
        elif dialogue.deadline == _NEVER:
            self._arm(dialogue, now + self._patience)
        return 0.0 if self._is_full() else now + self._idle

    def _tell_end(self) -> None:
        """Report the end behind the last piece, with which it then goes out and comes back."""
        dialogue = self._dialogue
        if dialogue.say_body_nowait(b"", last=True) and dialogue.deadline == _NEVER:
            self._set_patience(_NEVER)

    def _is_full(self) -> bool:
        """Whether the pod has to wait: for the reader, or for a picker that is to echo at once."""
        echo = self._echo
        return echo.buffered > HIGH_WATER or (self._is_events and echo.awaited > MOST_AWAITED)

    def _forwarded(self, pump: asyncio.Task[None]) -> None:
        if not pump.cancelled():
            error = pump.exception()
            if isinstance(error, InferenceError) and self._failure is None:
                self._failure = error
        _wake(self._reader)

    # --- what the picker does ---

    @property
    def _gone(self) -> bool:
        return self._conversation.over

    def _heard(self) -> None:
        conversation = self._conversation
        if conversation.refusal is not None:
            self._fail(refusal_error(conversation.refusal, time.time(), Redactor(())))
        elif conversation.over and self._head is not None and not self._echo.give_up():
            self._fail(self._dialogue.broken_off())
        else:
            self._set_patience(_NEVER)
        self._hand_out()
        _wake(self._room)

    def _hand(self, piece: bytes) -> None:
        """A piece came back as it had been reported; or the end, with b""."""
        take_events = self._take_events
        taken = 0 if take_events is None else take_events(piece)
        if taken:
            self._alive_until = time.monotonic() + self._idle
        if taken < len(piece) or not piece:
            self._echo.put(piece[taken:])
            self._hand_out()
        if self._room is not None:
            _wake(self._room)

    def _give(self, take: Callable[[bytes], float], piece: bytes) -> None:
        """Give the reader, which takes what comes, a piece."""
        try:
            self._had_enough = not take(piece)
        except Exception as mistake:  # noqa: BLE001 - whoever waits in `hand_on` is to have it
            self._mistake, self._had_enough = mistake, True
        if self._had_enough:
            self._take = self._take_events = None
            _wake(self._reader)
        else:
            self._look_for_events()

    def _look_for_events(self) -> None:
        taker = None if self._quick is None else self._quick()
        self._take_events = None if taker is None else taker.take

    def _hand_out(self) -> None:
        """Give the reader what came back, or wake it."""
        echo = self._echo
        while (take := self._take) is not None and 0 < echo.next_size <= self._most_taken:
            self._give(take, self._next())
        if self._take is None or echo.buffered or echo.ended or self._failure is not None:
            self._take = self._take_events = None
            _wake(self._reader)

    def _patient_until(self) -> float:
        """How long to wait from now on, past the time for what had been told: 0 for no longer."""
        if not self._owes:
            return _NEVER
        before, self._returned = self._returned, self._echo.returned
        return 0.0 if before == self._returned else time.monotonic() + self._patience

    @property
    def _owes(self) -> bool:
        """Whether the picker keeps what it was told, or does not listen."""
        echo, conversation = self._echo, self._conversation
        if conversation.over or self._head is None:
            return False
        owes_body = self._is_events or echo.reported_all
        return self._telling or not conversation.head_echoed or (owes_body and echo.waits)

    def _set_patience(self, since: float) -> None:
        """Until when the picker may do so; `since` stays if set."""
        if not self._owes:
            self._dialogue.deadline = _NEVER
        elif since == _NEVER:
            self._arm(self._dialogue, time.monotonic() + self._patience)

    def _fail(self, error: InferenceError) -> None:
        if self._failure is None:
            self._failure = error
        if self._pump is not None:
            self._pump.cancel()

    # --- the reader ---

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        pump = self._pump
        if pump is not None and pump.done() and not pump.cancelled():
            # A mistake of ours; whatever the picker still says must not hide it.
            with contextlib.suppress(InferenceError):
                pump.result()

    async def _wait(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
