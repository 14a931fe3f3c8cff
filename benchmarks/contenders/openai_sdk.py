"""The openai SDK, with its own HTTP client and with the aiohttp one that it offers."""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import openai

from benchmarks.contenders.contract import Send, Target
from benchmarks.payload import REQUEST

__all__ = ["open_client", "open_client_on_aiohttp"]


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[Callable[[], Send]]:
    async with openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key="none") as client:
        send = _sender(client)
        yield lambda: send


@asynccontextmanager
async def open_client_on_aiohttp(target: Target) -> AsyncIterator[Callable[[], Send]]:
    async with openai.AsyncOpenAI(
        base_url=f"{target.url}/v1", api_key="none", http_client=openai.DefaultAioHttpClient()
    ) as client:
        send = _sender(client)
        yield lambda: send


def _sender(client: openai.AsyncOpenAI) -> Send:
    async def send() -> str:
        answer = await client.chat.completions.create(**REQUEST)
        return answer.choices[0].message.content

    return send
