"""One attempt at a streamed answer: from the open response to the assembled one."""

from __future__ import annotations

import asyncio
from typing import Never

from batch_gateway.client.interfaces.interpret_answer import interpret_aside
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.gateway_habits import GatewayHabits
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.client.streaming.pieces import STINT_BYTES, Pieces
from batch_gateway.client.streaming.repeats import RepeatsForSink
from batch_gateway.client.streaming.request_body import choices_asked
from batch_gateway.client.streaming.stream_start import BLANKS, FIELDS, TELLING, usual_start
from batch_gateway.clock import Clock
from batch_gateway.errors import BadResponseError, InferenceError, RequestTimeoutError
from batch_gateway.http.body_decoder import BodyDecoder, UndecodableBodyError
from batch_gateway.http.connection_errors import too_large, too_large_error
from batch_gateway.http.content_coding import unpacked
from batch_gateway.http.exchange import EventTaker, HandOn, HTTPResponse, HTTPStream, LiveStream
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.json_check import BYTE_ORDER_MARK

__all__ = ["Reception", "StreamReader"]

_CODING = b"content-encoding"


class StreamReader:
    """What all streamed answers of one gateway are read with."""

    __slots__ = ("clock", "habits", "limits", "monotonic", "redact")

    def __init__(
        self, clock: Clock, redact: Redactor, limits: StreamLimits, habits: GatewayHabits
    ) -> None:
        self.clock, self.monotonic = clock, clock.monotonic
        self.redact = redact
        self.limits = limits
        self.habits = habits


class Reception:
    """Reads one answer, and hands its chunks to the request's sink on the way.

    A refusal and an answer that is plain JSON are what they are without streaming; the latter
    goes to the sink as one chunk. `sent_at` and `begin_by` are in monotonic seconds; by the
    latter something must have come that is not blank.
    """

    # Thousands may be under way, and each piece of an answer comes through here.
    __slots__ = (
        "_asked",
        "_by",
        "_first_token",
        "_has_begun",
        "_known_chunks",
        "_monotonic",
        "_patient_until",
        "_pieces",
        "_pushed",
        "_put",
        "_reader",
        "_request",
        "_response",
        "_sent_at",
        "_sink",
    )
    _response: HTTPStream

    def __init__(
        self, by: StreamReader, request: PreparedRequest, sent_at: float, begin_by: float
    ) -> None:
        self._by, self._monotonic = by, by.monotonic
        self._request = request
        self._sent_at = sent_at
        self._first_token: float | None = None
        # Until when something must come that is more than a blank, in monotonic seconds.
        self._patient_until = begin_by
        # Reads what is not handed on.
        self._pieces: Pieces | None = None
        self._asked: int | None = None
        # Whether it has read something before it was to `run`.
        self._has_begun = False
        # The response while its events can be taken without waking this task.
        self._pushed: LiveStream | None = None
        sink = self._sink = request.sink
        self._put = None if sink is None else sink.put
        limits, endpoint = by.limits, request.endpoint
        most = largest = limits.max_response_bytes
        # The last event of that API is the whole answer.
        if largest > limits.max_event_bytes and not endpoint.endswith("/responses"):
            largest = limits.max_event_bytes
        self._reader = by.habits.forms.reader(endpoint, request.model, most, largest)
        # Less than there may be: what an answer begins with is life, be it half an event.
        self._known_chunks = -1

    def begin(self, response: HTTPStream) -> HandOn | None:
        """Read the answer from its first event on, as an `Early` does."""
        is_plain = response.status_code == 200 and not response.headers.has(_CODING)
        if not is_plain or not isinstance(response, LiveStream):
            return None
        self._response = self._pushed = response
        return self._hand_on

    @property
    def _hand_on(self) -> HandOn:
        return self._take, STINT_BYTES, self._quick

    async def _next_piece(self) -> bytes | None:
        """The body as it comes; see `Pieces.next`. Raises RequestTimeoutError as that does."""
        pieces = self._pieces or self._read_by(None)
        try:
            return await pieces.next(self._pushed, self._hand_on)
        except UndecodableBodyError as error:
            self._fail(f"the response {error}", error)

    def _read_by(self, decoder: BodyDecoder | None) -> Pieces:
        deadline = self._request.deadline
        pieces = self._pieces = Pieces(self._response, decoder, self._monotonic, deadline)
        return pieces

    async def run(self, response: HTTPStream) -> InferenceResponse:
        """The whole answer. Raises InferenceError."""
        if self._has_begun:
            return await self._read_events(b"")
        self._response, self._pushed = response, None
        if not 200 <= response.status_code <= 299:
            refusal = await self._refusal()
            by = self._by
            return await interpret_aside(refusal, self._request, by.clock, by.redact)
        headers, decoder = response.headers, None
        if headers.has(_CODING):
            decoder = self._decoder(headers.value("content-encoding"))
        pieces, start = self._read_by(decoder), b""
        live = response if decoder is None and isinstance(response, LiveStream) else None
        # Nearly always there, without a coroutine for each step of the way to it.
        if live is not None:
            start = pieces.arrived(live)
        start = usual_start(start) or await self._opening(start)
        self._require_size(len(start))
        if usual_start(start):
            self._pushed = live
            return await self._read_events(start)
        kind = headers.value("content-type").partition(";")[0].strip().lower()
        telling = start.lstrip(BLANKS).removeprefix(BYTE_ORDER_MARK)
        # A gateway that forgets to say so may stream all the same, and one that says so may not.
        is_stream = kind == "text/event-stream" and not telling.startswith((b"{", b"["))
        if is_stream or telling.startswith(FIELDS):
            self._pushed = live
            return await self._read_events(telling)
        return await self._read_whole(await self._collected(start))

    def _decoder(self, coding: str) -> BodyDecoder | None:
        try:
            decoder = BodyDecoder(coding)
        except UndecodableBodyError as error:
            self._fail(f"the response {error}", error)
        return None if decoder.is_plain else decoder

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
        reader, sink, habits = self._reader, self._sink, self._by.habits
        self._has_begun = True
        piece: bytes | None = start
        while piece is not None:
            if piece:
                self._read(piece)
            if reader.complete:
                habits.says_done = True
                break
            if sink is not None and sink.is_full:
                await sink.room()
            piece = await self._next(piece)
        if reader.complete:
            body = reader.finish()
        else:
            for chunk in reader.end():
                if sink is not None:
                    sink.put((chunk,), 1)
            body = reader.finish(1 if reader.complete else self._choices_asked())
        request, response, pushed = self._request, self._response, self._pushed
        habits.forms.has_read(reader, request.endpoint, request.model, body)
        duration = self._monotonic() - request.started
        if pushed is not None and pushed.is_over:
            habits.body_ended(in_time=True)
        else:
            await self._read_farewell()
        return InferenceResponse(
            request_id=request.request_id,
            status_code=response.status_code,
            headers=response.headers,
            body=body,
            attempts=request.attempt,
            duration=duration,
            time_to_first_token=self._first_token,
        )

    def _take(self, piece: bytes) -> float:
        """Read what has just come, for `LiveStream.hand_on`; less than 0: not its beginning."""
        if not (self._has_begun or self._begins(piece)):
            return -1.0
        reader = self._reader
        # The first token is to be told of.
        read = 0 if self._first_token is None else reader.take_known(piece, self._put)
        has_chunks = bool(read)
        if read < len(piece):
            known = reader.chunks
            self._read(piece[read:])
            has_chunks = has_chunks or reader.chunks > known
        if reader.complete:
            return 0.0
        says_done = self._by.habits.says_done
        # What was asked for is looked at only where it matters.
        if not (has_chunks and says_done) and self._has_ended():
            if not says_done:
                return 0.0
            self._known_chunks, until = reader.chunks, self._patience()
            return 0.0 if self._monotonic() >= until else until
        if not (has_chunks or piece.strip()):
            self._require_life(is_alive=False)
            return self._monotonic() + self._by.limits.idle_timeout
        until = self._patient_until = self._monotonic() + self._by.limits.idle_timeout
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
                self._by.habits.says_done = False
                return None
        self._pushed = None
        # Now nothing but chunks is life: heartbeats may go on for ever.
        if has_chunks:
            wait = self._by.habits.wait_for_done(self._by.limits.idle_timeout)
            self._patient_until = self._monotonic() + wait
        try:
            async with asyncio.timeout(self._patient_until - self._monotonic()):
                return await self._next_piece()
        except (TimeoutError, RequestTimeoutError):
            self._by.habits.says_done = False
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
            self._patient_until = now + self._by.limits.idle_timeout
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
            async with asyncio.timeout(self._by.habits.wait_for_end()):
                while await self._next_piece() is not None:
                    pass
        except (TimeoutError, InferenceError):
            # The answer is complete; only its connection is not worth keeping.
            self._by.habits.body_ended(in_time=False)
        else:
            self._by.habits.body_ended(in_time=True)

    # --- one body ---

    async def _collected(self, start: bytes) -> bytes:
        body = bytearray(start)
        while (piece := await self._next_piece()) is not None:
            body += piece
            self._require_size(len(body))
            self._require_life(is_alive=bool(piece.strip()))
        return bytes(body)

    def _begins(self, piece: bytes) -> bool:
        is_usual = bool(usual_start(piece)) and len(piece) <= self._by.limits.max_response_bytes
        self._has_begun = is_usual
        return is_usual

    def _require_size(self, size: int) -> None:
        limit = self._by.limits.max_response_bytes
        if size > limit:
            raise too_large_error("the response", limit, self._response.status_code)

    async def _refusal(self) -> HTTPResponse:
        """The same as without streaming: its status counts, whatever its body."""
        response, limit = self._response, self._by.limits.max_response_bytes
        status, headers, body = response.status_code, response.headers, bytearray()
        while data := await response.read():
            body += data
            if len(body) > limit:
                return HTTPResponse(status, headers, b"", undecodable=too_large(limit))
        coding = headers.get("content-encoding", "")
        return await unpacked(HTTPResponse(status, headers, bytes(body), coding), "", limit)

    async def _read_whole(self, body: bytes) -> InferenceResponse:
        whole = HTTPResponse(self._response.status_code, self._response.headers, body)
        response = await interpret_aside(whole, self._request, self._by.clock, self._by.redact)
        if self._sink is not None:
            self._sink.put((self._reader.chunk_of_body(response.body),), 1)
        return response

    def _fail(self, message: str, cause: Exception | None) -> Never:
        raise BadResponseError(message, status_code=self._response.status_code, cause=cause)
