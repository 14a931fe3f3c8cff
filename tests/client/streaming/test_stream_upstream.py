"""`generate` over streams: the ordinary answer, held to an idle timeout instead of a total one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    AuthenticationError,
    BadResponseError,
    ConfigError,
    DeadlineExceededError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    RequestTimeoutError,
    ServerError,
)
from batch_gateway.client.streaming.request_body import quick_streaming_body, streaming_body
from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

LIMIT_S = 60.0
MESSAGES = [{"role": "user", "content": "Hello!"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}


@pytest.fixture
async def client(gateway: GatewayHandle) -> AsyncIterator[HTTPInferenceClient]:
    config = HTTPInferenceClientConfig(
        gateway.url,
        retry=QUICK,
        timeout=3.0,
        stream_upstream=True,
        stream_idle_timeout=0.3,
    )
    async with HTTPInferenceClient(config) as made:
        yield made


def chat(fault: str = "", **more: Any) -> InferenceRequest:
    return InferenceRequest(
        params={"model": "m", "messages": MESSAGES, **more},
        headers={"X-Simulate-Fault": fault} if fault else None,
    )


@pytest.mark.parametrize(
    "params",
    [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "n": 3, "max_tokens": 4},
        {"messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"},
        {"messages": MESSAGES, "response_format": {"type": "json_object"}},
        {"prompt": "Hello!"},
        {"prompt": ["one", "two"], "n": 2},
        {"prompt": "Hello!", "echo": True},
        {"input": "Hello!", "max_output_tokens": 5},
        {"input": "Hello!", "instructions": "Be brief."},
    ],
)
async def test_the_answer_is_the_one_without_streaming_byte_for_byte(
    client: HTTPInferenceClient, gateway: GatewayHandle, params: dict[str, Any]
) -> None:
    # The simulator dates its answers, to the second.
    request = InferenceRequest(params={"model": "m", **params})
    async with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)) as plain:
        streamed, whole = await client.generate(request), await plain.generate(request)
        if streamed.body != whole.body:
            streamed, whole = await client.generate(request), await plain.generate(request)
    assert streamed.body == whole.body
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.usage == whole.usage
    assert streamed.time_to_first_token is not None
    assert whole.time_to_first_token is None


async def test_endpoints_without_streams_are_asked_as_ever(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    response = await client.generate(InferenceRequest(params={"model": "m", "input": ["a"]}))
    assert response.json()["object"] == "list"
    assert b"stream" not in gateway.recent_requests()[-1].body
    assert response.time_to_first_token is None


async def test_the_rest_of_the_body_goes_out_as_it_was_given(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9"}],"top_p":1.0}'
    await client.generate(InferenceRequest(params=body))
    assert gateway.recent_requests()[-1].body == (
        body[:-1] + b',"stream":true,"stream_options":{"include_usage":true}}'
    )


NAMES = st.sampled_from(["model", "stream", "stream_options", "streams", 'a"stream', "é", ""])
VALUES = st.one_of(st.text(max_size=9), st.booleans(), st.just({"stream": [{}]}), NAMES)


@given(
    st.dictionaries(NAMES, VALUES),
    st.sampled_from(["chat/completions", "responses"]),
    st.booleans(),
)
def test_a_body_that_is_not_looked_into_asks_for_what_one_that_is_would(
    params: dict[str, object], endpoint: str, with_usage: bool
) -> None:
    for body in (json.dumps(params).encode(), json.dumps(params, indent=1).encode() + b"\n"):
        quick = quick_streaming_body(body, f"/v1/{endpoint}", with_usage=with_usage)
        asked = streaming_body(body, f"/v1/{endpoint}", with_usage=with_usage)
        assert json.loads(quick) == json.loads(asked)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, None),
        ({"include_usage": False}, {"include_usage": False}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
        ({}, {"include_usage": True}),
    ],
)
async def test_usage_is_asked_for_unless_the_request_decides(
    client: HTTPInferenceClient, gateway: GatewayHandle, options: Any, sent: Any
) -> None:
    body = json.dumps({"model": "m", "messages": MESSAGES, "stream_options": options}).encode()
    response = await client.generate(InferenceRequest(params=body))
    assert (response.usage is None) is (sent in (None, {"include_usage": False}))
    assert json.loads(gateway.recent_requests()[-1].body)["stream_options"] == sent


@pytest.mark.parametrize("bad", [b"{bad", b'{"bad"}', b"[]"])
async def test_what_is_no_json_object_is_left_to_the_gateway_to_refuse(
    client: HTTPInferenceClient, bad: bytes
) -> None:
    request = InferenceRequest(params=bad, model="m", endpoint="/v1/chat/completions")
    with pytest.raises(InferenceError) as caught:
        await client.generate(request)
    assert (caught.value.status_code, caught.value.attempts) == (400, 1)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("sse-truncated", BadResponseError, None),
        ("sse-bad-chunk", BadResponseError, "broken_chunk"),
        ("sse-error-event", ServerError, "simulated_stream_error"),
        ("stall-body", RequestTimeoutError, "idle_timeout"),
        ("half-body", BadResponseError, None),
        ("reset-after-headers", ServerError, "connection_error"),
    ],
)
async def test_a_broken_stream_is_asked_for_again_and_never_an_answer(
    client: HTTPInferenceClient, fault: str, kind: type[InferenceError], code: str | None
) -> None:
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(kind) as caught:
            await client.generate(chat(fault))
        assert (caught.value.attempts, caught.value.code) == (3, code or caught.value.code)
        assert caught.value.is_retryable
        answer = await client.generate(
            InferenceRequest(
                params=chat().params,
                request_id=f"{fault}-once",
                headers={"X-Simulate-Fault": f"{fault};times=1"},
            )
        )
    assert answer.attempts == 2
    assert answer.json()["choices"][0]["message"]["content"]


async def test_a_generation_may_take_longer_than_the_timeout() -> None:
    with simulated_gateway(SimulatorConfig.small_gpu()) as gateway:
        config = HTTPInferenceClientConfig(
            gateway.url,
            timeout=1.0,
            retry=None,
            stream_upstream=True,
            stream_idle_timeout=1.0,
        )
        async with HTTPInferenceClient(config) as client:
            answer = await client.generate(chat(max_tokens=70, ignore_eos=True))
    assert answer.duration > 1.0
    assert answer.time_to_first_token is not None
    assert answer.time_to_first_token < 1.0


async def test_the_timeout_is_that_of_the_beginning(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    config = HTTPInferenceClientConfig(gateway.url, timeout=0.1, retry=None, stream_upstream=True)
    async with HTTPInferenceClient(config) as impatient:
        with pytest.raises(RequestTimeoutError) as caught:
            await impatient.generate(chat("stall"))
    assert caught.value.code == "timeout"
    # Longer than the idle timeout, which counts only once the answer has begun.
    assert (await client.generate(chat("delay=0.6"))).attempts == 1


async def test_a_deadline_covers_all_of_it(client: HTTPInferenceClient) -> None:
    with pytest.raises(DeadlineExceededError):
        await client.generate(
            InferenceRequest(
                params=chat().params, deadline=0.05, headers={"X-Simulate-Fault": "stall-body"}
            )
        )


async def test_cancelling_closes_the_stream() -> None:
    with simulated_gateway(SimulatorConfig.small_gpu()) as gateway:
        config = HTTPInferenceClientConfig(gateway.url, stream_upstream=True)
        async with HTTPInferenceClient(config) as client, asyncio.timeout(LIMIT_S):
            endless = chat(max_tokens=2000, ignore_eos=True)
            task = asyncio.create_task(client.generate(endless))
            while not gateway.journal()["received"]:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not gateway.journal()["aborted"]:
                await asyncio.sleep(0.005)


async def served(answer: bytes) -> tuple[asyncio.Server, str]:
    """A server that gives every request this answer, and its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask(answer: bytes, **settings: Any) -> Any:
    server, url = await served(answer)
    async with server:
        config = HTTPInferenceClientConfig(url, retry=None, stream_upstream=True, **settings)
        async with HTTPInferenceClient(config) as client, asyncio.timeout(LIMIT_S):
            return await client.generate(chat())


EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("kind", [b"", b"text/plain", b"application/octet-stream"])
async def test_a_stream_that_does_not_say_so_is_read_all_the_same(kind: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Type: %b\r\n" % kind if kind else b"") + b"\r\n"
    answer = await ask(head + b": hello\n\n" + EVENTS)
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"


async def test_a_gateway_that_does_not_stream_is_accepted() -> None:
    body = b' {"choices": [{"message": {"content": "Hi"}}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    answer = await ask(head % len(body) + body)
    assert answer.body == body
    assert answer.time_to_first_token is None


async def test_a_compressed_stream_is_unpacked() -> None:
    import gzip

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: %b\r\n\r\n"
    answer = await ask(head % b"gzip" + gzip.compress(EVENTS))
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    with pytest.raises(BadResponseError, match="compressed with 'br'"):
        await ask(head % b"br" + b"\x1b\x97\x03\x00\x9c\x05\x8b\x1f" * 9)


@pytest.mark.parametrize("coding", [b"br", b"gzip"])
async def test_a_refusal_in_a_compression_that_cannot_be_undone_is_that_refusal(
    coding: bytes,
) -> None:
    head = b"HTTP/1.1 401 No\r\nContent-Encoding: %b\r\n\r\n" % coding
    with pytest.raises(AuthenticationError) as caught:
        await ask(head + b"\x1b\x97\x03\x00\x9c\x05\x8b\x1f" * 9)
    assert caught.value.attempts == 1
    assert "HTTP 401, and its body" in caught.value.message


async def test_a_stream_with_a_member_of_gzip_for_each_event_is_read_to_its_end() -> None:
    import gzip

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
    members = [gzip.compress(event + b"\n\n") for event in EVENTS.split(b"\n\n")[:-1]]
    answer = await ask(head + b"".join(members))
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"


async def test_an_event_without_an_end_is_given_up_at_its_limit() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with pytest.raises(BadResponseError, match="larger than 1000 bytes") as caught:
        await ask(head + b"data: " + b"x" * 5000, max_event_bytes=1000)
    assert caught.value.code == "event_too_large"


async def test_an_answer_larger_than_the_limit_is_given_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    chunk = b'data: {"choices":[{"delta":{"content":"' + b"x" * 100 + b'"}}]}\n\n'
    with pytest.raises(BadResponseError, match=r"max_response_bytes \(5000 bytes\)"):
        await ask(head + chunk * 200, max_response_bytes=5000)


async def test_a_key_that_an_error_event_quotes_is_redacted() -> None:
    secret = "sk-very-secret-key"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    event = b'data: {"error":{"message":"bad key sk-very-secret-key","code":401}}\n\n'
    with pytest.raises(AuthenticationError) as caught:
        await ask(head + event, api_key=secret)
    assert "bad key [redacted]" in caught.value.message
    assert secret not in f"{caught.value!r} {caught.value.args} {caught.value.body!r}"
    assert caught.value.request_id


async def test_a_body_that_goes_on_after_the_answer_costs_only_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
    answer = await ask(head + EVENTS)
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"stream_idle_timeout": 0}, "stream_idle_timeout"),
        ({"stream_idle_timeout": "soon"}, "stream_idle_timeout"),
        ({"max_event_bytes": 0}, "max_event_bytes"),
    ],
)
def test_impossible_limits_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HTTPInferenceClientConfig(**settings)
    assert caught.value.field == field
