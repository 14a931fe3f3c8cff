"""Chunks of a streamed answer to the body that the same request gets without streaming. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from batch_gateway.client.streaming.choices import ChatAssembler, CompletionAssembler
from batch_gateway.client.streaming.merging import (
    AnswerTooLargeError,
    GrowingText,
    IncompleteAnswerError,
    MalformedDeltaError,
)
from batch_gateway.client.streaming.request_body import STREAMABLE, require_streamable
from batch_gateway.client.streaming.responses_api import ResponsesAssembler
from batch_gateway.wire.chunks import Chunk

__all__ = [
    "AnswerTooLargeError",
    "Assembler",
    "IncompleteAnswerError",
    "MalformedDeltaError",
    "assemble",
    "assembler_for",
]

_DONE = b"[DONE]"
_NO_LIMIT = 2**62


class Assembler(Protocol):
    """Takes in the chunks of one answer in the order they came, and makes the body of them."""

    @property
    def complete(self) -> bool:
        """Whether the server said that nothing more follows."""
        ...

    def ended_choices(self) -> int:
        """How many choices there are, when every one of them has ended; else 0."""
        ...

    def decode(self, data: bytes) -> Any:
        """The value of an event's data. Raises ValueError for what is not JSON."""
        ...

    def chunk_of_event(self, value: dict[str, Any], name: str) -> dict[str, Any] | None:
        """The chunk in an event that is none by its looks; None when there is none.

        `name` is that of the event, empty when it has none.
        """
        ...

    def add(self, value: Mapping[str, Any]) -> bool:
        """Take in a chunk; whether something generated is in it.

        Raises MalformedDeltaError for what is no chunk, AnswerTooLargeError past the limit.
        """
        ...

    def grown_by(self, value: Mapping[str, Any]) -> tuple[GrowingText, str] | None:
        """The text that the chunk that was added last has made longer, and by what.

        None where the same chunk, were it added once more, would change anything else.
        """
        ...

    def end(self) -> None:
        """The server said `[DONE]`."""
        ...

    def chunk(self, value: Mapping[str, Any]) -> Chunk:
        """The same chunk for whoever reads it."""
        ...

    def chunk_of_body(self, body: dict[str, Any]) -> Chunk:
        """A whole answer as one chunk, for a server that did not stream."""
        ...

    def body(self) -> bytes:
        """The JSON of the whole answer, once. Raises IncompleteAnswerError."""
        ...


def assemble(endpoint: str, events: Iterable[bytes]) -> bytes:
    """The body that the data of these events make, `[DONE]` included.

    Raises IncompleteAnswerError, MalformedDeltaError, and ValueError for what is not JSON.
    """
    assembler = assembler_for(endpoint, _NO_LIMIT)
    for data in events:
        if data == _DONE:
            assembler.end()
        else:
            assembler.add(assembler.decode(data))
    return assembler.body()


def assembler_for(endpoint: str, limit: int) -> Assembler:
    """The assembler of an endpoint's answers, of at most `limit` bytes.

    Raises InvalidRequestError for endpoints that do not stream.
    """
    require_streamable(endpoint)
    return next(kind(limit) for path, kind in _KINDS.items() if endpoint.endswith(path))


_KINDS: dict[str, type[ChatAssembler | CompletionAssembler | ResponsesAssembler]] = dict(
    zip(STREAMABLE, (ChatAssembler, CompletionAssembler, ResponsesAssembler), strict=True)
)
