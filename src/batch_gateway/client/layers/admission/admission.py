"""Waiting for a permit: the futures and the one timer around `AdmissionControl`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.control import AdmissionControl, Permit, Waiter
from batch_gateway.client.layers.circuit_breaker import BreakerState, CircuitBreakerPolicy
from batch_gateway.client.layers.concurrency.lateness import Lateness
from batch_gateway.client.layers.concurrency.limit import ConcurrencyLimit, OnLimit
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.clock import Clock
from batch_gateway.concurrency.server_load import Advice
from batch_gateway.errors import InferenceError
from batch_gateway.wire.usage import Usage

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsWatch

__all__ = ["Admission"]

_NEVER = float("inf")


class _Waiter(Waiter):
    __slots__ = ("permit",)

    def __init__(self, request: PreparedRequest) -> None:
        # As Waiter's, without a call: this runs once a wait.
        self.request = request
        self.rated = 0.0
        self.permit: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()

    @property
    def is_gone(self) -> bool:
        return self.permit.done()


class Admission:
    """Gives the permits for attempts at one gateway. Belongs to one event loop.

    A permit is held while an attempt is under way and no longer: a request that waits out a
    backoff holds none. `on_breaker` is told each state that lasts, `on_rate_wait` the seconds for
    which the rate limit held a request back, when that is over; `on_limit` see `ConcurrencyLimit`.
    `metrics` is where an adaptive `concurrency` is told how loaded the gateway is.

    Attributes:
        reads_usage: whether it goes by the token counts of answers.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        breaker: CircuitBreakerPolicy | None = None,
        rate_limit: RateLimit | None = None,
        concurrency: AdaptiveConcurrency | FixedConcurrency | None = None,
        metrics: MetricsWatch | None = None,
        on_breaker: Callable[[BreakerState], None] | None = None,
        on_rate_wait: Callable[[float], None] | None = None,
        on_limit: OnLimit | None = None,
    ) -> None:
        self._clock = clock
        self._control = AdmissionControl[_Waiter](
            clock.monotonic(),
            breaker=breaker,
            rate_limit=rate_limit,
            concurrency=concurrency,
            on_limit=on_limit,
        )
        self._on_breaker = on_breaker
        self._on_rate_wait = on_rate_wait
        self._told = self.breaker_state
        self._waker: asyncio.Task[None] | None = None
        self._wakes_at = _NEVER
        self._lateness = Lateness(clock)
        self._metrics = metrics
        if metrics is not None and self._control.limit is not None:
            metrics.attach(self._control.limit.standing, self._advise)
        # A number that stands goes by nothing.
        is_found = isinstance(concurrency, AdaptiveConcurrency)
        self.reads_usage = rate_limit is not None or is_found

    @property
    def breaker_state(self) -> BreakerState:
        breaker = self._control.breaker
        return BreakerState.CLOSED if breaker is None else breaker.state

    @property
    def limit(self) -> ConcurrencyLimit | None:
        return self._control.limit

    # -- permits ---------------------------------------------------------------------------

    def acquire_nowait(self, request: PreparedRequest) -> Permit | None:
        """A permit, when nothing is in the way and nobody waits."""
        if self._metrics is not None:
            self._metrics.wake()
        return self._control.admit(request, self._clock.monotonic())

    async def acquire(self, request: PreparedRequest) -> Permit:
        """Wait for a permit. Cancelling the wait gives its place, or its permit, to the next.

        Raises DeadlineExceededError when the deadline passes before there is one, or will surely
        have passed; and CircuitOpenError when nobody is to wait for the gateway any longer.
        """
        now = self._clock.monotonic()
        waiter = _Waiter(request)
        self._control.come(waiter, now)
        # What holds back others holds this one back too, and is looked after.
        if self._control.waiting.waiting == 1:
            self._grant(now)
        try:
            if request.deadline == _NEVER:
                return await waiter.permit
            async with asyncio.timeout(max(0.0, request.deadline - now)):
                return await waiter.permit
        except (asyncio.CancelledError, TimeoutError) as error:
            late = self._control.too_late(request)
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                raise late from error
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """It does not want a permit any more, though it may just have been given one."""
        now = self._clock.monotonic()
        self._control.leave(waiter)
        given = not waiter.permit.cancel() and not waiter.permit.cancelled()
        if given and waiter.permit.exception() is None:
            self._control.declined(waiter.permit.result(), now)
        self._go_on(now)

    # -- how attempts end ------------------------------------------------------------------

    def answered(
        self,
        permit: Permit,
        request: PreparedRequest,
        response: InferenceResponse,
        usage: Usage | None,
    ) -> None:
        """The attempt was answered; `usage` is the response's, where it is read."""
        control, now = self._control, self._clock.monotonic()
        control.answered(permit, request, usage, now)
        if control.rates is not None:
            control.learn(response.headers, now, self._clock.wall_time())
        breaker = control.breaker
        if control.waiting.waiting or (breaker is not None and breaker.state is not self._told):
            self._go_on(now)

    def failed(self, permit: Permit, error: InferenceError, request_id: str = "") -> bool:
        """The attempt failed; see `AdmissionControl.failed`."""
        now = self._clock.monotonic()
        held = self._control.failed(permit, error, now, request_id)
        if error.rate_limits:
            self._control.learn(error.rate_limits, now, self._clock.wall_time())
        self._go_on(now)
        return held

    def outlasts(self, request: PreparedRequest, error: InferenceError) -> bool:
        """The request has spent its retries; see `CircuitBreaker.outlasts`."""
        breaker, now = self._control.breaker, self._clock.monotonic()
        held = breaker is not None and breaker.outlasts(error, request.failed_at, now)
        self._go_on(now)
        return held

    @property
    def blames_few(self) -> bool:
        """Whether what is held may be to blame itself, so that others had better be tried."""
        return self._control.breaker is not None and self._control.breaker.blames_few

    def abandoned(self, permit: Permit) -> None:
        """The attempt was cut off, which says nothing."""
        now = self._clock.monotonic()
        self._control.abandoned(permit, now)
        self._go_on(now)

    def first_token(self, permit: Permit, seconds: float) -> None:
        """The first token of a streamed answer came so many seconds after it was asked for."""
        limit, now = self._control.limit, self._clock.monotonic()
        if limit is not None and permit.started is not None:
            limit.first_token(permit.started, seconds, now, self._lateness.seconds())
            self._grant(now)

    def _advise(self, advice: Advice) -> None:
        limit, now = self._control.limit, self._clock.monotonic()
        if limit is not None:
            limit.advise(advice, now)
            self._grant(now)

    def _go_on(self, now: float) -> None:
        control = self._control
        if control.waiting.waiting:
            self._grant(now)
        breaker = control.breaker
        if breaker is not None and breaker.state is not self._told:
            self._told = breaker.state
            if self._on_breaker is not None:
                self._on_breaker(self._told)

    # -- the queue -------------------------------------------------------------------------

    def _grant(self, now: float) -> None:
        """Tell those who need not wait any longer, and look again when time may change that."""
        control = self._control
        while (ended := control.next(now)) is not None:
            waiter, permit = ended
            if not isinstance(permit, Permit):
                waiter.permit.set_exception(permit)
                continue
            waiter.permit.set_result(permit)
            if control.rates is None or self._on_rate_wait is None:
                continue
            if (waited := control.rate_waited(waiter, now)) > 0:
                self._on_rate_wait(waited)
        seconds = control.look_after(now)
        if self._waker is not None or seconds != _NEVER:
            self._look_after(seconds, now)

    def _look_after(self, seconds: float, now: float) -> None:
        # A timer that is too early finds out when to look again.
        early = self._waker is not None and self._wakes_at <= now + seconds
        if self._waker is not None and (not early or not self._control.waiting):
            self._waker.cancel()
            self._waker = None
        if self._waker is None and seconds != _NEVER:
            self._wakes_at = now + seconds
            self._waker = asyncio.create_task(self._wake(seconds))

    async def _wake(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._waker = None
        now = self._clock.monotonic()
        if self._control.limit is not None:
            self._control.limit.look(now)
        self._grant(now)

    async def aclose(self) -> None:
        """End every wait."""
        if self._waker is not None:
            self._waker.cancel()
            with suppress(asyncio.CancelledError):
                await self._waker
        while self._control.waiting:
            self._control.waiting.pop().permit.cancel()
        self._lateness.close()
        if self._metrics is not None:
            await self._metrics.aclose()
