"""Leaving a gateway alone that fails, and noticing soon when it is back.

The breaker is closed while the gateway works. It opens on a share of failures over a sliding
window, on failures in a row, or when a router has no model servers. Then nothing is sent but one
probe now and then, and the first probe that succeeds closes it
(M. Nygard, "Release It!", 2007, "Circuit Breaker").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import isinf
from types import CoroutineType
from typing import Any, Literal

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.client.layers.failure_window import FailureRow, FailureWindow
from batch_gateway.clock import Clock
from batch_gateway.config_checks import (
    normalise_duration,
    require_count,
    require_kinds,
    require_number,
    require_positive,
)
from batch_gateway.durations import Duration, format_duration, seconds
from batch_gateway.errors import (
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    InferenceError,
)
from batch_gateway.wire.refusals import is_connect_failure, is_outage

__all__ = [
    "BreakerState",
    "CircuitBreaker",
    "CircuitBreakerPolicy",
    "CircuitBreakerTransport",
    "CircuitGate",
    "is_connect_failure",
]

# A router without model servers says so itself, for every request, and it is known to pass.
_PASSING = frozenset({"rejected-no-endpoints", "rejected-shutting-down"})
# How often to look whether another request's probe has ended.
_LOOK_EVERY = 0.1
# A replica that dies ends all its requests at once, and others go on: no cause to fail more.
_LEAST_ROW = 0.2


@dataclass(frozen=True, kw_only=True)
class CircuitBreakerPolicy:
    """When a gateway counts as failing, and what happens to requests meanwhile.

    Attributes:
        failure_ratio: share of failed sendings over `window` at which it opens.
        minimum_requests: with fewer sendings in the window the share says nothing. So many in a
            row without an answer, or with a 502 or 503, open it whatever the share.
        window: how far back sendings count.
        connect_failures: so many failures to connect in a row open it at once.
        broken_connections: so many that broke in a row do, too.
        first_probe, longest_probe: the wait before the first probe, and the longest between
            two; it doubles from one to the other.
        when_open: "fail" raises CircuitOpenError at once; "wait" holds requests until the
            gateway is back, and spends none of their retries on the outage.
        patience: in "wait", how long one outage may last before CircuitOpenError after all.
        after_success: do not open before the gateway has answered once, except for outages that
            a router announces as passing. A gateway that never worked is misconfigured.
    """

    failure_ratio: float = 0.5
    minimum_requests: int = 20
    window: Duration = 10.0
    connect_failures: int = 5
    broken_connections: int = 20
    first_probe: Duration = 1.0
    longest_probe: Duration = 60.0
    when_open: Literal["fail", "wait"] = "fail"
    patience: Duration = 1800.0
    after_success: bool = False

    def __post_init__(self) -> None:
        require_kinds(self, "circuit_breaker.")
        for name in ("window", "first_probe", "longest_probe", "patience"):
            normalise_duration(self, name, prefix="circuit_breaker.")
        require_positive("circuit_breaker.window", seconds(self.window))
        require_positive("circuit_breaker.first_probe", seconds(self.first_probe))
        for name in ("minimum_requests", "connect_failures", "broken_connections"):
            require_count(f"circuit_breaker.{name}", getattr(self, name), minimum=1)
        require_number("circuit_breaker.failure_ratio", self.failure_ratio)
        if not 0 < self.failure_ratio <= 1:
            raise ConfigError("circuit_breaker.failure_ratio", "must be above 0 and at most 1")
        if seconds(self.longest_probe) < seconds(self.first_probe):
            raise ConfigError("circuit_breaker.longest_probe", "is below first_probe")
        if self.when_open not in ("fail", "wait"):
            raise ConfigError("circuit_breaker.when_open", "must be 'fail' or 'wait'")


class BreakerState(StrEnum):
    """Closed lets everything pass, open nothing, half-open has one probe under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """The decisions: no waiting, no clock of its own. Times are monotonic seconds.

    Attributes:
        state: closed at first; only the breaker changes it.
    """

    def __init__(self, policy: CircuitBreakerPolicy) -> None:
        self._policy = policy
        self.state = BreakerState.CLOSED
        self._armed = not policy.after_success
        self._window = FailureWindow(seconds(policy.window))
        self._row = FailureRow(_LEAST_ROW if policy.when_open == "fail" else 0.0)
        self._connect_failures = 0
        self._probe_wait = 0.0
        self._next_probe = 0.0
        self.has_answered = False
        self.opened_at = 0.0

    def wait(self, now: float) -> float | None:
        """None to send, or seconds until a probe may go; infinity while one is under way."""
        if self.state is BreakerState.CLOSED:
            return None
        if self.state is BreakerState.HALF_OPEN:
            return float("inf")
        return max(0.0, self._next_probe - now)

    def begin_probe(self) -> None:
        """A probe is sent; it must end in `succeeded`, `failed` or `abandoned`."""
        self.state = BreakerState.HALF_OPEN

    def abandoned(self) -> None:
        """The probe was cancelled and says nothing; the next may go at once."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN

    def succeeded(self, now: float, sent: float | None = None) -> None:
        """A request that was sent at `sent`, or just now, was answered: the gateway works."""
        self.has_answered = True
        self._is_there(now, now if sent is None else sent)

    def _is_there(self, now: float, sent: float) -> None:
        self._armed = True
        self._connect_failures = 0
        if self._row.length:
            self._row.end(sent)
        if self.state is BreakerState.CLOSED:
            self._window.add(now, failed=False)
            return
        self.state = BreakerState.CLOSED
        self._window.clear()

    def ended(self, error: InferenceError, now: float, *, probe: bool) -> None:
        """A request failed in whichever way."""
        if is_outage(error, has_answered=self.has_answered):
            self.failed(error, now, probe=probe)
        elif error.status_code is not None:
            # Refused, but by a gateway that is there.
            self._is_there(now, now)
        elif probe:
            self.abandoned()

    def failed(self, error: InferenceError, now: float, *, probe: bool) -> None:
        """A request failed in a way that speaks against the gateway."""
        if error.dropped_reason in _PASSING:
            self._armed = True
        if probe and self.state is BreakerState.HALF_OPEN:
            self._probe_wait = min(2 * self._probe_wait, seconds(self._policy.longest_probe))
            self._next_probe = now + self._probe_wait
            self.state = BreakerState.OPEN
        elif self.state is BreakerState.CLOSED and self._armed and self._trips(error, now):
            self._probe_wait = seconds(self._policy.first_probe)
            self._next_probe = now + self._probe_wait
            self.state = BreakerState.OPEN
            self.opened_at = now

    def _trips(self, error: InferenceError, now: float) -> bool:
        self._window.add(now, failed=True)
        if error.dropped_reason in _PASSING:
            return True
        self._connect_failures = self._connect_failures + 1 if is_connect_failure(error) else 0
        if self._connect_failures >= self._policy.connect_failures:
            return True
        broken, in_a_row = self._row.add(error, now)
        least = self._policy.minimum_requests
        if broken >= self._policy.broken_connections or in_a_row >= least:
            return True
        failures, total = self._window.counts(now)
        return total >= least and failures >= self._policy.failure_ratio * total


class _TurnedBackError(Exception):
    """The request was not sent: the breaker opened while it waited for its turn."""


class CircuitGate:
    """Right before the gateway, below all layers in which a request may wait for its turn.

    Turns back what waited while the breaker opened. While it is open, the first request that
    comes here when a probe is due is the probe.
    """

    def __init__(self, inner: Transport, breaker: CircuitBreaker, clock: Clock) -> None:
        self._inner = inner
        self._breaker = breaker
        self._clock = clock

    def send(self, request: PreparedRequest) -> CoroutineType[Any, Any, InferenceResponse]:
        if self._breaker.state is BreakerState.CLOSED:
            return self._inner.send(request)
        return self._probe(request)

    async def _probe(self, request: PreparedRequest) -> InferenceResponse:
        breaker = self._breaker
        if breaker.wait(self._clock.monotonic()):
            raise _TurnedBackError
        breaker.begin_probe()
        try:
            response = await self._inner.send(request)
        except InferenceError as error:
            breaker.ended(error, self._clock.monotonic(), probe=True)
            raise
        except BaseException:
            breaker.abandoned()
            raise
        breaker.succeeded(self._clock.monotonic())
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class CircuitBreakerTransport:
    """A layer that sends nothing to a gateway that is down, one probe at a time aside.

    With layers in which requests wait between this one and the gateway, `breaker` is that of a
    CircuitGate below them.
    """

    def __init__(
        self,
        inner: Transport,
        policy: CircuitBreakerPolicy,
        clock: Clock,
        on_change: Callable[[BreakerState], None] | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._breaker = CircuitBreaker(policy) if breaker is None else breaker
        self._inner = CircuitGate(inner, self._breaker, clock) if breaker is None else inner
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._told = self._breaker.state
        self._last_error: InferenceError | None = None
        # Held by whoever waits for the next probe and sends it; the others queue up behind, in
        # order of arrival, and a cancelled one leaves its place to the next.
        self._turn = asyncio.Lock()

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        while True:
            sent = self._clock.monotonic()
            wait = self._breaker.wait(sent)
            if wait is None:
                try:
                    response = await self._inner.send(request)
                except _TurnedBackError:
                    continue
                except InferenceError as error:
                    if not self._failed(error):
                        raise
                    continue
                self._succeeded(sent)
                return response
            if self._policy.when_open == "wait":
                probed = await self._in_turn(request)
            elif wait or self._turn.locked():
                raise self._open_error(request, retry_after=None if isinf(wait) else wait)
            else:
                async with self._turn:
                    probed = await self._probe(request)
            if probed is not None:
                return probed

    async def _in_turn(self, request: PreparedRequest) -> InferenceResponse | None:
        """Wait for the gateway to come back, or for the turn to probe it."""
        remaining = request.deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(None if remaining == float("inf") else remaining):
                await self._turn.acquire()
        except TimeoutError as error:
            raise self._deadline_error(request, error) from error
        try:
            return await self._probe_when_due(request)
        finally:
            self._turn.release()

    async def _probe_when_due(self, request: PreparedRequest) -> InferenceResponse | None:
        now = self._clock.monotonic()
        wait = self._breaker.wait(now)
        if wait is None:
            return None
        # Under way is the probe of one that was nearer to the gateway.
        if isinf(wait):
            wait = _LOOK_EVERY
        if now - self._breaker.opened_at >= seconds(self._policy.patience):
            raise self._open_error(request, retry_after=None)
        if now + wait >= request.deadline:
            await self._clock.sleep(max(0.0, request.deadline - now))
            raise self._deadline_error(request, None)
        await self._clock.sleep(wait)
        # A request that was sent before the outage may have been answered meanwhile.
        if self._breaker.wait(self._clock.monotonic()) != 0:
            return None
        return await self._probe(request)

    async def _probe(self, request: PreparedRequest) -> InferenceResponse | None:
        """None when it failed, or was another's to send, and requests are to wait."""
        try:
            response = await self._inner.send(request)
        except _TurnedBackError:
            return None
        except InferenceError as error:
            if self._failed(error):
                return None
            raise
        self._succeeded()
        return response

    def _succeeded(self, sent: float | None = None) -> None:
        self._breaker.succeeded(self._clock.monotonic(), sent)
        if self._breaker.state is not self._told:
            self._tell()

    def _failed(self, error: InferenceError) -> bool:
        """Whether the breaker is open and the request is to wait for another turn."""
        outage = is_outage(error, has_answered=self._breaker.has_answered)
        if outage:
            self._last_error = error
        self._breaker.ended(error, self._clock.monotonic(), probe=False)
        self._tell()
        held = self._policy.when_open == "wait" and outage
        return held and self._breaker.state is not BreakerState.CLOSED

    def _tell(self) -> None:
        state = self._breaker.state
        if state is not self._told:
            self._told = state
            if self._on_change is not None:
                self._on_change(state)

    def _open_error(self, request: PreparedRequest, retry_after: float | None) -> CircuitOpenError:
        now = self._clock.monotonic()
        down = format_duration(now - self._breaker.opened_at)
        return CircuitOpenError(
            f"the gateway has been failing for {down}; last: {self._last_words()}",
            retry_after=retry_after,
            request_id=request.request_id,
            attempts=request.attempt - 1,
            cause=self._last_error,
        )

    def _deadline_error(
        self, request: PreparedRequest, cause: BaseException | None
    ) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the deadline passed while the gateway was failing; last: {self._last_words()}",
            request_id=request.request_id,
            attempts=request.attempt - 1,
            cause=cause,
        )

    def _last_words(self) -> str:
        return self._last_error.message if self._last_error is not None else "nothing"

    async def aclose(self) -> None:
        await self._inner.aclose()
