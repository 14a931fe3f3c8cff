"""`generate` against a gateway over real sockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import batch_gateway
from batch_gateway import (
    AuthenticationError,
    BadResponseError,
    ConfigError,
    DeadlineExceededError,
    ErrorCategory,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceClient,
    InferenceRequest,
    InvalidRequestError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    RoutedInferenceClient,
    ServerError,
    UnknownStatusError,
    Usage,
)
from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.instant()) as running:
        yield running


@pytest.fixture
async def client(gateway: GatewayHandle) -> AsyncIterator[HTTPInferenceClient]:
    config = HTTPInferenceClientConfig(gateway.url, retry=QUICK, timeout="10s")
    async with HTTPInferenceClient(config) as made:
        yield made


def chat(model: str = "m", **more: Any) -> InferenceRequest:
    params = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    return InferenceRequest(params=params, **more)


async def test_a_url_and_the_parameters_alone_are_enough(gateway: GatewayHandle) -> None:
    params = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    async with HTTPInferenceClient(gateway.url) as client:
        response = await client.generate(params)
        assert response.text == response.json()["choices"][0]["message"]["content"] != ""
        assert [chunk async for chunk in client.stream(params)]
    routed = RoutedInferenceClient(None, {"m": HTTPInferenceClientConfig(gateway.url)})
    async with routed as client:
        assert (await client.generate(params)).text == response.text
    with pytest.raises(ConfigError, match="base_url"):
        HTTPInferenceClient("ftp://localhost")


async def test_a_chat_request_is_answered(client: HTTPInferenceClient) -> None:
    response = await client.generate(chat(request_id="req-001"))
    assert response.json()["choices"][0]["message"]["content"]
    assert (response.request_id, response.status_code, response.attempts) == ("req-001", 200, 1)
    assert response.headers["content-type"].startswith("application/json")
    assert response.duration > 0
    assert response.usage is not None
    assert response.usage.total_tokens == response.json()["usage"]["total_tokens"]


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"prompt": "Hello!"}, "text_completion"),
        ({"input": ["Hello!"]}, "list"),
        ({"input": "Hello!", "max_output_tokens": 5}, "response"),
    ],
)
async def test_every_endpoint_is_found_by_its_parameters(
    client: HTTPInferenceClient, params: dict[str, Any], kind: str
) -> None:
    response = await client.generate(InferenceRequest(model="m", params=params))
    assert response.json()["object"] == kind
    assert isinstance(response.usage, Usage)


async def test_a_request_carries_its_id_its_headers_and_our_name(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    await client.generate(chat(request_id="req-headers", headers={"X-Team": "search"}))
    sent = gateway.recent_requests()[-1]
    headers = {k.decode().lower(): v.decode() for k, v in sent.headers.items()}
    assert headers["x-request-id"] == "req-headers"
    assert headers["x-team"] == "search"
    assert headers["user-agent"] == f"batch-gateway/{batch_gateway.__version__}"
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


async def test_bytes_arrive_untouched(client: HTTPInferenceClient, gateway: GatewayHandle) -> None:
    body = b'{ "model":"m",  "prompt" : "caf\xc3\xa9 \\u00e9", "n":1 }'
    await client.generate(InferenceRequest(params=body))
    assert gateway.recent_requests()[-1].body == body


@pytest.mark.parametrize(
    ("model", "kind", "category", "status", "attempts"),
    [
        ("fault-status-400", InvalidRequestError, ErrorCategory.INVALID_REQ, 400, 1),
        ("fault-status-401", AuthenticationError, ErrorCategory.AUTH_ERROR, 401, 1),
        ("fault-status-403", AuthenticationError, ErrorCategory.AUTH_ERROR, 403, 1),
        ("fault-status-404", UnknownStatusError, ErrorCategory.UNKNOWN, 404, 1),
        ("fault-status-408", UnknownStatusError, ErrorCategory.UNKNOWN, 408, 3),
        ("fault-status-409", UnknownStatusError, ErrorCategory.UNKNOWN, 409, 3),
        ("fault-status-422", UnknownStatusError, ErrorCategory.UNKNOWN, 422, 1),
        ("fault-status-429", RateLimitError, ErrorCategory.RATE_LIMIT, 429, 3),
        ("fault-status-500", ServerError, ErrorCategory.SERVER_ERROR, 500, 3),
        ("fault-status-503", ServerError, ErrorCategory.SERVER_ERROR, 503, 3),
        ("fault-html-502", ServerError, ErrorCategory.SERVER_ERROR, 502, 3),
        ("fault-empty-500", ServerError, ErrorCategory.SERVER_ERROR, 500, 3),
        ("fault-empty-body", BadResponseError, ErrorCategory.SERVER_ERROR, 200, 3),
        ("fault-not-json", BadResponseError, ErrorCategory.SERVER_ERROR, 200, 3),
        ("fault-truncated-json", BadResponseError, ErrorCategory.SERVER_ERROR, 200, 3),
        ("fault-saturated", RateLimitError, ErrorCategory.RATE_LIMIT, 429, 3),
        ("fault-ttl-expired", RateLimitError, ErrorCategory.RATE_LIMIT, 429, 3),
        ("fault-no-endpoints", ServerError, ErrorCategory.SERVER_ERROR, 503, 3),
        ("fault-shutting-down", ServerError, ErrorCategory.SERVER_ERROR, 503, 3),
        ("fault-evicted", RateLimitError, ErrorCategory.RATE_LIMIT, 429, 3),
        ("fault-shed", RateLimitError, ErrorCategory.RATE_LIMIT, 429, 3),
        ("fault-admission-refused", ServerError, ErrorCategory.SERVER_ERROR, 500, 3),
        ("fault-parse-error", InvalidRequestError, ErrorCategory.INVALID_REQ, 400, 1),
    ],
)
async def test_a_refusal_has_its_category_and_is_sent_as_often_as_makes_sense(
    client: HTTPInferenceClient,
    gateway: GatewayHandle,
    model: str,
    kind: type[batch_gateway.InferenceError],
    category: ErrorCategory,
    status: int,
    attempts: int,
) -> None:
    request_id = f"{model}-once"
    with pytest.raises(kind) as caught:
        await client.generate(chat(model, request_id=request_id))
    error = caught.value
    assert type(error) is kind
    assert (error.category, error.status_code) == (category, status)
    assert (error.attempts, error.request_id) == (attempts, request_id)
    assert gateway.journal()["requests"][request_id]["received"] == attempts
    assert 0 < len(error.message) < 400
    assert "\n" not in error.message


async def test_what_the_router_says_is_kept(client: HTTPInferenceClient) -> None:
    with pytest.raises(RateLimitError) as caught:
        await client.generate(chat("fault-saturated"))
    assert caught.value.dropped_reason == "rejected-saturated"
    with pytest.raises(InvalidRequestError) as invalid:
        await client.generate(chat("fault-status-400"))
    assert invalid.value.body.startswith(b"{")


async def test_a_gateway_that_recovers_gets_the_request_again(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    request_id = "recovers"
    response = await client.generate(chat("fault-refuse-then-ok-2", request_id=request_id))
    assert response.attempts == 3
    assert gateway.journal()["requests"][request_id]["statuses"] == [503, 503, 200]


async def test_should_retry_overrules_the_status(gateway: GatewayHandle) -> None:
    config = HTTPInferenceClientConfig(gateway.url, retry=QUICK)
    async with HTTPInferenceClient(config) as client:
        for fault, attempts in [
            ("status-500;should-retry=false", 1),
            ("status-400;should-retry=true", 3),
        ]:
            with pytest.raises(batch_gateway.InferenceError) as caught:
                await client.generate(chat(headers={"X-Simulate-Fault": fault}))
            assert caught.value.attempts == attempts


async def test_a_retry_after_is_kept_on_the_error(client: HTTPInferenceClient) -> None:
    fault = {"X-Simulate-Fault": "status-429;retry-after-ms=7"}
    with pytest.raises(RateLimitError) as caught:
        await client.generate(chat(headers=fault))
    assert caught.value.retry_after == pytest.approx(0.007)


async def test_without_retries_everything_is_sent_once(gateway: GatewayHandle) -> None:
    async with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url, retry=None)) as client:
        with pytest.raises(ServerError) as caught:
            await client.generate(chat("fault-status-503"))
        assert caught.value.attempts == 1


async def test_a_deadline_that_passes_is_a_timeout_and_not_a_hang(
    client: HTTPInferenceClient,
) -> None:
    with pytest.raises(DeadlineExceededError, match="the deadline passed") as caught:
        await client.generate(chat("fault-stall", deadline=0.05))
    assert isinstance(caught.value, TimeoutError)
    assert not caught.value.is_retryable
    assert caught.value.attempts == 1


async def test_a_deadline_in_the_past_sends_nothing(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    before = gateway.journal()["received"]
    with pytest.raises(DeadlineExceededError) as caught:
        await client.generate(chat(deadline=-1))
    assert caught.value.attempts == 0
    assert gateway.journal()["received"] == before


async def test_an_attempt_that_takes_too_long_is_a_timeout_and_tried_again(
    gateway: GatewayHandle,
) -> None:
    config = HTTPInferenceClientConfig(
        gateway.url,
        timeout=0.05,
        retry=RetryPolicy(max_retries=1, initial_backoff=0),
    )
    async with HTTPInferenceClient(config) as client:
        with pytest.raises(RequestTimeoutError) as caught:
            await client.generate(chat("fault-stall"))
    assert type(caught.value) is RequestTimeoutError
    assert caught.value.attempts == 2


async def test_a_cancelled_request_is_aborted_at_the_gateway(
    client: HTTPInferenceClient, gateway: GatewayHandle
) -> None:
    aborted = gateway.journal()["aborted"]
    received = gateway.journal()["received"]
    task = asyncio.create_task(client.generate(chat("fault-stall")))
    async with asyncio.timeout(5):
        while gateway.journal()["received"] == received:
            await asyncio.sleep(0.005)
        task.cancel()
        while gateway.journal()["aborted"] == aborted:
            await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_key_that_the_gateway_quotes_back_is_redacted() -> None:
    secret = "sk-very-secret-key"
    with simulated_gateway(api_key="another-key") as gateway:
        async with HTTPInferenceClient(
            HTTPInferenceClientConfig(gateway.url, api_key=secret)
        ) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.generate(chat())
    assert secret not in caught.value.message
    assert secret.encode() not in caught.value.body
    assert secret not in repr(client)


async def test_the_right_key_lets_requests_in() -> None:
    with simulated_gateway(api_key="sk-right-key") as gateway:
        config = HTTPInferenceClientConfig(gateway.url, api_key="sk-right-key")
        async with HTTPInferenceClient(config) as client:
            assert (await client.generate(chat())).status_code == 200


async def test_a_key_that_comes_through_a_pipe_is_read_once() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"sk-from-a-pipe\n")
    os.close(writing)
    with simulated_gateway(api_key="sk-from-a-pipe") as gateway:
        config = HTTPInferenceClientConfig(gateway.url, api_key_file=f"/dev/fd/{reading}")
        async with HTTPInferenceClient(config) as client:
            assert (await client.generate(chat())).status_code == 200
    os.close(reading)


async def test_a_gateway_that_is_there_can_be_connected_to(client: HTTPInferenceClient) -> None:
    await client.connect()


async def test_a_client_is_an_inference_client(client: HTTPInferenceClient) -> None:
    assert isinstance(client, InferenceClient)


def test_a_client_can_be_closed_after_its_event_loop_has_ended(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url))

    async def use_and_leave() -> None:
        await client.generate(chat())
        # What a loop leaves open, it warns of; here the server hangs up first.
        gateway.stop()
        gateway.start()

    asyncio.run(use_and_leave())
    asyncio.run(client.aclose())
