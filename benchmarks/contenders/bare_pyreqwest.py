"""pyreqwest: Rust's reqwest behind an asyncio interface."""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
from pyreqwest.client import ClientBuilder

from benchmarks.contenders.contract import Send, Target
from benchmarks.payload import PATH, REQUEST

__all__ = ["open_client"]


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[Callable[[], Send]]:
    url = target.url + PATH
    builder = ClientBuilder().pool_max_idle_per_host(target.in_flight).error_for_status(True)
    if target.tls:
        builder = builder.add_root_certificate_pem(target.ca_pem())
    async with builder.build() as client:

        async def send() -> str:
            request = client.post(url).header("Content-Type", "application/json")
            response = await request.body_bytes(orjson.dumps(REQUEST)).build().send()
            answer = orjson.loads((await response.bytes()).to_bytes())
            return answer["choices"][0]["message"]["content"]

        yield lambda: send
