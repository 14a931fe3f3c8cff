"""The bytes of an event stream in, the chunks of an answer and at last its body out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Never, cast

from batch_gateway.client.streaming.assemble import (
    AnswerTooLargeError,
    Assembler,
    IncompleteAnswerError,
    MalformedDeltaError,
    assembler_for,
)
from batch_gateway.client.streaming.error_event import error_of_event, reported_error
from batch_gateway.client.streaming.keep_alive import (
    is_busy_text,
    is_busy_value,
    names_busy_event,
)
from batch_gateway.errors import BadResponseError
from batch_gateway.http.connection_errors import too_large_error
from batch_gateway.http.response_errors import error_of_fault
from batch_gateway.wire.answer_judge import judge_answer
from batch_gateway.wire.chunks import Chunk, decode_json
from batch_gateway.wire.error_body import short_text
from batch_gateway.wire.refusals import EVENT_TOO_LARGE
from batch_gateway.wire.sse import (
    MAX_EVENT_BYTES,
    EventTooLargeError,
    IdleStreamError,
    ServerSentEvent,
    SSEDecoder,
)

__all__ = ["AnswerReader"]

_DONE = b"[DONE]"
# How else servers write it.
_LAST_WORD = re.compile(rb"\W*(?:done|eos|eof|end)\W*", re.IGNORECASE)
# Some frameworks frame as data what the program had framed already.
_PREFIXES = re.compile(rb"(?:data:\s*)+")
_UNNAMED = "message"
# No server nests its chunks so deep, and whoever reads the answer has a limit, too.
_DEEPEST = 200
_TOO_DEEP = "it is nested too deeply"


class AnswerReader:
    """Reads one streamed answer.

    Everything that can go wrong is raised as an InferenceError: a stream that ends early, an
    event that is not JSON or no chunk, an error event, an event or answer over its limit. It is
    worth a retry, but for the limits, and for what an error event says of the request.

    Attributes:
        assembler: what has arrived of the answer.
        chunks: how many chunks that is.
        generated: whether something generated has arrived.
    """

    def __init__(
        self,
        endpoint: str,
        max_answer_bytes: int,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.assembler: Assembler = assembler_for(endpoint, max_answer_bytes)
        self.chunks = 0
        self.generated = False
        self._decoder = SSEDecoder(max_event_bytes, max_answer_bytes)
        self._max_answer = max_answer_bytes
        self._max_event = max_event_bytes
        self._endpoint = endpoint

    @property
    def complete(self) -> bool:
        """Whether the server said that nothing more follows."""
        return self.assembler.complete

    @property
    def ended_choices(self) -> int:
        """How many choices there are, when every one of them has ended; else 0."""
        return self.assembler.ended_choices()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The chunks that `data` completes. Nothing is read after the last one of an answer."""
        return self._chunks_of(self._decoder.feed(data))

    @property
    def is_between_events(self) -> bool:
        """Whether what comes next is not joined to anything before it."""
        return self._decoder.is_between_events

    def has_read(self, chunks: int) -> None:
        """So many chunks more, with something generated in each, are in the assembler already."""
        self.chunks += chunks
        self._decoder.idle_bytes = 0

    def end(self) -> Iterator[dict[str, Any]]:
        """The chunks that the end of the stream completes, where only an empty line was missing."""
        last = self._decoder.end()
        return self._chunks_of(
            event for event in last if event.event == "error" or _is_whole(event.data)
        )

    def typed(self, value: dict[str, Any]) -> Chunk:
        """A chunk that `feed` gave, for whoever reads them."""
        try:
            return self.assembler.chunk(value)
        except (ValueError, RecursionError) as error:
            self._fail_unreadable(error)

    def chunk_of_body(self, body: bytes) -> Chunk:
        """A whole answer as one chunk, for a server that did not stream."""
        try:
            value: Any = decode_json(body)
            return self.assembler.chunk_of_body(value)
        except (ValueError, RecursionError) as error:
            self._fail_unreadable(error)

    def finish(self, choices: int = 1) -> bytes:
        """The body of the whole answer, when the stream has ended of itself.

        Without `[DONE]` there must be so many `choices`: a server or proxy that breaks off may
        end the stream in good form.
        """
        for _ in self.end():
            pass
        try:
            body = self.assembler.body()
        except IncompleteAnswerError as error:
            self._fail_early(str(error), error)
        if not self.complete and self.ended_choices < choices:
            missing = f"there were {self.ended_choices} choices of the {choices} asked for"
            self._fail_early(missing, None)
        fault = judge_answer(self._endpoint, body)
        if fault is not None:
            raise error_of_fault(fault, 200, body)
        return body

    def _chunks_of(self, events: Iterator[ServerSentEvent]) -> Iterator[dict[str, Any]]:
        while not self.assembler.complete:
            try:
                event = next(events, None)
                if event is None:
                    return
                value = self._take(event)
            except EventTooLargeError as error:
                self._fail_event_size(error)
            except IdleStreamError as error:
                self._fail(f"{error} (max_response_bytes)", "idle_stream", error)
            if value is not None:
                yield value

    def _take(self, event: ServerSentEvent) -> dict[str, Any] | None:
        data = event.data.strip()
        if data == _DONE:
            self.assembler.end()
            return None
        value = self._chunk_in(event, data)
        if value is None:
            self._decoder.idle(len(data))
            return None
        try:
            generated = self.assembler.add(value)
        except MalformedDeltaError as problem:
            self._fail_chunk(event, str(problem), problem)
        except RecursionError as problem:
            self._fail_chunk(event, _TOO_DEEP, problem)
        except AnswerTooLargeError as problem:
            raise too_large_error("the streamed answer", self._max_answer, 200) from problem
        if generated:
            self.generated = True
            self._decoder.idle_bytes = 0
        else:
            self._decoder.idle(len(data))
        self.chunks += 1
        return value

    def _chunk_in(self, event: ServerSentEvent, data: bytes) -> dict[str, Any] | None:
        """What an event says of the answer; None when it only kept the connection busy."""
        try:
            value: Any = self.assembler.decode(data) if data else None
        except ValueError as error:
            if data.startswith(b"data:"):
                return self._chunk_in(event, _PREFIXES.sub(b"", data, count=1))
            return self._unreadable(event, data, error)
        if len(data) > 2 * _DEEPEST and _is_too_deep(data, value):
            self._fail_chunk(event, _TOO_DEEP, None)
        name = "" if event.event == _UNNAMED else event.event
        if not isinstance(value, dict):
            return self._unusual(event, name, data, value)
        fields = cast("dict[str, Any]", value)
        # Nearly all are such, and need no more tests.
        if "error" not in fields:
            if not name and fields.get("choices"):
                return fields
            kind: Any = fields.get("type")
            if type(kind) is str and kind.endswith(".delta") and name in (kind, ""):
                return fields
        return self._unusual(event, name, data, fields)

    def _unusual(
        self, event: ServerSentEvent, name: str, data: bytes, value: object
    ) -> dict[str, Any] | None:
        if names_busy_event(name):
            return None
        said = reported_error(value, data, name)
        if said is not None:
            raise error_of_event(said, midway=self.generated)
        if is_busy_value(value):
            return None
        if isinstance(value, str):
            return self._unreadable(event, value.encode("utf-8", "replace"), None)
        if not isinstance(value, dict):
            self._fail_chunk(event, "it is not an object", None)
        return self.assembler.chunk_of_event(cast("dict[str, Any]", value), name)

    def _unreadable(self, event: ServerSentEvent, data: bytes, cause: ValueError | None) -> None:
        if event.event == "error":
            raise error_of_event(data, midway=self.generated)
        if _LAST_WORD.fullmatch(data):
            self.assembler.end()
        elif not (names_busy_event(event.event) or is_busy_text(data)):
            self._fail_chunk(event, "it is not JSON", cause)

    def _fail_chunk(self, event: ServerSentEvent, problem: str, cause: Exception | None) -> Never:
        start = short_text(event.data[:400].decode("utf-8", "replace"), 60)
        self._fail(
            f"chunk {self.chunks + 1} of the stream is broken: {short_text(problem, 120)};"
            f" it starts {start!r}",
            "broken_chunk",
            cause,
        )

    def _fail_unreadable(self, cause: Exception) -> Never:
        self._fail(f"the answer cannot be read: it is {cause}", "broken_chunk", cause)

    def _fail_early(self, missing: str, cause: Exception | None) -> Never:
        message = f"the stream ended early: {missing} (after {self.chunks} chunks)"
        self._fail(message, "incomplete_stream", cause)

    def _fail_event_size(self, cause: EventTooLargeError) -> Never:
        setting = "max_event_bytes" if self._max_event < self._max_answer else "max_response_bytes"
        option = f"--{setting.replace('_', '-')}"
        message = f"{cause}; raise {setting} if such events are wanted ({option})"
        self._fail(message, EVENT_TOO_LARGE, cause, final=True)

    def _fail(
        self, message: str, code: str, cause: Exception | None, *, final: bool = False
    ) -> Never:
        raise BadResponseError(
            message,
            # What was too large once will be so again.
            is_retryable=not final,
            status_code=200,
            code=code,
            cause=cause,
        )


def _is_whole(data: bytes) -> bool:
    try:
        return data.strip() == _DONE or isinstance(decode_json(data), dict)
    except ValueError:
        return False


def _is_too_deep(data: bytes, value: object) -> bool:
    if data.count(b"{") + data.count(b"[") <= _DEEPEST:
        return False
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in _containers(one)]
        if not level:
            return False
    return True


def _containers(value: object) -> list[object]:
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    return [one for one in inner if isinstance(one, dict | list)]
