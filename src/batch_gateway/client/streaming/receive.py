"""One attempt at a streamed answer: from the open response to the assembled one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Never

from batch_gateway.client.interfaces.interpret_answer import interpret_aside
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.gateway_habits import GatewayHabits
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.client.streaming.repeats import RepeatsForSink
from batch_gateway.client.streaming.request_body import choices_asked
from batch_gateway.client.streaming.stream_start import BLANKS, FIELDS, TELLING, usual_start
from batch_gateway.clock import Clock
from batch_gateway.errors import BadResponseError, InferenceError, RequestTimeoutError
from batch_gateway.http.body_decoder import BodyDecoder, UndecodableBodyError
from batch_gateway.http.connection_errors import too_large, too_large_error
from batch_gateway.http.content_coding import unpacked
from batch_gateway.http.exchange import EventTaker, HTTPResponse, HTTPStream, LiveStream
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.json_check import BYTE_ORDER_MARK

__all__ = ["receive"]

# After so much work without a pause, others get their turn.
_STINT_BYTES = 16 * 1024
# What a piece costs however small it is, in bytes that take as long.
_PIECE_BYTES = 128


def receive(
    response: HTTPStream,
    request: PreparedRequest,
    clock: Clock,
    redact: Redactor,
    *,
    limits: StreamLimits,
    habits: GatewayHabits,
    sent_at: float,
    begin_by: float,
) -> Coroutine[None, None, InferenceResponse]:
    """The whole answer, its chunks handed to the request's sink on the way.

    A refusal and an answer that is plain JSON are what they are without streaming; the latter
    goes to the sink as one chunk. `sent_at` and `begin_by` are in monotonic seconds; by the
    latter something must have come that is not blank. Raises InferenceError.
    """
    return _Reception(
        response,
        request,
        clock,
        redact,
        limits=limits,
        habits=habits,
        sent_at=sent_at,
        begin_by=begin_by,
    ).run()


class _Reception:
    # Thousands may be under way, and each piece of an answer comes through here.
    __slots__ = (
        "_asked",
        "_clock",
        "_decoder",
        "_first_token",
        "_habits",
        "_known_chunks",
        "_limits",
        "_live",
        "_monotonic",
        "_patient_until",
        "_pieces",
        "_pushed",
        "_put",
        "_reader",
        "_redact",
        "_request",
        "_response",
        "_sent_at",
        "_sink",
        "_stint",
        "_worked",
    )

    def __init__(
        self,
        response: HTTPStream,
        request: PreparedRequest,
        clock: Clock,
        redact: Redactor,
        *,
        limits: StreamLimits,
        habits: GatewayHabits,
        sent_at: float,
        begin_by: float,
    ) -> None:
        self._response = response
        self._request = request
        self._clock, self._monotonic = clock, clock.monotonic
        self._redact = redact
        self._limits, self._habits = limits, habits
        self._sent_at = sent_at
        self._first_token: float | None = None
        # Until when something must come that is more than a blank, in monotonic seconds.
        self._patient_until = begin_by
        # Work since the last pause, and the size of the piece that is worked on.
        self._stint = self._worked = 0
        # What undoes a compression that was not asked for, and the pieces that it has ready.
        self._decoder: BodyDecoder | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._asked: int | None = None
        self._live = response if isinstance(response, LiveStream) else None
        # The response while its events can be taken without waking this task.
        self._pushed: LiveStream | None = None
        self._sink = request.sink
        self._put = None if request.sink is None else request.sink.put
        # The last event of that API is the whole answer.
        largest = limits.max_response_bytes
        if largest > limits.max_event_bytes and not request.endpoint.endswith("/responses"):
            largest = limits.max_event_bytes
        self._reader = habits.forms.reader(
            request.endpoint, request.model, limits.max_response_bytes, largest
        )
        self._known_chunks = 0

    async def _next_piece(self) -> bytes | None:
        """The body as it comes, at most so much of it as is work for a stint; None at its end.

        It may be empty. Raises RequestTimeoutError when the request's deadline passes over work on
        what has come already.
        """
        if self._worked:
            await self._pause()
        try:
            piece = next(self._pieces, None)
            if piece is None:
                pushed = self._pushed
                if pushed is not None and await pushed.hand_on(
                    self._take, _STINT_BYTES, self._quick
                ):
                    # What was taken may be the last.
                    return b""
                piece = await self._read_on()
        except UndecodableBodyError as error:
            self._fail(f"the response {error}", error)
        if piece is not None:
            self._worked = len(piece) + _PIECE_BYTES
        return piece

    async def _read_on(self) -> bytes | None:
        while True:
            data = await self._response.read()
            decoder = self._decoder
            if decoder is None and len(data) <= _STINT_BYTES:
                return data or None
            if decoder is None:
                self._pieces = _cut(iter((data,)))
            elif data:
                self._pieces = _cut(decoder.feed(data))
            else:
                self._pieces, self._decoder = _cut(decoder.finish()), None
            piece = next(self._pieces, None)
            if piece is not None or not data:
                return piece

    async def _pause(self) -> None:
        """Let others go on: a few bytes may unpack to the work of minutes."""
        self._stint += self._worked
        self._worked = 0
        if self._stint >= _STINT_BYTES:
            self._stint = 0
            await asyncio.sleep(0)
            if self._monotonic() >= self._request.deadline:
                raise RequestTimeoutError("the gateway did not end its answer in time")

    async def run(self) -> InferenceResponse:
        if not 200 <= self._response.status_code <= 299:
            refusal = await self._refusal()
            return await interpret_aside(refusal, self._request, self._clock, self._redact)
        headers = self._response.headers
        if headers.has(b"content-encoding"):
            self._decode(headers.value("content-encoding"))
        # Nearly always there, without a coroutine for each step of the way to it.
        live, start = self._live, b""
        if live is not None and self._decoder is None:
            start = live.arrived(_STINT_BYTES)
            self._worked = len(start) and len(start) + _PIECE_BYTES
        start = usual_start(start) or await self._opening(start)
        self._require_size(len(start))
        if usual_start(start):
            return await self._read_events(start)
        kind = headers.value("content-type").partition(";")[0].strip().lower()
        telling = start.lstrip(BLANKS).removeprefix(BYTE_ORDER_MARK)
        # A gateway that forgets to say so may stream all the same, and one that says so may not.
        is_stream = kind == "text/event-stream" and not telling.startswith((b"{", b"["))
        if is_stream or telling.startswith(FIELDS):
            return await self._read_events(telling)
        return await self._read_whole(await self._collected(start))

    def _decode(self, coding: str) -> None:
        try:
            decoder = BodyDecoder(coding)
        except UndecodableBodyError as error:
            self._fail(f"the response {error}", error)
        self._decoder = None if decoder.is_plain else decoder

    async def _opening(self, first: bytes) -> bytes:
        """The bytes before those that tell a stream from JSON, and these."""
        piece = first or await self._next_piece()
        if piece is not None and usual_start(piece):
            return piece
        start, telling = bytearray(), b""
        while piece is not None:
            start += piece
            self._require_size(len(start))
            telling = (telling + piece).lstrip(BLANKS)[:TELLING]
            if len(telling) == TELLING:
                break
            self._require_life(is_alive=bool(telling))
            piece = await self._next_piece()
        return bytes(start)

    # --- a stream ---

    async def _read_events(self, start: bytes) -> InferenceResponse:
        reader, sink = self._reader, self._sink
        if self._decoder is None:
            self._pushed = self._live
        piece: bytes | None = start
        while piece is not None:
            self._read(piece)
            if reader.complete:
                self._habits.says_done = True
                break
            if sink is not None and sink.is_full:
                await sink.room()
            piece = await self._next(piece)
        for chunk in reader.end():
            if sink is not None:
                sink.put((chunk,), 1)
        body = reader.finish(1 if reader.complete else self._choices_asked())
        self._habits.forms.has_read(reader, self._request.endpoint, self._request.model, body)
        duration = self._monotonic() - self._request.started
        if self._pushed is not None and self._pushed.is_over:
            self._habits.body_ended(in_time=True)
        else:
            await self._read_farewell()
        return InferenceResponse(
            request_id=self._request.request_id,
            status_code=self._response.status_code,
            headers=self._response.headers,
            body=body,
            attempts=self._request.attempt,
            duration=duration,
            time_to_first_token=self._first_token,
        )

    def _take(self, piece: bytes) -> float:
        """Read what has just come, for `LiveStream.hand_on`."""
        ready = self._reader.ready
        read = 0 if ready is None else ready.take(piece, self._put)
        if read < len(piece):
            reader, known = self._reader, self._reader.chunks
            self._read(piece[read:])
            has_ended = self._has_ended()
            if reader.complete or (has_ended and not self._habits.says_done):
                return 0.0
            has_chunks = bool(read) or reader.chunks > known
            if has_ended and not has_chunks:
                self._known_chunks, until = reader.chunks, self._patience()
                return 0.0 if self._monotonic() >= until else until
            if not (has_chunks or piece.strip()):
                self._require_life(is_alive=False)
                return self._monotonic() + self._limits.idle_timeout
        until = self._patient_until = self._monotonic() + self._limits.idle_timeout
        return 0.0 if self._sink is not None and self._sink.is_full else until

    def _quick(self) -> EventTaker | None:
        """What takes events of which only the sink is to hear, for `LiveStream.hand_on`."""
        ready, sink = self._reader.ready, self._sink
        return ready if ready is None or sink is None else RepeatsForSink(ready, sink)

    def _read(self, piece: bytes) -> None:
        try:
            self._reader.take(piece, self._put)
        finally:
            if self._first_token is None and self._reader.generated:
                self._first_token = self._monotonic() - self._sent_at
                if self._request.on_first_token is not None:
                    self._request.on_first_token(self._first_token)

    async def _next(self, last: bytes) -> bytes | None:
        """What comes next; None at the end, or when an answer that has ended is only kept open."""
        chunks = self._reader.chunks
        has_chunks = chunks > self._known_chunks
        self._known_chunks = chunks
        if not self._has_ended():
            self._require_life(is_alive=has_chunks or bool(last.strip()))
            try:
                return await self._next_piece()
            except RequestTimeoutError:
                if not self._has_ended():
                    raise
                self._habits.says_done = False
                return None
        self._pushed = None
        # Now nothing but chunks is life: heartbeats may go on for ever.
        if has_chunks:
            wait = self._habits.wait_for_done(self._limits.idle_timeout)
            self._patient_until = self._monotonic() + wait
        try:
            async with asyncio.timeout(self._patient_until - self._monotonic()):
                return await self._next_piece()
        except (TimeoutError, RequestTimeoutError):
            self._habits.says_done = False
            return None

    def _has_ended(self) -> bool:
        """Whether every choice that was asked for has ended."""
        ended = self._reader.ended_choices
        return ended > 0 and ended >= self._choices_asked()

    def _choices_asked(self) -> int:
        if self._asked is None:
            self._asked = choices_asked(self._request.body)
        return self._asked

    def _require_life(self, *, is_alive: bool) -> None:
        now = self._monotonic()
        if is_alive:
            self._patient_until = now + self._limits.idle_timeout
        elif now >= self._patience():
            raise RequestTimeoutError(
                "the gateway sent nothing but blanks until it was too late", code="idle_timeout"
            )

    def _patience(self) -> float:
        """Until when something must come that is more than a blank."""
        if self._pushed is not None:
            self._patient_until = max(self._patient_until, self._pushed.alive_until)
        return self._patient_until

    async def _read_farewell(self) -> None:
        """Its end, which makes the connection reusable."""
        self._pushed = None
        try:
            async with asyncio.timeout(self._habits.wait_for_end()):
                while await self._next_piece() is not None:
                    pass
        except (TimeoutError, InferenceError):
            # The answer is complete; only its connection is not worth keeping.
            self._habits.body_ended(in_time=False)
        else:
            self._habits.body_ended(in_time=True)

    # --- one body ---

    async def _collected(self, start: bytes) -> bytes:
        body = bytearray(start)
        while (piece := await self._next_piece()) is not None:
            body += piece
            self._require_size(len(body))
            self._require_life(is_alive=bool(piece.strip()))
        return bytes(body)

    def _require_size(self, size: int) -> None:
        limit = self._limits.max_response_bytes
        if size > limit:
            raise too_large_error("the response", limit, self._response.status_code)

    async def _refusal(self) -> HTTPResponse:
        """The same as without streaming: its status counts, whatever its body."""
        response, limit = self._response, self._limits.max_response_bytes
        status, headers, body = response.status_code, response.headers, bytearray()
        while data := await response.read():
            body += data
            if len(body) > limit:
                return HTTPResponse(status, headers, b"", undecodable=too_large(limit))
        coding = headers.get("content-encoding", "")
        return await unpacked(HTTPResponse(status, headers, bytes(body), coding), "", limit)

    async def _read_whole(self, body: bytes) -> InferenceResponse:
        whole = HTTPResponse(self._response.status_code, self._response.headers, body)
        response = await interpret_aside(whole, self._request, self._clock, self._redact)
        if self._sink is not None:
            self._sink.put((self._reader.chunk_of_body(response.body),), 1)
        return response

    def _fail(self, message: str, cause: Exception | None) -> Never:
        raise BadResponseError(message, status_code=self._response.status_code, cause=cause)


def _cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece) or 1, _STINT_BYTES):
            yield piece[start : start + _STINT_BYTES]
