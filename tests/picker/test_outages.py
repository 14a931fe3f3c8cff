"""Pods and pickers that go away and come back while requests are under way."""

from __future__ import annotations

import asyncio

import pytest

from batch_gateway import (
    CircuitBreakerPolicy,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    RetryPolicy,
)
from batch_gateway.testing import PickerConfig, PoolHandle, SimulatorConfig, simulated_pool

pytestmark = pytest.mark.anyio

LIMIT_S = 30.0
QUICK = RetryPolicy(
    max_retries=8, initial_backoff=0.01, max_backoff=0.1, rate_limit_backoff=0.01,
    budget_per_second=1000.0,
)  # fmt: skip
WAITING = CircuitBreakerPolicy(
    when_open="wait", patience=LIMIT_S, connect_failures=1, first_probe=0.02, longest_probe=0.05
)


def request(number: int) -> InferenceRequest:
    message = {"role": "user", "content": f"Count to {number}."}
    return InferenceRequest(params={"model": "m", "messages": [message]}, request_id=f"r-{number}")


async def ask(client: HTTPInferenceClient, count: int, in_flight: int = 8) -> int:
    """Ask `count` times, so many at once; how many were answered."""
    numbers, answered = iter(range(count)), 0

    async def work() -> None:
        nonlocal answered
        for number in numbers:
            await client.generate(request(number))
            answered += 1

    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(work() for _ in range(in_flight)))
    return answered


def client(pool: PoolHandle) -> HTTPInferenceClient:
    return HTTPInferenceClient(
        HTTPInferenceClientConfig(pool.url, timeout=5.0, retry=QUICK, circuit_breaker=WAITING)
    )


async def until(pool: PoolHandle, decisions: int) -> None:
    while len(await asyncio.to_thread(pool.decisions)) < decisions:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("fallbacks", [0, 1])
async def test_a_pod_that_dies_costs_no_answer(fallbacks: int) -> None:
    slow = SimulatorConfig.instant().with_changes(time_per_token=0.0005)
    picker = PickerConfig(choice="round-robin", fallbacks=fallbacks)
    with simulated_pool(pods=3, config=slow, picker=picker) as pool:
        async with client(pool) as one:
            asking = asyncio.create_task(ask(one, 200))
            await until(pool, 40)
            # The picker goes on choosing it: it has not noticed.
            await asyncio.to_thread(pool.pods[0].stop)
            await until(pool, 120)
            await asyncio.to_thread(pool.pods[0].start)
            assert await asking == 200


async def test_a_picker_that_is_restarted_is_waited_for() -> None:
    slow = SimulatorConfig.instant().with_changes(time_per_token=0.0005)
    with simulated_pool(pods=2, config=slow) as pool:
        async with client(pool) as one:
            asking = asyncio.create_task(ask(one, 200))
            await until(pool, 40)
            await asyncio.to_thread(pool.stop_picker)
            while one.events.breaker_state == "closed":
                await asyncio.sleep(0.005)
            assert not asking.done()
            await asyncio.to_thread(pool.start_picker)
            assert await asking == 200


async def test_a_picker_that_sends_its_clients_away_loses_no_request() -> None:
    with simulated_pool(pods=2) as pool:
        async with client(pool) as one:
            asking = asyncio.create_task(ask(one, 200))
            for decisions in (20, 60, 120):
                await until(pool, decisions)
                await asyncio.to_thread(pool.send_away)
            assert await asking == 200
        received = [pod.journal()["requests"] for pod in pool.pods]
    # Each was answered by one pod, once.
    assert sum(len(requests) for requests in received) == 200
