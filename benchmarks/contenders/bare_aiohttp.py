"""aiohttp as it is used when nobody wrapped it: one session, no limit, orjson."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson

from benchmarks.contenders.contract import Send, Target
from benchmarks.payload import PATH, REQUEST

__all__ = ["open_client"]


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[Callable[[], Send]]:
    url = target.url + PATH
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0, ssl=target.ssl_context() if target.tls else True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send() -> str:
            data = orjson.dumps(REQUEST)
            async with session.post(url, data=data, headers=headers) as response:
                response.raise_for_status()
                answer = orjson.loads(await response.read())
            return answer["choices"][0]["message"]["content"]

        yield lambda: send
