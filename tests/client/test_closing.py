"""Closing a client while it is used: nothing goes on, and whoever waits is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from batch_gateway import (
    CoalescePolicy,
    FixedConcurrency,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    Observer,
    RateLimit,
    RequestFinished,
)
from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway

pytestmark = pytest.mark.anyio

LIMIT_S = 30.0
# Where requests wait, by what makes them wait there: settings, and a fault to ask for.
PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "the gateway": ({}, ""),
    "a gateway that streams": ({"stream_upstream": True}, ""),
    "a retry": ({}, "status-429;retry-after=250"),
    "a permit": ({"concurrency": FixedConcurrency(1)}, ""),
    "a rate limit": ({"rate_limit": RateLimit(requests_per_minute=1)}, ""),
    "others to join": ({"coalesce": CoalescePolicy(8, max_wait=50.0)}, ""),
}


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.small_gpu()) as running:
        yield running


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


def endless(fault: str = "") -> InferenceRequest:
    return InferenceRequest(
        params={"model": "m", "prompt": "Hello!", "max_tokens": 2000, "ignore_eos": True},
        headers={"X-Simulate-Fault": fault} if fault else None,
    )


async def last_chunk(client: HTTPInferenceClient, request: InferenceRequest) -> Any:
    return [chunk async for chunk in client.stream(request)][-1]


async def closed_under(client: HTTPInferenceClient, *waiting: Any) -> list[BaseException]:
    """What each gets when the client is closed after all have begun."""
    tasks = [asyncio.create_task(one) for one in waiting]
    for _ in range(20):
        await asyncio.sleep(0)
    await client.aclose()
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", ["generate", "stream"])
async def test_whoever_waits_is_told_that_the_client_was_closed(
    gateway: GatewayHandle, place: str, way: str
) -> None:
    before = asyncio.all_tasks()
    settings, fault = PLACES[place]
    client = HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url, **settings))
    ask = client.generate if way == "generate" else lambda request: last_chunk(client, request)
    for error in await closed_under(client, ask(endless(fault)), ask(endless(fault))):
        assert isinstance(error, GatewayConnectionError)
        assert (str(error), error.is_retryable) == ("the client was closed", False)
        assert error.request_id
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("read_before", [1, 3])
async def test_a_stream_that_is_not_being_read_just_then_ends_with_that_error(
    gateway: GatewayHandle, read_before: int
) -> None:
    async with HTTPInferenceClient(gateway.url) as client:
        stream = client.stream(endless())
        for _ in range(read_before):
            assert await anext(stream)
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        async for _ in stream:
            pass
    assert [chunk async for chunk in stream] == []
    assert stream.response is None


async def test_a_closed_client_sends_nothing(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(gateway.url)
    await client.aclose()
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await client.generate(endless())
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await last_chunk(client, endless())
    assert gateway.journal()["received"] == 0


async def test_a_task_that_somebody_cancels_as_well_is_cancelled(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(gateway.url)
    task = asyncio.create_task(client.generate(endless()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    task.cancel()
    await closing
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_may_be_closed_twice_at_once(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(gateway.url)
    task = asyncio.create_task(client.generate(endless()))
    await asyncio.sleep(0)
    await asyncio.gather(client.aclose(), client.aclose())
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await task


async def test_what_the_caller_does_next_is_not_cancelled(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(gateway.url)

    async def ask_and_go_on() -> str:
        with pytest.raises(GatewayConnectionError):
            await client.generate(endless())
        async with asyncio.timeout(LIMIT_S), HTTPInferenceClient(gateway.url) as other:
            assert await anext(other.stream(endless()))
        return "went on"

    assert await closed_under(client, ask_and_go_on()) == ["went on"]


async def test_a_request_may_close_its_own_client(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(gateway.url)
    stream = client.stream(endless())
    async for _ in stream:
        await client.aclose()
        break
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        async for _ in stream:
            pass


async def test_observers_hear_of_a_request_that_was_closed_under_as_cancelled(
    gateway: GatewayHandle,
) -> None:
    heard = list[RequestFinished]()

    class Listener(Observer):
        def request_finished(self, event: RequestFinished) -> None:
            heard.append(event)

    client = HTTPInferenceClient(gateway.url, observers=[Listener()])
    [error] = await closed_under(client, client.generate(endless()))
    assert isinstance(error, GatewayConnectionError)
    assert [(event.outcome, event.response, event.error) for event in heard] == [
        ("cancelled", None, None)
    ]
