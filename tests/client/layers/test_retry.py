"""When a failed request is sent again, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    AuthenticationError,
    GatewayConnectionError,
    InferenceError,
    InferenceResponse,
    InvalidRequestError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StaleConnectionError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.retry import RetryBudget, RetryTransport, retry_delay
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock
from tests.virtual_time import LoopClock


def longest(_low: float, high: float) -> float:
    return high


def request(deadline: float = float("inf")) -> PreparedRequest:
    return PreparedRequest(
        request_id="r", model="m", endpoint="/v1/completions", body=b"{}", deadline=deadline
    )


class Scripted:
    """A transport that fails as told and then answers; it notes when it was asked."""

    def __init__(self, clock: ManualClock, failures: list[InferenceError]) -> None:
        self.clock = clock
        self.failures = list(failures)
        self.sent: list[tuple[float, int]] = []

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.sent.append((self.clock.now, request.attempt))
        if self.failures:
            raise self.failures.pop(0)
        return InferenceResponse(
            request_id="r", status_code=200, headers=Headers(), body=b"{}", attempts=request.attempt
        )

    async def aclose(self) -> None:
        pass


def test_the_ceiling_doubles_up_to_the_limit_and_is_higher_after_a_refusal_for_load() -> None:
    policy = RetryPolicy(max_retries=9, initial_backoff=1, rate_limit_backoff=4, max_backoff=10)
    server = [retry_delay(policy, ServerError("x"), n, longest) for n in range(1, 6)]
    limited = [retry_delay(policy, RateLimitError("x"), n, longest) for n in range(1, 4)]
    assert server == [1, 2, 4, 8, 10]
    assert limited == [4, 8, 10]


def test_refusals_for_load_that_are_no_429_wait_as_long_as_one() -> None:
    policy = RetryPolicy(initial_backoff=1, rate_limit_backoff=4)
    no_endpoints = ServerError("x", status_code=503, dropped_reason="rejected-no-endpoints")
    admission = ServerError("x", status_code=500, body=b"request cannot be admitted: busy")
    assert retry_delay(policy, no_endpoints, 1, longest) == 4
    assert retry_delay(policy, admission, 1, longest) == 4


def test_a_dead_pod_is_given_the_time_that_a_picker_takes_to_notice() -> None:
    policy = RetryPolicy(initial_backoff=1, rate_limit_backoff=4)
    assert retry_delay(policy, ServerError("x", code="pod_unreachable"), 1, longest) == 4


def test_the_wait_that_a_gateway_asks_for_is_obeyed_up_to_the_limit() -> None:
    policy = RetryPolicy(max_retry_after=30)
    assert retry_delay(policy, RateLimitError("x", retry_after=7), 1, lambda low, _: low) == 7
    assert retry_delay(policy, RateLimitError("x", retry_after=900), 1, lambda low, _: low) == 30


def test_no_wait_asked_for_is_not_a_wait_of_nothing() -> None:
    policy = RetryPolicy(rate_limit_backoff=4)
    assert retry_delay(policy, RateLimitError("x", retry_after=0), 1, longest) == 4


@pytest.mark.parametrize(
    "error",
    [InvalidRequestError("x"), AuthenticationError("x"), RateLimitError("x", is_retryable=False)],
)
def test_what_cannot_succeed_later_is_sent_once(error: InferenceError) -> None:
    assert retry_delay(RetryPolicy(), error, 1) is None


def test_a_stale_connection_is_tried_again_at_once_but_only_the_first_time() -> None:
    policy = RetryPolicy(initial_backoff=1)
    assert retry_delay(policy, StaleConnectionError("x"), 1, longest) == 0
    assert retry_delay(policy, StaleConnectionError("x"), 2, longest) == 2


@given(
    st.integers(0, 10),
    st.integers(1, 10**6),
    st.sampled_from([ServerError, RateLimitError, GatewayConnectionError, InvalidRequestError]),
    st.none() | st.floats(0, 1e9),
)
def test_a_delay_is_never_negative_nor_beyond_its_limits(
    retries: int, attempt: int, kind: Callable[..., InferenceError], retry_after: float | None
) -> None:
    policy = RetryPolicy(max_retries=retries)
    delay = retry_delay(policy, kind("x", retry_after=retry_after), attempt)
    if attempt > retries:
        assert delay is None
    if delay is not None:
        assert 0 <= delay <= 330


@pytest.mark.anyio
async def test_a_request_is_sent_until_it_succeeds() -> None:
    clock = ManualClock()
    inner = Scripted(clock, [ServerError("a"), GatewayConnectionError("b")])
    transport = RetryTransport(inner, RetryPolicy(initial_backoff=1), clock, longest)
    response = await transport.send(request())
    assert response.attempts == 3
    assert inner.sent == [(1000, 1), (1001, 2), (1003, 3)]


@pytest.mark.anyio
async def test_who_waits_for_a_retry_is_counted_until_the_wait_ends_in_whichever_way() -> None:
    clock, waits = ManualClock(), list[int]()
    inner = Scripted(clock, [ServerError("a"), ServerError("b")])
    await RetryTransport(inner, RetryPolicy(), clock, longest, on_backoff=waits.append).send(
        request()
    )
    assert waits == [1, -1, 1, -1]
    inner = Scripted(clock, [ServerError("c")])
    transport = RetryTransport(inner, RetryPolicy(), LoopClock(), longest, on_backoff=waits.append)
    leaves = asyncio.create_task(transport.send(request()))
    while waits[-1] == -1:
        await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])
    assert waits[-2:] == [1, -1]


@pytest.mark.anyio
async def test_the_last_error_is_raised_when_every_retry_failed() -> None:
    clock = ManualClock()
    inner = Scripted(clock, [ServerError(str(n)) for n in range(10)])
    with pytest.raises(ServerError, match="^2$"):
        await RetryTransport(inner, RetryPolicy(max_retries=2), clock).send(request())
    assert len(inner.sent) == 3


@pytest.mark.anyio
async def test_nothing_is_sent_after_the_deadline_and_nobody_waits_for_it() -> None:
    clock = ManualClock()
    inner = Scripted(clock, [ServerError("down", retry_after=20), ServerError("down")])
    transport = RetryTransport(inner, RetryPolicy(), clock, longest)
    with pytest.raises(ServerError, match="down"):
        await transport.send(request(deadline=clock.now + 10))
    assert clock.sleeps == []
    assert len(inner.sent) == 1


@pytest.mark.anyio
async def test_a_sick_gateway_is_not_hit_with_a_multiple_of_the_load() -> None:
    clock = ManualClock()
    inner = Scripted(clock, [ServerError("down") for _ in range(10_000)])
    policy = RetryPolicy(max_retries=3, initial_backoff=0, budget_ratio=0.5, budget_per_second=0)
    transport = RetryTransport(inner, policy, clock)
    for _ in range(1000):
        with pytest.raises(ServerError):
            await transport.send(request())
    assert 1450 <= len(inner.sent) <= 1510


@pytest.mark.anyio
async def test_a_retry_over_the_budget_waits_for_its_turn() -> None:
    clock = ManualClock()
    inner = Scripted(clock, [ServerError("down") for _ in range(4)])
    policy = RetryPolicy(max_retries=4, initial_backoff=0, budget_ratio=0, budget_per_second=1)
    await RetryTransport(inner, policy, clock).send(request())
    assert [moment - 1000 for moment, _ in inner.sent] == pytest.approx([0, 0, 1, 2, 3])


@given(
    st.floats(0, 1),
    st.floats(0, 50),
    st.lists(st.tuples(st.sampled_from(["earn", "spend"]), st.floats(0, 5)), max_size=200),
)
def test_a_budget_never_grants_more_than_was_earned(
    ratio: float, per_second: float, events: list[tuple[str, float]]
) -> None:
    now, earned, granted_by = 0.0, 0, list[float]()
    budget = RetryBudget(ratio, per_second, 60, now)
    start = max(1.0, per_second) if ratio or per_second else 0.0
    budget.first_sendings += 1
    for kind, gap in events:
        now += gap
        if kind == "earn":
            budget.first_sendings += 1
            earned += 1
        elif (wait := budget.spend(now)) is not None:
            assert 0 <= wait <= 60
            granted_by.append(now + wait)
    for horizon in granted_by:
        sent = sum(moment <= horizon for moment in granted_by)
        allowed = start + ratio * (earned + 1) + per_second * horizon
        assert sent <= allowed + 1e-6 * (1 + allowed)
