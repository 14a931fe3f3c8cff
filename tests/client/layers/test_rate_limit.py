"""So many requests and tokens a minute, evenly spread."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    ConfigError,
    DeadlineExceededError,
    InferenceError,
    InferenceResponse,
    RateLimit,
    RateLimitError,
    ServerError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.layer import AdmissionTransport
from batch_gateway.client.layers.rate_limit import GCRA, TokenEstimator
from batch_gateway.clock import Clock
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.redaction import Redactor
from batch_gateway.http.response_errors import refusal_error
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock
from tests.virtual_time import LoopClock, run_in_virtual_time

pytestmark = pytest.mark.anyio


@given(
    st.floats(1, 1e6),
    st.floats(0, 10),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 100)), min_size=1, max_size=100),
)
def test_over_any_stretch_of_time_no_more_passes_than_rate_and_burst_allow(
    per_minute: float, burst: float, requests: list[tuple[float, float]]
) -> None:
    limit = GCRA(per_minute, burst)
    now, passed = 0.0, list[tuple[float, float]]()
    for gap, cost in requests:
        now += gap
        passed.append((now + limit.wait(now), cost))
        limit.take(cost, now)
    moments = [moment for moment, _ in passed]
    assert moments == sorted(moments) or all(
        later >= earlier - 1e-6 for earlier, later in itertools.pairwise(moments)
    )
    for start in range(len(passed)):
        for end in range(start, len(passed)):
            span = passed[end][0] - passed[start][0]
            # The last one is let in when it is due; its own cost is paid afterwards.
            cost = sum(cost for _, cost in passed[start:end])
            allowed = per_minute / 60 * (span + burst)
            assert cost <= allowed * (1 + 1e-6) + 1e-3


def test_what_was_not_used_is_given_back() -> None:
    limit = GCRA(60, burst=0)
    limit.take(10, 0)
    assert limit.wait(0) == 10
    limit.correct(-10)
    assert limit.wait(0) == 0
    limit.take(1, 0)
    assert limit.wait(0) == 1


def test_the_estimate_of_tokens_learns_and_respects_the_limit_of_the_request() -> None:
    estimator = TokenEstimator()
    body = b'{"model":"m","prompt":"' + b"x" * 377 + b'"}'
    assert estimator.estimate(body) == pytest.approx(len(body) / 4 + 256)
    for _ in range(100):
        estimator.learn(body, 200, 30)
    assert estimator.estimate(body) == pytest.approx(230, rel=0.01)
    assert estimator.estimate(b'{"max_tokens": 5}') < 20


class Gateway:
    """A transport that notes when it was asked and answers with usage and headers."""

    def __init__(self, clock: ManualClock, **headers: str) -> None:
        self.clock = clock
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.sent: list[float] = []
        self.tokens = 100
        self.error: InferenceError | None = None

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.sent.append(self.clock.now)
        if self.error is not None:
            raise self.error
        usage = {"prompt_tokens": self.tokens, "completion_tokens": 0}
        return InferenceResponse(
            request_id="r",
            status_code=200,
            headers=Headers.of(self.headers),
            body=json.dumps({"usage": usage}).encode(),
        )

    async def aclose(self) -> None:
        pass


def request(deadline: float = float("inf"), body: bytes = b"{}") -> PreparedRequest:
    return PreparedRequest(
        request_id="r", model="m", endpoint="/v1/completions", body=body, deadline=deadline
    )


def rate_limited(
    gateway: Gateway,
    policy: RateLimit,
    clock: Clock,
    on_wait: Callable[[float], None] | None = None,
) -> AdmissionTransport:
    """The layer with nothing in it but a rate limit."""
    return AdmissionTransport(gateway, Admission(clock, rate_limit=policy, on_rate_wait=on_wait))


async def test_requests_go_out_evenly() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock)
    waits = list[float]()
    policy = RateLimit(requests_per_minute=60, burst=0)
    transport = rate_limited(gateway, policy, clock, waits.append)
    for _ in range(5):
        await transport.send(request())
    assert gateway.sent == pytest.approx([0, 1, 2, 3, 4])
    assert waits == pytest.approx([1, 1, 1, 1])


async def test_tokens_are_estimated_before_and_corrected_after() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock)
    transport = rate_limited(gateway, RateLimit(tokens_per_minute=6000, burst=0), clock)
    for _ in range(61):
        await transport.send(request())
    # A hundred tokens each at a hundred a second.
    assert gateway.sent[-1] == pytest.approx(60, abs=4)


async def test_failed_requests_cost_no_tokens() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock)
    gateway.error = ServerError("500")
    transport = rate_limited(gateway, RateLimit(tokens_per_minute=60, burst=0), clock)
    for _ in range(10):
        with pytest.raises(ServerError):
            await transport.send(request())
    assert clock.sleeps == []


async def test_limits_are_learned_from_headers_where_they_are_lower() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock, x_ratelimit_limit_requests="60, 60;w=60")
    policy = RateLimit(requests_per_minute=6000, burst=0, learn=True)
    transport = rate_limited(gateway, policy, clock)
    for _ in range(4):
        await transport.send(request())
    assert gateway.sent == pytest.approx([0, 0.01, 1.01, 2.01], abs=0.05)


@pytest.mark.parametrize("reset", ["6.5s", "6.5", "6500ms", "1793577606.5"])
async def test_nothing_is_sent_before_the_gateway_has_something_left_again(reset: str) -> None:
    clock = ManualClock(0)
    gateway = Gateway(
        clock,
        x_ratelimit_limit_requests="6000",
        x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests=reset,
    )
    transport = rate_limited(gateway, RateLimit(learn=True), clock)
    await transport.send(request())
    await transport.send(request())
    assert gateway.sent[1] == pytest.approx(6.5, abs=0.1)


async def test_a_refusal_says_when_the_gateway_has_something_left_again() -> None:
    headers = {
        "X-RateLimit-Limit-Requests": "6000",
        "X-RateLimit-Remaining-Requests": "0",
        "X-RateLimit-Reset-Requests": "6.5s",
    }
    refusal = HTTPResponse(429, Headers.of(headers), b"")
    clock = ManualClock(0)
    gateway = Gateway(clock)
    gateway.error = refusal_error(refusal, clock.wall_time(), Redactor.of_headers(()))
    transport = rate_limited(gateway, RateLimit(learn=True), clock)
    with pytest.raises(RateLimitError):
        await transport.send(request())
    with pytest.raises(RateLimitError) as caught:
        await transport.send(request())
    assert gateway.sent[1] == pytest.approx(6.5, abs=0.1)
    assert caught.value.rate_limits["x-ratelimit-remaining-requests"] == "0"


async def test_a_turn_that_comes_after_the_deadline_is_not_waited_for() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock)
    transport = rate_limited(gateway, RateLimit(requests_per_minute=1, burst=0), clock)
    await transport.send(request())
    for _ in range(3):
        with pytest.raises(
            DeadlineExceededError, match="the rate limit would let it go only in 60"
        ):
            await transport.send(request(deadline=10))
    assert clock.sleeps == []


class StuckClock(ManualClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def test_a_cancelled_wait_gives_its_turn_back() -> None:
    clock = StuckClock(0)
    transport = rate_limited(Gateway(clock), RateLimit(requests_per_minute=60, burst=0), clock)
    await transport.send(request())
    waiting = [asyncio.create_task(transport.send(request())) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    clock.advance(1)
    assert (await transport.send(request())).status_code == 200
    await transport.aclose()


async def ask_at_times(
    limit: RateLimit, leaves_after: list[tuple[float, float]]
) -> tuple[list[float], int]:
    """When requests went out that came at some time and left when not sent so long after."""
    gateway = Gateway(ManualClock())
    transport = rate_limited(gateway, limit, LoopClock())
    loop = asyncio.get_running_loop()
    sent = list[float]()

    async def noting(request: PreparedRequest) -> InferenceResponse:
        sent.append(loop.time())
        return InferenceResponse(request_id="r", status_code=200, body=b"{}")

    gateway.send = noting

    async def ask(came: float, patience: float) -> None:
        await asyncio.sleep(came)
        async with asyncio.timeout(patience):
            await transport.send(request())

    asked = (ask(came, patience) for came, patience in leaves_after)
    ends = await asyncio.gather(*asked, return_exceptions=True)
    return sent, sum(end is None for end in ends)


def most_within(moments: list[float], span: float) -> int:
    return max(sum(start <= one < start + span for one in moments) for start in moments)


class LateClock(LoopClock):
    """Its timers go off a hundredth of a second too late."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds + 0.01)


def test_late_timers_do_not_lower_the_rate() -> None:
    async def main() -> None:
        limit = RateLimit(requests_per_minute=600, burst=0)
        transport = rate_limited(Gateway(ManualClock()), limit, LateClock())
        await asyncio.gather(*(transport.send(request()) for _ in range(101)))
        assert LoopClock().monotonic() == pytest.approx(10, abs=0.05)

    run_in_virtual_time(main())


def test_those_who_leave_the_line_let_nobody_pass_at_twice_the_rate() -> None:
    limit = RateLimit(requests_per_minute=60, burst=0)
    first = [(0.0, 0.5)] * 50 + [(0.0, 1e6)] * 50
    sent, _ = run_in_virtual_time(ask_at_times(limit, [*first, *[(0.6, 1e6)] * 50]))
    assert len(sent) == 101
    assert most_within(sent, 10) <= 11
    assert sent[-1] == pytest.approx(100, abs=2)


def test_those_who_give_up_waiting_do_not_keep_others_from_their_turn() -> None:
    limit = RateLimit(requests_per_minute=60, burst=0)
    # Ten a second come where one may go, and each waits for ten seconds.
    sent, answered = run_in_virtual_time(
        ask_at_times(limit, [(number / 10, 10.0) for number in range(1000)])
    )
    assert len(sent) == answered
    assert answered == pytest.approx(100, abs=12)


def test_a_first_guess_that_is_too_high_costs_nobody_the_turn() -> None:
    async def main() -> None:
        gateway, clock = Gateway(ManualClock()), LoopClock()
        gateway.tokens = 10
        transport = rate_limited(gateway, RateLimit(tokens_per_minute=6000), clock)
        # Taken for 256 tokens each before the first answer, which would be 77 s.
        ends = await asyncio.gather(
            *(transport.send(request(deadline=10)) for _ in range(30)), return_exceptions=True
        )
        assert all(isinstance(end, InferenceResponse) for end in ends)

    run_in_virtual_time(main())


def test_a_deadline_that_passes_in_line_ends_the_wait() -> None:
    async def main() -> None:
        gateway, clock = Gateway(ManualClock()), LoopClock()
        limit = RateLimit(requests_per_minute=60, burst=0, learn=True)
        transport = rate_limited(gateway, limit, clock)
        await transport.send(request())
        waiting = [
            asyncio.create_task(transport.send(request(deadline)))
            for deadline in (100.0, 100.0, 100.0, 5.0)
        ]
        await asyncio.sleep(0)
        # The gateway names a lower limit, so that one waits from 2 s to 12 s and another behind.
        gateway.headers = {"x-ratelimit-limit-requests": "6"}
        with pytest.raises(DeadlineExceededError, match="did not let it go before its deadline"):
            await waiting[-1]
        assert clock.monotonic() == pytest.approx(5)
        await asyncio.gather(*waiting[:-1])
        assert clock.monotonic() == pytest.approx(12)

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "rate_limit"),
        ({"requests_per_minute": 0}, "rate_limit.requests_per_minute"),
        ({"requests_per_minute": float("nan")}, "rate_limit.requests_per_minute"),
        ({"tokens_per_minute": "many"}, "rate_limit.tokens_per_minute"),
        ({"requests_per_minute": 5, "burst": "x"}, "rate_limit.burst"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RateLimit(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize("rate", [float("inf"), 10**400])
def test_a_rate_without_end_is_refused_as_one(rate: float) -> None:
    with pytest.raises(ConfigError, match="must be finite"):
        RateLimit(requests_per_minute=rate)


def test_a_rate_that_is_never_reached_holds_nothing_back() -> None:
    limit = GCRA(1e16, burst=0)
    for _ in range(1000):
        assert limit.wait(1.0) == pytest.approx(0, abs=1e-9)
        limit.take(1, 1.0)
