"""The protocol that every layer of the client wraps and offers again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.wire.chunks import Chunk

__all__ = ["ChunkSink", "PreparedRequest", "Transport"]


class ChunkSink(Protocol):
    """Where the chunks of a streamed answer go while it is being generated.

    Attributes:
        begun: a chunk was put into it, so that the request can no longer be sent again unseen.
    """

    @property
    def begun(self) -> bool: ...

    @property
    def is_full(self) -> bool:
        """Whether whoever reads the chunks is behind."""
        ...

    def put(self, chunks: Iterable[Chunk], count: int) -> None:
        """Hand over so many that have come. Their iterable may make them when they are read."""
        ...

    async def room(self) -> None:
        """Wait while whoever reads them is behind."""
        ...


class PreparedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed every check and only needs sending.

    Attributes:
        request_id: goes out as `X-Request-ID`.
        model: for routing and metrics; already inside `body`.
        endpoint: absolute path on the gateway, e.g. `/v1/chat/completions`.
        body: JSON bytes.
        headers: of this request alone, names and values checked for control characters.
        started: monotonic seconds when `generate` was called.
        deadline: monotonic seconds after which nobody waits; infinity when there is none.
        due: monotonic seconds by which an answer is wanted; infinity when nobody says. Orders
            those who wait for their turn, and ends nothing.
        tenant: among whom turns are shared fairly.
        attempt: 1 for the first sending, 2 for the first retry.
        failed_at: monotonic seconds when its first attempt failed; infinity before one has.
        sink: set when the answer is wanted chunk by chunk; the whole answer is returned all the
            same. Layers that keep or share answers pass such a request on as it is.
        on_first_token: told the seconds since sending when a streamed answer's first token comes.
    """

    request_id: str
    model: str
    endpoint: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    started: float = 0.0
    deadline: float = float("inf")
    due: float = float("inf")
    tenant: str = ""
    attempt: int = 1
    failed_at: float = float("inf")
    sink: ChunkSink | None = None
    on_first_token: Callable[[float], None] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether somebody has read the beginning of an answer, which another could not go on."""
        return self.sink is not None and self.sink.begun


class Transport(Protocol):
    """One method: send a prepared request, return its response or raise InferenceError."""

    async def send(self, request: PreparedRequest) -> InferenceResponse: ...

    async def aclose(self) -> None:
        """Give back every resource. Requests still under way are aborted."""
        ...
