"""The bytes of an event stream in, the chunks of an answer and at last its body out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Never, cast

from batch_gateway.client.sse import (
    MAX_EVENT_BYTES,
    EventTooLargeError,
    ServerSentEvent,
    SSEDecoder,
)
from batch_gateway.client.streaming.assemble import (
    AnswerTooLargeError,
    Assembler,
    IncompleteAnswerError,
    MalformedDeltaError,
    assembler_for,
)
from batch_gateway.client.streaming.error_event import error_of_event, reported_error
from batch_gateway.errors import BadResponseError
from batch_gateway.wire.chunks import Chunk, decode_json, encode_json
from batch_gateway.wire.error_body import short_text

__all__ = ["AnswerReader"]

_DONE = b"[DONE]"


class AnswerReader:
    """Reads one streamed answer.

    Everything that can go wrong is raised as an InferenceError that is worth a retry, except that
    an error event may say otherwise before anything was generated: a stream that ends early, an
    event that is not JSON or no chunk, an error event, an event or answer over its limit.

    Attributes:
        assembler: what has arrived of the answer.
        chunks: how many chunks that is.
        generated: whether something generated has arrived.
    """

    def __init__(
        self, endpoint: str, max_answer_bytes: int, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self.assembler: Assembler = assembler_for(endpoint, max_answer_bytes)
        self.chunks = 0
        self.generated = False
        self._decoder = SSEDecoder(max_event_bytes)
        self._max_answer = max_answer_bytes

    @property
    def complete(self) -> bool:
        """Whether the server said that nothing more follows."""
        return self.assembler.complete

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The chunks that `data` completes. Nothing is read after the last one of an answer."""
        events = self._decoder.feed(data)
        while not self.complete:
            try:
                event = next(events, None)
            except EventTooLargeError as error:
                self._fail(str(error), "event_too_large", error)
            if event is None:
                return
            value = self._take(event)
            if value is not None:
                yield value

    def typed(self, value: dict[str, Any]) -> Chunk:
        """A chunk that `feed` gave, for whoever reads them."""
        try:
            return self.assembler.chunk(value)
        except MalformedDeltaError as error:
            start = ServerSentEvent(encode_json(value))
            self._fail_chunk(start, str(error), error)

    def finish(self) -> bytes:
        """The body of the whole answer, when the stream has ended."""
        try:
            return self.assembler.body()
        except IncompleteAnswerError as error:
            self._fail(f"the stream ended early: {error}", "incomplete_stream", error)

    def _take(self, event: ServerSentEvent) -> dict[str, Any] | None:
        if event.data.strip() == _DONE:
            self.assembler.end()
            return None
        if not event.data.strip() or event.event == "ping":
            return None  # sent to keep the connection busy
        value = self._decoded(event)
        error = reported_error(value, event.event)
        if error is not None:
            raise error_of_event(error, midway=self.generated)
        try:
            self.generated = self.assembler.add(value) or self.generated
        except MalformedDeltaError as problem:
            self._fail_chunk(event, str(problem), problem)
        except AnswerTooLargeError as problem:
            limit = f"max_response_bytes ({self._max_answer} bytes)"
            self._fail(f"the streamed answer is larger than {limit}", "bad_response", problem)
        self.chunks += 1
        return value

    def _decoded(self, event: ServerSentEvent) -> dict[str, Any]:
        try:
            value = decode_json(event.data)
        except ValueError as error:
            if event.event == "error":
                return {"message": event.text}
            self._fail_chunk(event, "it is not JSON", error)
        if not isinstance(value, dict):
            self._fail_chunk(event, "it is not an object", None)
        return cast("dict[str, Any]", value)

    def _fail_chunk(self, event: ServerSentEvent, problem: str, cause: Exception | None) -> Never:
        start = short_text(event.data[:80].decode("utf-8", "replace"), 60)
        self._fail(
            f"chunk {self.chunks + 1} of the stream is broken: {short_text(problem, 120)};"
            f" it starts {start!r}",
            "broken_chunk",
            cause,
        )

    def _fail(self, message: str, code: str, cause: Exception | None) -> Never:
        raise BadResponseError(
            f"{message} (after {self.chunks} chunks)" if code == "incomplete_stream" else message,
            status_code=200,
            code=code,
            cause=cause,
        )
