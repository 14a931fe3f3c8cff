"""Streamed answers, read with what people use: each gives the text of one answer.

The text grows: a list of its pieces would take more memory than the stream.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from benchmarks.contenders.contract import Send, Target
from benchmarks.payload import PATH, REQUEST

__all__ = [
    "open_aiohttp",
    "open_generate",
    "open_openai",
    "open_pyreqwest",
    "open_stream",
]

_REQUEST = {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Chunk).decode


@asynccontextmanager
async def open_aiohttp(target: Target) -> AsyncIterator[Callable[[], Send]]:
    """The loop that is in every guide: a line after the other, decoded into what is asked for."""
    import aiohttp

    url = target.url + PATH
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0, ssl=target.ssl_context() if target.tls else True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send() -> str:
            text = ""
            data = msgspec.json.encode(_REQUEST)
            async with session.post(url, data=data, headers=headers) as response:
                response.raise_for_status()
                async for line in response.content:
                    if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                        for choice in _decode(line[6:]).choices:
                            text += choice.delta.content or ""
            return text

        yield lambda: send


@asynccontextmanager
async def open_pyreqwest(target: Target) -> AsyncIterator[Callable[[], Send]]:
    from pyreqwest.client import ClientBuilder

    url = target.url + PATH
    builder = ClientBuilder().pool_max_idle_per_host(target.in_flight).error_for_status(True)
    if target.tls:
        builder = builder.add_root_certificate_pem(target.ca_pem())
    async with builder.build() as client:

        async def send() -> str:
            text = ""
            body = msgspec.json.encode(_REQUEST)
            request = client.post(url).header("Content-Type", "application/json").body_bytes(body)
            async with request.build_streamed() as response:
                rest = b""
                while (piece := await response.body_reader.read_chunk()) is not None:
                    *lines, rest = (rest + piece.to_bytes()).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: ") and line != b"data: [DONE]":
                            for choice in _decode(line[6:]).choices:
                                text += choice.delta.content or ""
            return text

        yield lambda: send


@asynccontextmanager
async def open_openai(target: Target) -> AsyncIterator[Callable[[], Send]]:
    import openai

    transport = openai.DefaultAsyncHttpxClient(verify=target.ssl_context() if target.tls else True)
    async with openai.AsyncOpenAI(
        base_url=f"{target.url}/v1", api_key="none", http_client=transport
    ) as client:

        async def send() -> str:
            text = ""
            async for chunk in await client.chat.completions.create(**_REQUEST):
                for choice in chunk.choices:
                    text += choice.delta.content or ""
            return text

        yield lambda: send


@asynccontextmanager
async def open_generate(target: Target) -> AsyncIterator[Callable[[], Send]]:
    """The whole answer over a stream."""
    from batch_gateway import InferenceRequest

    async with _ours(target, stream_upstream=True) as client:

        async def send() -> str:
            response = await client.generate(InferenceRequest(params=REQUEST))
            return response.json()["choices"][0]["message"]["content"]

        yield lambda: send


@asynccontextmanager
async def open_stream(target: Target) -> AsyncIterator[Callable[[], Send]]:
    """Chunk by chunk, typed."""
    from batch_gateway import ChatChunk, InferenceRequest

    async with _ours(target) as client:

        async def send() -> str:
            text = ""
            async for chunk in client.stream(InferenceRequest(params=REQUEST)):
                if isinstance(chunk, ChatChunk):
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
            return text

        yield lambda: send


def _ours(target: Target, *, stream_upstream: bool = False):
    from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig
    from batch_gateway.http.tls import TLSConfig

    return HTTPInferenceClient(
        HTTPInferenceClientConfig(
            target.url,
            max_idle_connections=target.in_flight,
            tls=TLSConfig(ca_file=target.ca_file),
            stream_upstream=stream_upstream,
        )
    )
