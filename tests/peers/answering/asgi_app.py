"""The answers of the trials as an ASGI application, for uvicorn and granian.

Runs in the peer's own environment, so it imports nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

LARGE = json.dumps({"data": "x" * 5_000_000}).encode()
PIECES = 7


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = await _body(receive)
    path = scope["path"]
    if path == "/chunked":
        await _stream(send, body)
        return
    status = 200
    if path == "/large":
        body = LARGE
    elif path == "/slow":
        await asyncio.sleep(0.3)
    elif path.startswith("/status/"):
        status = int(path.rsplit("/", 1)[1])
    await _start(send, status, [(b"content-length", b"%d" % len(body))])
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _stream(send: Any, body: bytes) -> None:
    """Without a content length a server sends it chunked."""
    await _start(send, 200, [])
    size = len(body) // PIECES + 1
    for start in range(0, len(body), size):
        part = body[start : start + size]
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _start(send: Any, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
