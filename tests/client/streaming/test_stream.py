"""`client.stream` against a gateway over real sockets."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    BadResponseError,
    CacheConfig,
    CircuitBreakerPolicy,
    CoalescePolicy,
    DeadlineExceededError,
    ErrorCategory,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceStream,
    InvalidRequestError,
    RateLimit,
    RateLimitError,
    RequestTimeoutError,
    RoutedInferenceClient,
    SchedulingHints,
    ServerError,
)
from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from batch_gateway.wire.chunks import ChatChunk, Chunk, CompletionChunk, ResponseEvent
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

LIMIT_S = 60.0
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
async def client(gateway: GatewayHandle) -> AsyncIterator[HTTPInferenceClient]:
    config = HTTPInferenceClientConfig(
        gateway.url, retry=QUICK, stream_idle_timeout=0.4, timeout=2.0
    )
    async with HTTPInferenceClient(config) as made:
        yield made


def chat(model: str = "m", fault: str = "", **more: Any) -> InferenceRequest:
    message = {"role": "user", "content": "Hello!"}
    return InferenceRequest(
        params={"model": model, "messages": [message], **more},
        headers={"X-Simulate-Fault": fault} if fault else None,
    )


def undated(body: bytes) -> bytes:
    """A second may have begun between two answers."""
    return re.sub(rb'"created(_at)?":[0-9.]+', b'"created":0', body)


async def read(client: HTTPInferenceClient, request: InferenceRequest) -> list[Chunk]:
    async with asyncio.timeout(LIMIT_S):
        return [chunk async for chunk in client.stream(request)]


async def test_the_text_of_an_answer_comes_in_chunks(client: HTTPInferenceClient) -> None:
    stream = client.stream(chat(max_tokens=5))
    texts = [chunk.text async for chunk in stream]
    whole = await client.generate(chat(max_tokens=5))
    assert len([text for text in texts if text]) == 5
    assert "".join(texts) == whole.json()["choices"][0]["message"]["content"]
    assert stream.finish_reason == "length"
    assert stream.usage == whole.usage
    assert stream.response is not None
    assert undated(stream.response.body) == undated(whole.body)
    assert stream.response.time_to_first_token is not None
    assert 0 < stream.response.time_to_first_token <= stream.response.duration


async def test_every_endpoint_that_generates_has_its_own_chunks(
    client: HTTPInferenceClient,
) -> None:
    completion = InferenceRequest(params={"model": "m", "prompt": ["a", "b"]})
    response = InferenceRequest(params={"model": "m", "input": "a", "max_output_tokens": 3})
    kinds = {CompletionChunk: completion, ResponseEvent: response, ChatChunk: chat(n=2)}
    for kind, request in kinds.items():
        stream = client.stream(request)
        chunks = [chunk async for chunk in stream]
        assert {type(chunk) for chunk in chunks} == {kind}
        assert "".join(chunk.text for chunk in chunks)
        assert stream.response is not None
        whole = await client.generate(request)
        assert undated(stream.response.body) == undated(whole.body)
        assert stream.usage is not None


async def test_tool_calls_are_typed(client: HTTPInferenceClient) -> None:
    chunks = await read(client, chat(tools=[TOOL], tool_choice="required"))
    calls = [
        call
        for chunk in chunks
        if isinstance(chunk, ChatChunk)
        for choice in chunk.choices
        for call in choice.delta.tool_calls or ()
    ]
    assert calls[0].function is not None
    assert calls[0].function.name == "f"
    assert calls[0].id


async def test_usage_is_asked_for_unless_the_request_decides(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    asked = chat(stream=True, stream_options={"include_usage": False})
    stream = client.stream(asked)
    assert [chunk async for chunk in stream]
    assert stream.usage is None
    body = b'{"model": "m", "prompt": "caf\xc3\xa9 \\u00e9", "stream": false}'
    await read(client, InferenceRequest(params=body))
    assert gateway.recent_requests()[-1].body == (
        b'{"model":"m","prompt":"caf\xc3\xa9 \\u00e9","stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )
    assert "text/event-stream" in gateway.recent_requests()[-1].header(b"accept")


async def test_an_accept_header_of_the_callers_own_is_kept(gateway: GatewayHandle) -> None:
    config = HTTPInferenceClientConfig(gateway.url, headers={"Accept": "text/event-stream"})
    async with HTTPInferenceClient(config) as client:
        await read(client, chat())
    assert gateway.recent_requests()[-1].header(b"accept") == "text/event-stream"


@pytest.mark.parametrize("fault", ["status-503;times=2", "status-429;times=1", "half-body;times=1"])
async def test_an_error_before_the_first_chunk_is_retried(
    client: HTTPInferenceClient, fault: str
) -> None:
    request_id = fault.partition(";")[0]
    request = InferenceRequest(
        params=chat().params, request_id=request_id, headers={"X-Simulate-Fault": fault}
    )
    stream = client.stream(request)
    if fault.startswith("half-body"):
        # Half of the events are chunks that somebody has read by the time the rest is missed.
        with pytest.raises(ServerError):
            [_ async for _ in stream]
        return
    assert [chunk async for chunk in stream]
    assert stream.response is not None
    assert stream.response.attempts == 1 + int(fault[-1])


async def test_a_refusal_is_the_error_that_generate_raises(client: HTTPInferenceClient) -> None:
    with pytest.raises(RateLimitError) as caught:
        await read(client, chat("fault-saturated"))
    assert (caught.value.attempts, caught.value.dropped_reason) == (3, "rejected-saturated")
    with pytest.raises(InvalidRequestError) as invalid:
        await read(client, chat("fault-status-400"))
    assert invalid.value.attempts == 1


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("sse-truncated", BadResponseError, None),
        ("sse-bad-chunk", BadResponseError, "broken_chunk"),
        ("sse-error-event", ServerError, "simulated_stream_error"),
        ("stall-body", RequestTimeoutError, "idle_timeout"),
    ],
)
async def test_an_error_midway_is_retryable_and_comes_after_the_chunks_before_it(
    client: HTTPInferenceClient, fault: str, kind: type[InferenceError], code: str | None
) -> None:
    chunks: list[Chunk] = []
    with pytest.raises(kind) as caught:  # noqa: PT012
        async with asyncio.timeout(LIMIT_S):
            async for chunk in client.stream(chat(fault=fault)):
                chunks.append(chunk)  # noqa: PERF401
    error = caught.value
    assert chunks
    assert error.is_retryable
    assert error.category is ErrorCategory.SERVER_ERROR
    assert (error.attempts, error.code) == (1, code or error.code)


async def test_a_stream_may_live_longer_than_every_timeout(gateway: GatewayHandle) -> None:
    with simulated_gateway(SimulatorConfig.small_gpu()) as paced:
        config = HTTPInferenceClientConfig(
            paced.url, timeout=1.0, stream_idle_timeout=1.0, retry=None
        )
        async with HTTPInferenceClient(config) as client:
            stream = client.stream(chat(max_tokens=70, ignore_eos=True))
            count = len([chunk async for chunk in stream])
    assert count > 70
    assert stream.response is not None
    assert stream.response.duration > 1.0


async def test_a_deadline_ends_a_stream(client: HTTPInferenceClient) -> None:
    request = InferenceRequest(params=chat("fault-stall").params, deadline=0.05)
    with pytest.raises(DeadlineExceededError):
        await read(client, request)


async def test_a_gateway_that_answers_at_once_gives_one_chunk() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = (
            b'{"object":"chat.completion","choices":[{"index":0,"message":{"content":"Hi",'
            b'"tool_calls":[{"id":"1","function":{"name":"f"}}]},"finish_reason":"stop"}]}'
        )
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HTTPInferenceClient(HTTPInferenceClientConfig(f"http://127.0.0.1:{port}")) as client:
        stream = client.stream(chat())
        [chunk] = [chunk async for chunk in stream]
    server.close()
    await server.wait_closed()
    assert isinstance(chunk, ChatChunk)
    assert (chunk.text, chunk.object) == ("Hi", "chat.completion.chunk")
    assert chunk.choices[0].delta.tool_calls is not None
    assert stream.finish_reason == "stop"


async def wait_for(gateway: GatewayHandle, key: str, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while gateway.journal()[key] < count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("way", ["aclose", "with", "break", "cancel"])
async def test_leaving_a_stream_closes_its_request(way: str) -> None:
    with simulated_gateway(SimulatorConfig.small_gpu()) as gateway:
        config = HTTPInferenceClientConfig(gateway.url)
        async with HTTPInferenceClient(config) as client, asyncio.timeout(LIMIT_S):
            endless = chat(max_tokens=2000, ignore_eos=True)
            if way == "aclose":
                stream = client.stream(endless)
                assert await anext(stream)
                await stream.aclose()
                assert [chunk async for chunk in stream] == []
                assert stream.response is None
            elif way == "with":
                async with client.stream(endless) as stream:
                    assert await anext(stream)
            elif way == "break":
                async for _ in client.stream(endless):
                    break
                gc.collect()
            else:
                task = asyncio.create_task(read(client, endless))
                await wait_for(gateway, "received", 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await wait_for(gateway, "aborted", 1)


async def test_a_stream_that_was_left_is_read_on(client: HTTPInferenceClient) -> None:
    whole = [chunk.text for chunk in await read(client, chat(max_tokens=40))]
    stream, texts = client.stream(chat(max_tokens=40)), list[str]()
    async for chunk in stream:
        texts.append(chunk.text)
        if len(texts) == 3:
            break
    texts.append((await anext(stream)).text)
    texts += [chunk.text async for chunk in stream]
    assert texts == whole
    assert stream.response is not None


async def test_a_task_may_wait_for_the_next_chunk(client: HTTPInferenceClient) -> None:
    whole = await _texts(client.stream(chat(max_tokens=4)))
    stream = client.stream(chat(max_tokens=4))
    first = await asyncio.create_task(anext(stream))
    assert [first.text, *await _texts(stream)] == whole


async def test_a_stream_that_is_closed_ends_for_whoever_waits_for_its_next_chunk() -> None:
    with simulated_gateway(SimulatorConfig.small_gpu()) as gateway:
        config = HTTPInferenceClientConfig(gateway.url)
        async with HTTPInferenceClient(config) as client, asyncio.timeout(LIMIT_S):
            stream = client.stream(chat(fault="stall"))
            reader = asyncio.ensure_future(_texts(stream))
            await wait_for(gateway, "received", 1)
            await stream.aclose()
            assert await reader == []


async def _texts(stream: InferenceStream) -> list[str]:
    return [chunk.text async for chunk in stream]


async def test_a_reader_that_is_behind_makes_the_gateway_wait(client: HTTPInferenceClient) -> None:
    stream = client.stream(chat(max_tokens=3000, ignore_eos=True))
    assert await anext(stream)
    await asyncio.sleep(0.6)  # longer than the idle timeout, which is not about readers
    assert len([chunk async for chunk in stream]) > 3000


async def test_connections_of_whole_streams_are_used_again() -> None:
    with simulated_gateway() as gateway:
        config = HTTPInferenceClientConfig(gateway.url, max_connections=1)
        async with HTTPInferenceClient(config) as client:
            for _ in range(5):
                assert await read(client, chat())
        assert gateway.journal()["connections_opened"] == 1


async def test_a_request_that_cannot_be_streamed_is_refused_at_once(
    client: HTTPInferenceClient,
) -> None:
    for request, problem in [
        (InferenceRequest(params={"model": "m", "input": ["a"]}), "cannot be streamed"),
        (InferenceRequest(params={"model": "m"}), "cannot tell the endpoint"),
        (InferenceRequest(params=b"[]", model="m", endpoint="/v1/completions"), "JSON object"),
    ]:
        with pytest.raises(InvalidRequestError, match=problem):
            client.stream(request)


async def test_generate_points_a_request_for_a_stream_to_the_right_method(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    before = gateway.journal()["received"]
    with pytest.raises(InvalidRequestError, match=r"use client.stream\(request\)"):
        await client.generate(chat(stream=True))
    assert gateway.journal()["received"] == before


async def test_bytes_that_ask_for_a_stream_are_pointed_there_too(
    client: HTTPInferenceClient,
) -> None:
    body = b'{"model":"m","prompt":"Hello!","stream":true}'
    with pytest.raises(BadResponseError, match=r"client.stream\(request\)") as caught:
        await client.generate(InferenceRequest(params=body))
    assert (caught.value.attempts, caught.value.is_retryable) == (1, False)


async def test_streams_pass_every_layer(gateway: GatewayHandle, tmp_path: Path) -> None:
    config = HTTPInferenceClientConfig(
        gateway.url,
        retry=QUICK,
        circuit_breaker=CircuitBreakerPolicy(),
        rate_limit=RateLimit(requests_per_minute=100_000, tokens_per_minute=10_000_000),
        scheduling=SchedulingHints(objective="batch"),
        cache=CacheConfig(tmp_path / "cache"),
        coalesce=CoalescePolicy(8),
    )
    async with HTTPInferenceClient(config) as client:
        request = InferenceRequest(params={"model": "m", "prompt": "Hello!"})
        first, second = await read(client, request), await read(client, request)
        assert first
        assert len(first) == len(second)
        with pytest.raises(BadResponseError):
            await read(client, chat(fault="sse-bad-chunk"))


async def test_a_routed_client_streams_from_the_models_gateway(gateway: GatewayHandle) -> None:
    config = HTTPInferenceClientConfig(gateway.url)
    async with RoutedInferenceClient(None, {"m": config}) as client:
        stream = client.stream(chat())
        assert [chunk async for chunk in stream]
        with pytest.raises(InvalidRequestError) as caught:
            client.stream(chat("unknown"))
    assert caught.value.code == "model_not_found"


def test_chunks_are_read_without_an_event_loop(gateway: GatewayHandle) -> None:
    with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)).blocking() as client:
        text = "".join(chunk.text for chunk in client.stream(chat(max_tokens=3)))
        assert len(text.split()) == 3
        with pytest.raises(BadResponseError):
            list(client.stream(chat(fault="sse-bad-chunk")))
        for _ in client.stream(chat()):
            break
