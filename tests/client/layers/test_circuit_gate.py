"""A breaker beside limits at which requests wait: what waited while it opened is not sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from batch_gateway import (
    AdaptiveConcurrency,
    CircuitBreakerPolicy,
    CircuitOpenError,
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
    RateLimit,
    ServerError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.layer import AdmissionTransport
from batch_gateway.client.layers.circuit_breaker import BreakerState
from batch_gateway.testing import simulated_gateway
from tests.client.manual_clock import ManualClock
from tests.virtual_time import LoopClock, run_in_virtual_time

pytestmark = pytest.mark.anyio

# One failure opens it, and nobody probes before a test is over.
AT_ONCE = CircuitBreakerPolicy(minimum_requests=1, first_probe="1m")


@pytest.mark.parametrize(
    "queue",
    [
        {"concurrency": FixedConcurrency(1)},
        {"concurrency": AdaptiveConcurrency(initial=1)},
        {"rate_limit": RateLimit(requests_per_minute=6000, burst="1ms")},
    ],
)
async def test_what_waits_for_its_turn_when_it_opens_fails_fast_too(queue: dict[str, Any]) -> None:
    with simulated_gateway(faults={"status-500": 1.0}) as gateway:
        config = HTTPInferenceClientConfig(
            gateway.url, retry=None, circuit_breaker=AT_ONCE, **queue
        )
        async with HTTPInferenceClient(config) as client:
            requests = [
                InferenceRequest(params={"model": "m", "prompt": str(number)})
                for number in range(30)
            ]
            ends = await asyncio.gather(*map(client.generate, requests), return_exceptions=True)
        sent = gateway.journal()["received"]
    kinds = Counter(type(end) for end in ends)
    assert sent <= 3
    assert kinds == {ServerError: sent, CircuitOpenError: 30 - sent}


class Restarted:
    """A gateway that is down until it has been asked so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.sent = self.under_way = self.most_under_way = 0

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.sent += 1
        down = self.sent <= self.failures
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if down:
            raise ServerError("down", status_code=503)
        return InferenceResponse(request_id=request.request_id, status_code=200, body=b"{}")

    async def aclose(self) -> None:
        pass


def prepared(number: int) -> PreparedRequest:
    return PreparedRequest(
        request_id=f"r-{number}", model="m", endpoint="/v1/completions", body=b"{}"
    )


def test_held_requests_are_all_sent_once_when_the_gateway_is_back() -> None:
    async def main() -> None:
        gateway = Restarted(failures=5)
        policy = CircuitBreakerPolicy(minimum_requests=1, when_open="wait")
        admission = Admission(LoopClock(), breaker=policy, concurrency=FixedConcurrency(4))
        transport = AdmissionTransport(gateway, admission)
        ends = await asyncio.gather(*(transport.send(prepared(number)) for number in range(50)))
        assert [end.request_id for end in ends] == [f"r-{number}" for number in range(50)]
        # The four that were under way, the probe that failed, and everybody's own.
        assert gateway.sent == 55
        assert admission.limit is not None
        assert admission.limit.statistics(LoopClock().monotonic()).in_flight == 0

    run_in_virtual_time(main())


class FailsForItself:
    """A gateway that one request and its retries make fail, and that answers all others."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.asked.append(request.request_id)
        if request.request_id == "r-0":
            raise ServerError("HTTP 500: crashed", status_code=500)
        return await Restarted(failures=0).send(request)

    async def aclose(self) -> None:
        pass


def test_whoever_failed_is_no_probe_before_others_however_soon_it_is_due() -> None:
    async def main() -> None:
        gateway = FailsForItself()
        policy = CircuitBreakerPolicy(minimum_requests=1, when_open="wait")
        transport = AdmissionTransport(gateway, Admission(LoopClock(), breaker=policy))
        soon, later = replace(prepared(0), due=1e3), replace(prepared(1), due=2e3)
        failed = asyncio.create_task(transport.send(soon))
        await asyncio.sleep(0.1)
        retry = asyncio.create_task(transport.send(replace(soon, attempt=2)))
        await asyncio.sleep(0.1)
        await transport.send(later)
        assert gateway.asked[:2] == ["r-0", "r-1"]
        failed.cancel()
        retry.cancel()
        await asyncio.wait([failed, retry])

    run_in_virtual_time(main())


async def test_while_it_is_open_one_probe_at_a_time_goes_out_whoever_comes_first() -> None:
    gateway, clock = Restarted(failures=4), ManualClock()
    policy = CircuitBreakerPolicy(minimum_requests=1, first_probe=1, longest_probe=1)
    admission = Admission(clock, breaker=policy)
    transport = AdmissionTransport(gateway, admission)
    with pytest.raises(ServerError):
        await transport.send(prepared(0))
    for _ in range(3):
        clock.advance(1)
        before = gateway.sent
        gateway.most_under_way = 0
        ends = await asyncio.gather(
            *(transport.send(prepared(n)) for n in range(5)), return_exceptions=True
        )
        assert Counter(map(type, ends)) == {ServerError: 1, CircuitOpenError: 4}
        assert (gateway.sent - before, gateway.most_under_way) == (1, 1)
    clock.advance(1)
    assert (await transport.send(prepared(1))).status_code == 200
    assert admission.breaker_state is BreakerState.CLOSED


async def test_a_cancelled_probe_leaves_its_turn_to_the_next() -> None:
    gateway, clock = Restarted(failures=1), ManualClock()
    transport = AdmissionTransport(gateway, Admission(clock, breaker=AT_ONCE))
    with pytest.raises(ServerError):
        await transport.send(prepared(0))
    clock.advance(60)
    probe = asyncio.create_task(transport.send(prepared(1)))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.wait([probe])
    assert (await transport.send(prepared(2))).request_id == "r-2"
