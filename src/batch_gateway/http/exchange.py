"""The seam between the client's layers and whatever speaks HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from batch_gateway.wire.headers import Headers

__all__ = [
    "Early",
    "EventTaker",
    "HTTPExchanger",
    "HTTPResponse",
    "HTTPStream",
    "HandOn",
    "LiveStream",
    "QuickTaker",
    "TakeChunk",
]


class HTTPResponse(msgspec.Struct, frozen=True, gc=False):
    """A whole HTTP response, of any status.

    Attributes:
        coding: the Content-Encoding that the body is still in; empty once an exchanger hands
            the response out.
        undecodable: of a refusal, why its body could not be decoded, as the end of a sentence;
            the body is then as it came.
    """

    status_code: int
    headers: Headers
    body: bytes
    coding: str = ""
    undecodable: str = ""


class HTTPStream(Protocol):
    """A response whose head has arrived and whose body is read as it comes."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    async def read(self) -> bytes:
        """The next bytes of the body, as they came off the wire; b"" at its end.

        While nobody reads, no more than some hundred KiB are taken from the socket. Raises as
        `HTTPExchanger.post` does, and RequestTimeoutError with the code `idle_timeout`.
        """
        ...


TakeChunk = Callable[[bytes], int]


class EventTaker(Protocol):
    """Takes events of a kind that it knows."""

    def take_chunk(self, data: bytes, /) -> int:
        """The size of the event, where `data` is a chunk of the transfer coding with it; else 0."""
        ...

    def take(self, data: bytes, /) -> int:
        """How much of `data`, from its beginning, is such events, which have then been taken."""
        ...


QuickTaker = Callable[[], EventTaker | None]


class LiveStream:
    """An `HTTPStream` that can hand on what comes without waking a task for each piece."""

    __slots__ = ()

    @property
    def is_over(self) -> bool:
        """Whether the body has come to its end, and all of it was read."""
        raise NotImplementedError

    @property
    def alive_until(self) -> float:
        """As `take` of `hand_on` returns it, for what was taken otherwise; not above 0 without."""
        return 0.0

    def arrived(self, most: int) -> bytes:
        """What `read` would return at once, if it is no more than `most` bytes; else b""."""
        return b""

    async def hand_on(
        self, take: Callable[[bytes], float], most: int, quick: QuickTaker | None = None
    ) -> bool:
        """Give `take` what comes, the moment it does, so that nobody is woken for each piece.

        It returns until when more must come, in monotonic seconds, or 0 to have no more given.
        Then this returns, and when `read` has something to return at once: a piece of more than
        `most` bytes, the end, an error. Says whether it was `take`. Raises what that does.

        `quick` is asked, first and behind each piece that `take` got, for what is to have events
        before it; `take` gets what that does not take.
        """
        raise NotImplementedError


HandOn = tuple[Callable[[bytes], float], int, QuickTaker | None]
"""The arguments of `LiveStream.hand_on`."""

Early = Callable[[HTTPStream], HandOn | None]
"""Asked once the head of a response has come, for what is to have its body from the beginning on;
None has it read. What it names may return less than 0 for the first piece, which is then read."""


class HTTPExchanger(Protocol):
    """Posts bytes to one gateway and brings back the response, whatever its status.

    Built from an `HTTPInferenceClientConfig`: base URL, TLS, limits, timeouts and the headers
    that every request carries (Authorization, User-Agent, Content-Type, Accept) are its own.
    """

    async def post(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
    ) -> HTTPResponse:
        """POST `body` to base URL + `path`.

        `headers` are this request's own; they win over the configured ones of the same name.
        `deadline` is in `time.monotonic()` seconds and covers everything from waiting for a
        connection to the last byte.

        Raises GatewayConnectionError (and its kinds), RequestTimeoutError, BadResponseError.
        Cancelling the task aborts the request: the server sees the connection close.
        """
        ...

    def stream(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
        early: Early | None = None,
    ) -> AbstractAsyncContextManager[HTTPStream]:
        """POST, and read the response as it comes.

        `deadline` and `begin_by` are in `time.monotonic()` seconds. The first byte of the body
        must arrive by `begin_by`; from then on no two may be more than `idle_timeout` seconds
        apart, which counts only while `read` waits. The block ends with the whole body read, and
        the connection goes back to the pool; or before, and the connection is closed.

        What `early` names has the body while the block is being entered, until it wants no more. An
        exchanger may do without.

        Entering the block raises as `post` does, and what that raises.
        """
        ...

    async def connect(self, *, deadline: float) -> None:
        """Make sure that the gateway can be reached: name, TCP, TLS. Raises as `post` does."""
        ...

    async def aclose(self) -> None:
        """Close every connection; requests under way are aborted."""
        ...
