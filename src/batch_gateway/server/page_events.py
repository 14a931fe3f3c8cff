"""Live changes of a page, as server-sent events: pieces of HTML and the names of their places."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Hashable, Sequence
from typing import Final, NamedTuple

from starlette.types import Receive, Scope, Send

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.body_reader import ClientGoneError
from batch_gateway.server.download import reader_gone

__all__ = ["EventStream", "Piece", "Streams", "event"]

LOOK_SECONDS: Final = 1.0
_STALL_SECONDS = 10.0
# Without a sign of life a proxy takes the connection for dead.
_QUIET_LOOKS = 15
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would wait for more before it passes anything on.
    (b"x-accel-buffering", b"no"),
)


class Piece(NamedTuple):
    """What stands in one place of a page: sent when `version` is another than before, which costs
    less to find out than to write it."""

    place: str
    version: Hashable
    html: Callable[[], Awaitable[str]]


Look = Callable[[], Awaitable[Sequence[Piece]]]


def event(place: str, html: str) -> bytes:
    """One event (HTML standard, § 9.2.6)."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines() or [""])
    return f"event: {place}\n{lines}\n".encode("utf-8", "replace")


class Streams:
    """Those that are open: at most `most`, and of one tenant no more than half of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End them all, so that a server that stops need not wait for them."""
        self._stopping.set()

    def stream(self, tenant: str, look: Look) -> EventStream:
        """An answer. Raises ApiError (503) when there are too many."""
        if self._open.total() >= self._most or self._open[tenant] * 2 >= self._most:
            raise ApiError(503, "too many pages are open: this one does not change by itself")
        return EventStream(look, self._counted(tenant), self._stopping)

    @contextlib.contextmanager
    def _counted(self, tenant: str) -> Generator[None]:
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]


class EventStream:
    """An ASGI answer that sends what is new about once a second.

    A reader that is behind is waited for, and what changes meanwhile is sent once; one that takes
    nothing at all is left. `look` may raise ApiError when the reader may not see it any more.
    """

    def __init__(
        self, look: Look, counted: contextlib.AbstractContextManager[None], stopping: asyncio.Event
    ) -> None:
        self._look, self._counted, self._stopping = look, counted, stopping
        self._seen: dict[str, Hashable] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._counted:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if scope["method"] != "HEAD":
                async with _over(receive, self._stopping) as over:
                    await self._send_changes(send, over)
            await send({"type": "http.response.body", "body": b""})

    async def _send_changes(self, send: Send, over: asyncio.Future[None]) -> None:
        quiet = 0
        while not over.done():
            try:
                data = await self._changes()
            except ApiError:
                return
            quiet = 0 if data else quiet + 1
            if quiet == _QUIET_LOOKS:
                data, quiet = b":\n\n", 0
            if data:
                await _send_soon(send, data)
            await asyncio.wait({over}, timeout=LOOK_SECONDS)

    async def _changes(self) -> bytes:
        data = b""
        for piece in await self._look():
            if self._seen.get(piece.place) != piece.version:
                self._seen[piece.place] = piece.version
                data += event(piece.place, await piece.html())
        return data


async def _send_soon(send: Send, data: bytes) -> None:
    try:
        async with asyncio.timeout(_STALL_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except TimeoutError as error:
        raise ClientGoneError from error


@contextlib.asynccontextmanager
async def _over(
    receive: Receive, stopping: asyncio.Event
) -> AsyncGenerator[asyncio.Future[None], None]:
    """Done when the reader is gone or the server stops."""

    async def wait() -> None:
        ends = {asyncio.ensure_future(reader_gone(receive)), asyncio.ensure_future(stopping.wait())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    over = asyncio.ensure_future(wait())
    try:
        yield over
    finally:
        over.cancel()
