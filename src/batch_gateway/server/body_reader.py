"""The body of a request, in pieces: with limits on its size and on how slow it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from batch_gateway.server.api_errors import ApiError

__all__ = ["ClientGoneError", "read_body", "stream_body"]


class ClientGoneError(Exception):
    """Whoever sent the request closed the connection before its end: nobody hears an answer."""


async def stream_body(
    request: Request, *, stall_seconds: float, whole_seconds: float
) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises ApiError: 408 when it stands still or takes too long, 415 when it is compressed, which
    would be taken for what was meant. Raises ClientGoneError.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise ApiError(415, f"Content-Encoding {encoding} is not taken: send the body as it is")
    loop = asyncio.get_running_loop()
    end = loop.time() + whole_seconds
    more = True
    while more:
        until = min(end, loop.time() + stall_seconds)
        try:
            async with asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError as error:
            raise ApiError(
                408, "the request body stood still or took too long: nothing of it was kept"
            ) from error
        if message["type"] != "http.request":
            raise ClientGoneError
        more = message.get("more_body", False)
        piece = message.get("body", b"")
        if piece:
            yield piece


async def read_body(request: Request, most_bytes: int, *, seconds: float) -> bytes:
    """All of a small body. Raises ApiError (413, and as `stream_body`) and ClientGoneError."""
    body = bytearray()
    async for piece in stream_body(request, stall_seconds=seconds, whole_seconds=seconds):
        body += piece
        if len(body) > most_bytes:
            raise ApiError(413, f"the request body exceeds {most_bytes} bytes")
    return bytes(body)
