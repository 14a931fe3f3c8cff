"""The whole stack of layers under random answers, faults, jumps of the clock and cancellations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Never

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import (
    AdaptiveConcurrency,
    BadResponseError,
    CircuitBreakerPolicy,
    FixedConcurrency,
    GatewayConnectionError,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    RateLimit,
    RequestTimeoutError,
    RetryPolicy,
    SchedulingHints,
    StaleConnectionError,
)
from batch_gateway.client.client import build_stack
from batch_gateway.client.http.exchange import HTTPResponse
from batch_gateway.client.instrumentation import GatewayEvents
from batch_gateway.client.prepare import prepare
from batch_gateway.wire.headers import Headers
from tests.virtual_time import LoopClock, VirtualTimeLoop, run_in_virtual_time

MAX_RETRIES = 3
GOOD = HTTPResponse(200, Headers(), b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}')


def refusal(status: int, **headers: str) -> HTTPResponse:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPResponse(status, Headers.of(pairs), b'{"error":{"message":"no"}}')


ANSWERS = [
    GOOD,
    GOOD,
    GOOD,
    refusal(400),
    refusal(401),
    refusal(429),
    refusal(429, retry_after="3"),
    refusal(500),
    refusal(503, x_llm_d_request_dropped_reason="rejected-no-endpoints"),
    refusal(429, x_llm_d_request_dropped_reason="rejected-ttl-expired"),
    HTTPResponse(200, Headers(), b""),
    GatewayConnectionError("refused"),
    StaleConnectionError("stale"),
    BadResponseError("cut short"),
    "stall",
]


@dataclass
class Exchanger:
    """Answers from a script, one entry a sending, after a while; keeps count of everything."""

    script: Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.late: list[str] = []
        self.deadlines: dict[str, float] = {}

    async def post(
        self, path: str, headers: Sequence[tuple[str, str]], body: bytes, *, deadline: float
    ) -> HTTPResponse:
        request_id = dict(headers)["X-Request-ID"]
        loop = asyncio.get_running_loop()
        turn = sum(self.sent.values())
        self.sent[request_id] += 1
        if loop.time() >= self.deadlines.get(request_id, float("inf")):
            self.late.append(request_id)
        answer, latency = self.script[turn % len(self.script)]
        chosen = ANSWERS[answer]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(1e9 if chosen == "stall" else latency)
        except TimeoutError as error:
            raise RequestTimeoutError("did not answer in time", cause=error) from error
        finally:
            self.in_flight -= 1
        if isinstance(chosen, InferenceError):
            raise type(chosen)(chosen.message)
        assert isinstance(chosen, HTTPResponse)
        return chosen

    def stream(self, *_arguments: object, **_settings: object) -> Never:
        raise AssertionError("nobody asked")

    async def connect(self, *, deadline: float) -> None:
        raise AssertionError("nobody asked")

    async def aclose(self) -> None:
        pass


@dataclass(frozen=True)
class Asked:
    """One request of a schedule: when it comes, how long it may take, when it is cancelled."""

    at: float
    deadline: float | None
    cancelled_after: float | None


ASKED = st.builds(
    Asked,
    at=st.floats(0, 30),
    deadline=st.none() | st.floats(0.1, 60),
    cancelled_after=st.none() | st.floats(0, 20),
)
BREAKERS = st.sampled_from(
    [
        None,
        CircuitBreakerPolicy(minimum_requests=5, connect_failures=2),
        CircuitBreakerPolicy(
            minimum_requests=5, connect_failures=2, when_open="wait", patience=100, longest_probe=2
        ),
    ]
)
RATES = st.sampled_from(
    [None, RateLimit(requests_per_minute=120), RateLimit(tokens_per_minute=5000, learn=True)]
)


LIMITS = st.sampled_from(
    [None, FixedConcurrency(1), FixedConcurrency(3), AdaptiveConcurrency(initial=2, maximum=4)]
)


async def run_schedule(
    asked: Sequence[Asked],
    script: Sequence[tuple[int, float]],
    breaker: CircuitBreakerPolicy | None,
    rate: RateLimit | None,
    limit: AdaptiveConcurrency | FixedConcurrency | None,
    jumps: Sequence[tuple[float, float]],
) -> tuple[Sequence[object], Exchanger]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    clock, exchanger = LoopClock(), Exchanger(script)
    config = HTTPInferenceClientConfig(
        timeout=10,
        retry=RetryPolicy(max_retries=MAX_RETRIES),
        circuit_breaker=breaker,
        rate_limit=rate,
        concurrency=limit,
        scheduling=SchedulingHints(),
    )
    stack = build_stack(config, exchanger, clock, GatewayEvents("gateway"))

    async def ask(number: int, one: Asked) -> InferenceResponse:
        await asyncio.sleep(one.at)
        params = {"model": "m", "prompt": "x"}
        request = prepare(
            InferenceRequest(request_id=f"r{number}", params=params, deadline=one.deadline), clock
        )
        exchanger.deadlines[request.request_id] = request.deadline
        return await stack.send(request)

    tasks = [asyncio.create_task(ask(number, one)) for number, one in enumerate(asked)]
    for task, one in zip(tasks, asked, strict=True):
        if one.cancelled_after is not None:
            loop.call_later(one.at + one.cancelled_after, task.cancel)
    for at, seconds in jumps:
        loop.call_later(at, loop.jump, seconds)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 100_000)
    return ends, exchanger


@settings(max_examples=300)
@given(
    st.lists(ASKED, min_size=1, max_size=12),
    st.lists(
        st.tuples(st.integers(0, len(ANSWERS) - 1), st.floats(0.001, 5)), min_size=1, max_size=30
    ),
    BREAKERS,
    RATES,
    LIMITS,
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 120)), max_size=3),
)
def test_every_request_ends_once_in_time_and_within_its_attempts(
    asked: list[Asked],
    script: list[tuple[int, float]],
    breaker: CircuitBreakerPolicy | None,
    rate: RateLimit | None,
    limit: AdaptiveConcurrency | FixedConcurrency | None,
    jumps: list[tuple[float, float]],
) -> None:
    ends, exchanger = run_in_virtual_time(run_schedule(asked, script, breaker, rate, limit, jumps))
    assert len(ends) == len(asked)
    for number, (one, end) in enumerate(zip(asked, ends, strict=True)):
        sent = exchanger.sent[f"r{number}"]
        if isinstance(end, asyncio.CancelledError):
            assert one.cancelled_after is not None
        elif isinstance(end, InferenceError):
            assert end.request_id == f"r{number}"
            assert end.attempts <= MAX_RETRIES + 1
        else:
            assert isinstance(end, InferenceResponse)
            assert 1 <= end.attempts <= sent
        # A breaker that waits sends probes of its own; without one, no more than the policy says.
        if breaker is None or breaker.when_open == "fail":
            assert sent <= MAX_RETRIES + 1
    assert exchanger.in_flight == 0
    if isinstance(limit, FixedConcurrency):
        assert exchanger.most_in_flight <= limit.limit
    # A jump of the clock while a request was on its way to the socket is nobody's fault.
    assert jumps or exchanger.late == []
