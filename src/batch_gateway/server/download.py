"""The bytes of a file as an answer: whole or a range of them, for as long as the reader takes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from batch_gateway.server.api_errors import ApiError

__all__ = [
    "Download",
    "Span",
    "content_disposition",
    "is_known",
    "reader_gone",
    "requested_span",
    "require_wanted",
]

_ONE_RANGE = re.compile(r"bytes=(?:([0-9]{1,99})-([0-9]{0,99})|-([0-9]{1,99}))", re.ASCII)
_PLAIN = re.compile(r"[^A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]")
WHOLE: Final = None


class Span(NamedTuple):
    """Bytes from `start` to before `end`."""

    start: int
    end: int


def requested_span(headers: Mapping[str, str], size: int, etag: str) -> Span | None:
    """The range that is asked for; None for the whole (RFC 9110 §14.2).

    Several ranges, other units and what is malformed get the whole, as does a range of another
    version. Raises ApiError (416) for one that lies outside.
    """
    wanted = _ONE_RANGE.fullmatch(headers.get("range", "").replace(" ", "").lower())
    if wanted is None or headers.get("if-range", etag) != etag:
        return WHOLE
    first, last, suffix = wanted.groups()
    if suffix is not None:
        span = Span(max(size - int(suffix), 0), size)
    else:
        end = min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return WHOLE
        span = Span(int(first), end)
    if span.start >= span.end:
        raise ApiError(416, f"the file has {size} bytes", {"content-range": f"bytes */{size}"})
    return span


def is_known(headers: Headers, etag: str) -> bool:
    """Whether the reader says that it has this version (RFC 9110 §13.1.2)."""
    tags = [tag.removeprefix("W/") for tag in _tags(headers, "if-none-match")]
    return tags == ["*"] or etag in tags


def require_wanted(headers: Headers, etag: str) -> None:
    """Raises ApiError (412) when the reader wants another version only (RFC 9110 §13.1.1)."""
    tags = _tags(headers, "if-match")
    if tags and tags != ["*"] and etag not in tags:
        raise ApiError(412, "the file is not the one that If-Match names")


def _tags(headers: Headers, name: str) -> Sequence[str]:
    return [tag.strip() for value in headers.getlist(name) for tag in value.split(",")]


def content_disposition(filename: str) -> str:
    """`attachment` with the name, and in UTF-8 as well where ASCII does not hold it (RFC 6266)."""
    plain = _PLAIN.sub("_", filename)
    shown = f'attachment; filename="{plain}"'
    if plain == filename:
        return shown
    return f"{shown}; filename*=UTF-8''{quote(filename.encode('utf-8', 'replace'), safe='')}"


class Download:
    """An ASGI answer that streams `pieces`, which together are `length` bytes.

    It is as slow as its reader; only one that takes nothing at all for `stall_seconds` is left.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        status: int,
        headers: Mapping[str, str],
        *,
        stall_seconds: float,
    ) -> None:
        self._pieces, self._status = pieces, status
        self._headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._pieces) as pieces:
            first = b"" if scope["method"] == "HEAD" else await anext(pieces, b"")
            # What cannot be read at all is still an error with a status.
            start = {"type": "http.response.start", "status": self._status}
            await send({**start, "headers": self._headers})
            gone = asyncio.ensure_future(reader_gone(receive))
            try:
                await self._send_all(first, pieces, send, gone, head=scope["method"] == "HEAD")
            finally:
                gone.cancel()

    async def _send_all(
        self,
        first: bytes,
        pieces: AsyncGenerator[bytes, None],
        send: Send,
        gone: asyncio.Future[None],
        *,
        head: bool,
    ) -> None:
        body = {"type": "http.response.body", "more_body": True}
        piece = first
        while piece and not gone.done():
            async with asyncio.timeout(self._stall_seconds):
                await send({**body, "body": piece})
            piece = await anext(pieces, b"")
        if head or not gone.done():
            await send({**body, "body": b"", "more_body": False})


async def reader_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
