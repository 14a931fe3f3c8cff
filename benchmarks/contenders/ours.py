"""This package: its bare transport, and `generate()` with the layers that are on by default."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson

from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
from batch_gateway.http.native import NativeExchanger
from batch_gateway.http.tls import TLSConfig
from benchmarks.contenders.contract import Send, Target
from benchmarks.payload import PATH, REQUEST

__all__ = ["open_bare_transport", "open_generate"]


@asynccontextmanager
async def open_bare_transport(target: Target) -> AsyncIterator[Callable[[], Send]]:
    exchanger = NativeExchanger(_configuration(target))
    clock = time.monotonic

    async def send() -> str:
        body = orjson.dumps(REQUEST)
        response = await exchanger.post(PATH, (), body, deadline=clock() + 300)
        assert response.status_code == 200
        answer = orjson.loads(response.body)
        return answer["choices"][0]["message"]["content"]

    try:
        yield lambda: send
    finally:
        await exchanger.aclose()


@asynccontextmanager
async def open_generate(target: Target) -> AsyncIterator[Callable[[], Send]]:
    async with HTTPInferenceClient(_configuration(target)) as client:

        async def send() -> str:
            response = await client.generate(InferenceRequest(params=REQUEST))
            return response.json()["choices"][0]["message"]["content"]

        yield lambda: send
        # Workers are cancelled by now; let their aborted requests leave the client first.
        await asyncio.sleep(0)


def _configuration(target: Target) -> HTTPInferenceClientConfig:
    return HTTPInferenceClientConfig(
        target.url,
        max_idle_connections=target.in_flight,
        tls=TLSConfig(ca_file=target.ca_file),
    )
