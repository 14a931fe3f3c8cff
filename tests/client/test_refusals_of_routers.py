"""What llm-d's and GAIE's routers refuse, and what that means beyond its status, over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from batch_gateway import (
    AdaptiveConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InvalidRequestError,
    RateLimitError,
    SchedulingHints,
    ServerError,
)
from batch_gateway.metrics.request_log import RequestLog
from tests.picker.pod import running_pod, whole
from tests.picker.scripted_picker import Talk, scripted_picker
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

SENDINGS = 3  # with QUICK
TTL = {"x-llm-d-request-dropped-reason": "rejected-ttl-expired"}


def request(**more: Any) -> InferenceRequest:
    return InferenceRequest(params={"model": "m", "prompt": "Hi"}, **more)


@asynccontextmanager
async def refusing(
    status: int, body: bytes, headers: dict[str, str], *, native: bool
) -> AsyncIterator[str]:
    """The URL of a gateway that refuses so: over HTTP, or an endpoint picker."""

    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.refuse(status, headers.get("x-llm-d-request-dropped-reason", ""), body)

    if native:
        async with scripted_picker(script) as picker:
            yield picker.url
    else:
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        async with running_pod(whole(body, status, content_type="text/plain", **named)) as pod:
            yield f"http://{pod.endpoint}"


async def refused(url: str, asked: InferenceRequest, **settings: Any) -> InferenceError:
    config = HTTPInferenceClientConfig(url, retry=QUICK, **settings)
    async with HTTPInferenceClient(config) as client:
        with pytest.raises(InferenceError) as caught:
            await client.generate(asked)
        return caught.value


NATIVE = pytest.mark.parametrize("native", [False, True], ids=["http", "grpc"])
STATUS = pytest.mark.parametrize("status", [429, 503])


@NATIVE
@STATUS
async def test_a_queue_time_limit_that_nobody_asked_for_is_backpressure(
    status: int, native: bool
) -> None:
    async with refusing(status, b"TTL expired", TTL, native=native) as url:
        error = await refused(url, request())
    assert error.dropped_reason == "rejected-ttl-expired"
    assert (error.is_retryable, error.attempts) == (True, SENDINGS)


@NATIVE
@STATUS
@pytest.mark.parametrize("how", ["settings", "header"])
async def test_one_that_was_asked_for_ends_the_request(status: int, native: bool, how: str) -> None:
    settings = {"scheduling": SchedulingHints(ttl="5s")} if how == "settings" else {}
    headers = {"X-LLM-D-Inference-TTL": "5s"} if how == "header" else {}
    async with refusing(status, b"TTL expired", TTL, native=native) as url:
        error = await refused(url, request(headers=headers), **settings)
    assert (error.is_retryable, error.attempts) == (False, 1)


async def test_a_gateway_that_says_whether_to_retry_is_believed_about_its_own_time_limit() -> None:
    headers = {**TTL, "x-should-retry": "false"}
    async with refusing(429, b"", headers, native=False) as url:
        assert (await refused(url, request())).attempts == 1


TOO_LARGE = [
    (
        429,
        b"inference error: ResourceExhausted - request body size limit of 10485760 bytes exceeded",
    ),
    (
        429,
        b'{"error":{"message":"request body size limit of 1048576 bytes exceeded",'
        b'"type":"rate_limit_error","code":429}}',
    ),
    (500, b"rpc error: code = ResourceExhausted desc = grpc: received message larger than max"),
    (503, b'{"code":8,"message":"grpc: received message larger than max (5 vs. 4)"}'),
    (500, b"http: request body too large"),
    (502, b"payload too large"),
]


@NATIVE
@pytest.mark.parametrize(("status", "body"), TOO_LARGE)
async def test_a_body_that_is_too_large_is_told_as_such_and_sent_once(
    status: int, body: bytes, native: bool
) -> None:
    pace = AdaptiveConcurrency(initial=8)
    config = {"retry": QUICK, "concurrency": pace}
    async with (
        refusing(status, body, {}, native=native) as url,
        HTTPInferenceClient(HTTPInferenceClientConfig(url, **config)) as client,
    ):
        before = client.concurrency_limit
        with pytest.raises(InvalidRequestError, match="larger|limit|large") as caught:
            await client.generate(request())
        assert client.concurrency_limit == before
    assert (caught.value.status_code, caught.value.attempts) == (413, 1)
    assert caught.value.body == body


@NATIVE
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            429,
            b"Request too large for m on tokens per min (TPM): Limit 1, Requested 2",
            RateLimitError,
        ),
        (503, b"the queue is larger than usual", ServerError),
        (500, b"connection limit of 100 exceeded by far", ServerError),
    ],
)
async def test_other_limits_are_not_taken_for_the_bodys(
    status: int, body: bytes, kind: type[InferenceError], native: bool
) -> None:
    async with refusing(status, body, {}, native=native) as url:
        error = await refused(url, request())
    assert isinstance(error, kind)
    assert error.attempts == SENDINGS


@NATIVE
@pytest.mark.parametrize("reason", ["evicted", "evicted-priority", "evicted-queue-pressure"])
async def test_an_eviction_is_logged_as_one(
    reason: str, native: bool, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"x-llm-d-request-dropped-reason": reason}
    caplog.set_level(logging.INFO, "batch_gateway.requests")
    async with refusing(429, b"request evicted", headers, native=native) as url:
        config = HTTPInferenceClientConfig(url, retry=QUICK)
        async with HTTPInferenceClient(config, observers=[RequestLog()]) as client:
            with pytest.raises(RateLimitError):
                await client.generate(request())
            await asyncio.sleep(0)
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    retries = [each["reason"] for each in fields if "delay" in each]
    assert retries == ["evicted"] * (SENDINGS - 1)
    assert fields[-1]["code"] == "evicted"
