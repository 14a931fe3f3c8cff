"""One attempt at a streamed answer: from the open response to the assembled one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Never

import msgspec

from batch_gateway.client.answer import interpret
from batch_gateway.client.clock import Clock
from batch_gateway.client.http.body_decoder import BodyDecoder, UndecodableBodyError
from batch_gateway.client.http.connection_errors import too_large, too_large_error
from batch_gateway.client.http.content_coding import unpacked
from batch_gateway.client.http.exchange import HTTPResponse, HTTPStream
from batch_gateway.client.redaction import Redactor
from batch_gateway.client.request import InferenceResponse
from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.client.transport import PreparedRequest
from batch_gateway.errors import BadResponseError, InferenceError
from batch_gateway.wire.chunks import decode_json

__all__ = ["StreamLimits", "receive"]

# After `[DONE]` the body ends, or should. Waiting for it makes the connection reusable.
_FAREWELL_SECONDS = 1.0

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a stream may be silent once it has begun, in seconds, and how large it may be."""

    idle_timeout: float
    max_event_bytes: int
    max_response_bytes: int


async def receive(
    response: HTTPStream,
    request: PreparedRequest,
    clock: Clock,
    redact: Redactor,
    *,
    limits: StreamLimits,
    sent_at: float,
) -> InferenceResponse:
    """The whole answer, its chunks handed to the request's sink on the way.

    A refusal and an answer that is plain JSON are what they are without streaming; the latter
    goes to the sink as one chunk. Raises InferenceError.
    """
    reception = _Reception(response, request, clock, redact, limits=limits, sent_at=sent_at)
    async with aclosing(reception.pieces()) as pieces:
        return await reception.run(pieces)


class _Reception:
    def __init__(
        self,
        response: HTTPStream,
        request: PreparedRequest,
        clock: Clock,
        redact: Redactor,
        *,
        limits: StreamLimits,
        sent_at: float,
    ) -> None:
        self._response = response
        self._request = request
        self._clock = clock
        self._redact = redact
        self._limits = limits
        self._sent_at = sent_at
        self._first_token: float | None = None

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes, without a compression that was not asked for."""
        try:
            decoder = BodyDecoder(self._response.headers.get("content-encoding", ""))
            while data := await self._response.read():
                for piece in decoder.feed(data):
                    yield piece
            for piece in decoder.finish():
                yield piece
        except UndecodableBodyError as error:
            self._fail(f"the response {error}", error)

    async def run(self, pieces: AsyncGenerator[bytes]) -> InferenceResponse:
        if not 200 <= self._response.status_code <= 299:
            refusal = await self._refusal()
            return interpret(refusal, self._request, self._clock, self._redact)
        kind = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return await self._read_events(pieces, b"")
        start = b""
        async for piece in pieces:
            start += piece
            # A gateway that forgets to say so may stream all the same.
            if start.lstrip().startswith(_FIELDS):
                return await self._read_events(pieces, start)
            if len(start.lstrip()) > len(max(_FIELDS, key=len)):
                break
        return await self._read_whole(await self._collected(pieces, start))

    # --- a stream ---

    async def _read_events(self, pieces: AsyncGenerator[bytes], start: bytes) -> InferenceResponse:
        reader = self._reader()
        await self._take(reader, start)
        while not reader.complete:
            piece = await anext(pieces, None)
            if piece is None:
                break
            await self._take(reader, piece)
        body = reader.finish()
        duration = self._clock.monotonic() - self._request.started
        await self._read_farewell(pieces)
        return InferenceResponse(
            request_id=self._request.request_id,
            status_code=self._response.status_code,
            headers=self._response.headers,
            body=body,
            attempts=self._request.attempt,
            duration=duration,
            time_to_first_token=self._first_token,
        )

    async def _take(self, reader: AnswerReader, data: bytes) -> None:
        for value in reader.feed(data):
            if reader.generated and self._first_token is None:
                self._first_token = self._clock.monotonic() - self._sent_at
                if self._request.on_first_token is not None:
                    self._request.on_first_token(self._first_token)
            if self._request.sink is not None:
                await self._request.sink.put(reader.typed(value))

    async def _read_farewell(self, pieces: AsyncGenerator[bytes]) -> None:
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                async for _ in pieces:
                    pass
        except (TimeoutError, InferenceError):
            # The answer is complete; only its connection is not worth keeping.
            return

    # --- one body ---

    async def _collected(self, pieces: AsyncGenerator[bytes], start: bytes) -> bytes:
        body, limit = bytearray(start), self._limits.max_response_bytes
        async for piece in pieces:
            if len(body) + len(piece) > limit:
                raise too_large_error("the response", limit, self._response.status_code)
            body += piece
        return bytes(body)

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

    def _reader(self) -> AnswerReader:
        limits, endpoint = self._limits, self._request.endpoint
        largest = limits.max_response_bytes
        # The last event of that API is the whole answer.
        if not endpoint.endswith("/responses"):
            largest = min(largest, limits.max_event_bytes)
        return AnswerReader(endpoint, limits.max_response_bytes, largest)

    def _interpreted(self, body: bytes) -> InferenceResponse:
        whole = HTTPResponse(self._response.status_code, self._response.headers, body)
        return interpret(whole, self._request, self._clock, self._redact)

    async def _read_whole(self, body: bytes) -> InferenceResponse:
        response = self._interpreted(body)
        if self._request.sink is not None:
            reader = self._reader()
            value: Any = decode_json(body)
            await self._request.sink.put(reader.assembler.chunk_of_body(value))
        return response

    def _fail(self, message: str, cause: Exception | None) -> Never:
        raise BadResponseError(message, status_code=self._response.status_code, cause=cause)
