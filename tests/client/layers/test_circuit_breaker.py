"""Leaving a failing gateway alone, and noticing when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    AuthenticationError,
    BadResponseError,
    CircuitBreakerPolicy,
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    ErrorCategory,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StaleConnectionError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.layer import AdmissionTransport
from batch_gateway.client.layers.circuit_breaker import (
    BreakerState,
    CircuitBreaker,
)
from batch_gateway.clock import Clock
from batch_gateway.testing import simulated_gateway
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock
from tests.virtual_time import LoopClock, run_in_virtual_time

pytestmark = pytest.mark.anyio

POLICY = CircuitBreakerPolicy(
    failure_ratio=0.5, minimum_requests=10, window=10, connect_failures=3, broken_connections=10
)


REFUSED = GatewayConnectionError("connection refused", cause=ConnectionRefusedError(111, "refused"))
RESET = GatewayConnectionError("reset", cause=ConnectionResetError(104, "reset"))


def request(deadline: float = float("inf")) -> PreparedRequest:
    return PreparedRequest(
        request_id="r", model="m", endpoint="/v1/completions", body=b"{}", deadline=deadline
    )


class Gateway:
    """A transport whose gateway is down while the clock is inside an outage."""

    def __init__(self, clock: Clock, outage: tuple[float, float], error: InferenceError) -> None:
        self.clock, self.outage, self.error = clock, outage, error
        self.sent: list[float] = []

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        now = self.clock.monotonic()
        self.sent.append(now)
        if self.outage[0] <= now < self.outage[1]:
            raise self.error
        return InferenceResponse(request_id="r", status_code=200, headers=Headers(), body=b"{}")

    async def aclose(self) -> None:
        pass


def test_it_opens_on_the_share_of_failures_but_not_on_a_few_requests() -> None:
    breaker = CircuitBreaker(POLICY)
    for moment in range(9):
        breaker.failed(ServerError("500"), moment / 10, probe=False)
    assert breaker.state is BreakerState.CLOSED
    breaker.failed(ServerError("500"), 1.0, probe=False)
    assert breaker.state is BreakerState.OPEN


def test_old_failures_slide_out_of_the_window() -> None:
    breaker = CircuitBreaker(POLICY)
    for moment in range(9):
        breaker.failed(ServerError("500"), moment / 10, probe=False)
    for moment in range(9):
        breaker.failed(ServerError("500"), 30 + moment / 10, probe=False)
    assert breaker.state is BreakerState.CLOSED


def test_a_little_noise_never_opens_it() -> None:
    breaker = CircuitBreaker(POLICY)
    for number in range(10_000):
        if number % 10 == 0:
            breaker.failed(ServerError("500"), number / 100, probe=False)
        else:
            breaker.succeeded(number / 100)
        assert breaker.state is BreakerState.CLOSED


def test_connect_failures_in_a_row_open_it_at_once_and_broken_ones_do_not() -> None:
    breaker = CircuitBreaker(POLICY)
    for error in [StaleConnectionError("stale"), RESET, BadResponseError("cut short")] * 2:
        breaker.failed(error, 0, probe=False)
    assert breaker.state is BreakerState.CLOSED
    for _ in range(3):
        breaker.failed(REFUSED, 0, probe=False)
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("error", [RESET, ServerError("503", status_code=503)])
def test_it_opens_when_nobody_answers_however_many_were_answered_before(
    error: InferenceError,
) -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(50_000):
        breaker.succeeded(0)
    for number in range(9):
        breaker.failed(error, 1 + number / 10, probe=False)
    assert breaker.state is BreakerState.CLOSED
    breaker.failed(error, 2, probe=False)
    assert breaker.state is BreakerState.OPEN


def test_a_replica_that_dies_with_many_requests_does_not_open_it_while_others_answer() -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(1000):
        breaker.succeeded(0)
    for _ in range(5):
        for _ in range(50):
            breaker.failed(RESET, 1, probe=False)
        assert breaker.state is BreakerState.CLOSED
        breaker.succeeded(1.1)


def test_requests_that_a_server_cannot_bear_are_no_row_of_unanswered_ones() -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(1000):
        breaker.succeeded(0)
    for number in range(100):
        breaker.failed(ServerError("500", status_code=500), 1 + number / 100, probe=False)
    assert breaker.state is BreakerState.CLOSED


def test_probes_come_after_a_wait_that_doubles_and_one_at_a_time() -> None:
    breaker = CircuitBreaker(CircuitBreakerPolicy(connect_failures=1, longest_probe=5))
    breaker.failed(REFUSED, 0, probe=False)
    waits = list[float]()
    now = 0.0
    for _ in range(5):
        wait = breaker.wait(now)
        assert wait is not None
        waits.append(wait)
        now += wait
        breaker.begin_probe()
        assert breaker.wait(now) == float("inf")
        breaker.failed(REFUSED, now, probe=True)
    assert waits == [1, 2, 4, 5, 5]
    breaker.begin_probe()
    breaker.succeeded(now)
    assert breaker.wait(now) is None


def test_a_gateway_that_never_worked_is_left_to_fail_unless_it_says_that_it_will_pass() -> None:
    policy = CircuitBreakerPolicy(connect_failures=1, after_success=True)
    breaker = CircuitBreaker(policy)
    breaker.failed(REFUSED, 0, probe=False)
    assert breaker.state is BreakerState.CLOSED
    scaling = ServerError("x", status_code=503, dropped_reason="rejected-no-endpoints")
    breaker.failed(scaling, 0, probe=False)
    assert breaker.state is BreakerState.OPEN


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.sampled_from(["send-ok", "send-fail", "late-ok", "late-fail", "cancel-probe"]),
        st.sampled_from([ServerError, RequestTimeoutError]),
    ),
    max_size=200,
)


@given(EVENTS)
def test_whatever_happens_there_is_at_most_one_probe_and_always_a_way_back(
    events: list[tuple[float, str, Any]],
) -> None:
    breaker = CircuitBreaker(POLICY)
    now, probing = 0.0, False
    for gap, event, kind in events:
        now += gap
        wait = breaker.wait(now)
        assert (wait == float("inf")) == (breaker.state is BreakerState.HALF_OPEN)
        assert not (breaker.state is BreakerState.HALF_OPEN and not probing)
        if event.startswith("late"):
            if event == "late-ok":
                breaker.succeeded(now)
                probing = False
            else:
                breaker.failed(kind("x"), now, probe=False)
        elif wait == 0 and not probing:
            breaker.begin_probe()
            probing = True
        if probing and event in ("send-ok", "send-fail", "cancel-probe"):
            probing = False
            if event == "send-ok":
                breaker.succeeded(now)
            elif event == "send-fail":
                breaker.failed(kind("x"), now, probe=True)
            else:
                breaker.abandoned()
    final = breaker.wait(now)
    if final is not None and final != float("inf"):
        assert final <= 60


class Guarded(AdmissionTransport):
    """The layer with nothing in it but a circuit breaker."""

    def __init__(
        self,
        gateway: Transport,
        policy: CircuitBreakerPolicy,
        clock: Clock,
        on_change: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self.admission = Admission(clock, breaker=policy, on_breaker=on_change)
        super().__init__(gateway, self.admission)

    @property
    def state(self) -> BreakerState:
        return self.admission.breaker_state


async def open_it(transport: Guarded, times: int = 3) -> None:
    for _ in range(times):
        with pytest.raises(InferenceError):
            await transport.send(request())


async def test_an_open_breaker_fails_fast_with_its_category_and_sends_nothing() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock, (0, 1e9), REFUSED)
    transport = Guarded(gateway, POLICY, clock)
    await open_it(transport)
    with pytest.raises(CircuitOpenError, match="last: connection refused") as caught:
        await transport.send(request())
    assert caught.value.category is ErrorCategory.SERVER_ERROR
    assert caught.value.is_retryable
    assert caught.value.retry_after == 1
    assert caught.value.attempts == 0
    assert len(gateway.sent) == 3


async def test_a_probe_that_succeeds_closes_it() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock, (0, 5), REFUSED)
    states = list[BreakerState]()
    transport = Guarded(gateway, POLICY, clock, states.append)
    await open_it(transport)
    clock.advance(6)
    await transport.send(request())
    assert transport.state is BreakerState.CLOSED
    assert states == [BreakerState.OPEN, BreakerState.CLOSED]


class InFlight:
    """Each attempt ends as the test says."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[InferenceResponse]] = []

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.ends.append(asyncio.get_running_loop().create_future())
        return await self.ends[-1]

    async def aclose(self) -> None:
        pass


async def test_each_change_is_told_once_however_many_requests_bring_it_about() -> None:
    gateway, states = InFlight(), list[BreakerState]()
    transport = Guarded(gateway, POLICY, ManualClock(0), states.append)
    sending = asyncio.gather(
        *(transport.send(request()) for _ in range(10)), return_exceptions=True
    )
    await asyncio.sleep(0)
    for end in gateway.ends[:-1]:
        end.set_exception(REFUSED)
    await asyncio.sleep(0)
    assert states == [BreakerState.OPEN]
    # Sent before the outage, answered during it.
    gateway.ends[-1].set_result(InferenceResponse(request_id="r", status_code=200, body=b"{}"))
    await sending
    assert states == [BreakerState.OPEN, BreakerState.CLOSED]
    assert transport.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("429", status_code=429),
        AuthenticationError("401", status_code=401),
        ServerError("500", status_code=500, body=b"inference error: request cannot be admitted"),
        ServerError("503", status_code=503, dropped_reason="rejected-ttl-expired"),
        ServerError("503", status_code=503, dropped_reason="rejected-context-cancelled"),
    ],
)
async def test_a_gateway_that_refuses_is_a_gateway_that_is_there(error: InferenceError) -> None:
    clock = ManualClock(0)
    transport = Guarded(Gateway(clock, (0, 1e9), error), POLICY, clock)
    for _ in range(50):
        with pytest.raises(type(error)):
            await transport.send(request())
    assert transport.state is BreakerState.CLOSED


WAITING = CircuitBreakerPolicy(connect_failures=3, when_open="wait", longest_probe=1.5, patience=60)


async def test_waiting_requests_spend_nothing_on_an_outage_and_go_on_within_two_seconds() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock, (0, 40.2), REFUSED)
    transport = Guarded(gateway, WAITING, clock)
    # The first two fail before the breaker opens, which is for the retry layer to deal with.
    await open_it(transport, 2)
    answers = await asyncio.gather(*(transport.send(request()) for _ in range(100)))
    assert len(answers) == 100
    probes = [moment for moment in gateway.sent if moment < 40.2]
    assert len(probes) < 40
    assert clock.now < 42.2


async def test_patience_ends_a_wait() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock, (0, 1e9), REFUSED)
    transport = Guarded(gateway, WAITING, clock)
    await open_it(transport, 2)
    results = await asyncio.gather(
        *(transport.send(request()) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, CircuitOpenError) for result in results)
    assert "has been failing for 1m" in str(results[0])
    assert 60 <= clock.now < 65


def test_a_deadline_ends_a_wait() -> None:
    async def main() -> None:
        clock = LoopClock()
        gateway = Gateway(clock, (0, 1e9), REFUSED)
        transport = Guarded(gateway, WAITING, clock)
        await open_it(transport, 2)
        with pytest.raises(DeadlineExceededError, match="while the gateway was failing"):
            await transport.send(request(deadline=10))
        assert clock.monotonic() == 10
        assert all(moment < 10 for moment in gateway.sent)
        await transport.aclose()

    run_in_virtual_time(main())


async def test_a_cancelled_probe_leaves_its_turn_to_the_next() -> None:
    clock = ManualClock(0)
    gateway = Gateway(clock, (0, 5), REFUSED)
    transport = Guarded(gateway, WAITING, clock)
    await open_it(transport, 2)
    first = asyncio.create_task(transport.send(request()))
    second = asyncio.create_task(transport.send(request()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).status_code == 200
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"failure_ratio": 0}, "failure_ratio"),
        ({"failure_ratio": 1.5}, "failure_ratio"),
        ({"minimum_requests": 0}, "minimum_requests"),
        ({"connect_failures": 0}, "connect_failures"),
        ({"window": 0}, "window"),
        ({"first_probe": 5, "longest_probe": 2}, "longest_probe"),
        ({"when_open": "panic"}, "when_open"),
        ({"patience": "long"}, "patience"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CircuitBreakerPolicy(**settings)
    assert caught.value.field == f"circuit_breaker.{field}"


async def test_a_gateway_that_sheds_by_a_500_is_never_given_up() -> None:
    with simulated_gateway(faults={"admission-refused": 1.0}) as gateway:
        config = HTTPInferenceClientConfig(gateway.url, circuit_breaker=POLICY, retry=None)
        async with HTTPInferenceClient(config) as client:
            for _ in range(30):
                with pytest.raises(ServerError, match="cannot be admitted"):
                    await client.generate(InferenceRequest(params={"model": "m", "prompt": "x"}))
            gateway.set_faults({})
            # Not a CircuitOpenError, which it would be after an outage.
            await client.generate(InferenceRequest(params={"model": "m", "prompt": "x"}))


async def test_the_client_fails_fast_while_its_gateway_is_down() -> None:
    with simulated_gateway(faults={"status-503": 1.0}) as gateway:
        config = HTTPInferenceClientConfig(gateway.url, retry=None, circuit_breaker=POLICY)
        async with HTTPInferenceClient(config) as client:
            ask = InferenceRequest(params={"model": "m", "prompt": "x"})
            for _ in range(10):
                with pytest.raises(ServerError):
                    await client.generate(ask)
            with pytest.raises(CircuitOpenError):
                await client.generate(ask)
        assert gateway.journal()["received"] == 10
