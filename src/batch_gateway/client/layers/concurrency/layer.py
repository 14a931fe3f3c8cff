"""The layer that keeps attempts within the limit, and tells the controller how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.client.layers.concurrency.permits import Controller, FixedController, Permits
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.clock import Clock
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.reasons import Why
from batch_gateway.concurrency.server_load import Advice, Standing
from batch_gateway.concurrency.telling import ConcurrencyStatistics, ReasonTimes, Telling
from batch_gateway.durations import format_duration
from batch_gateway.errors import (
    DeadlineExceededError,
    GatewayConnectionError,
    InferenceError,
)
from batch_gateway.wire.refusals import wants_room

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsWatch

__all__ = ["ConcurrencyTransport", "OnLimit", "ended_by"]

OnLimit = Callable[[int, Why | None, bool], None]
"""Told the limit, why it is that, and whether the reason is news rather than the number."""

_OK = Outcome.OK
_ABANDONED = Ended(Outcome.ABANDONED)
# Stands where a reason was seen that may have to be told later.
_LOOK_AGAIN = object()


def ended_by(error: InferenceError) -> Ended:
    """What the controller is told of an attempt that brought no answer."""
    if wants_room(error):
        return Ended(Outcome.REFUSED, retry_after=error.retry_after)
    if isinstance(error, GatewayConnectionError):
        return Ended(Outcome.UNREACHABLE)
    return Ended(Outcome.FAILED, retry_after=error.retry_after)


class ConcurrencyTransport:
    """A layer that holds attempts back until there is a permit, in order of arrival.

    A permit is held while an attempt is under way and no longer: a request that waits out a
    backoff above this layer holds none. `on_limit` is told each new limit, the first included,
    and each new reason as `Telling` has it; `streams` says that answers come token by token, and
    `metrics` is where an adaptive policy is told how loaded the gateway is.
    """

    def __init__(
        self,
        inner: Transport,
        policy: AdaptiveConcurrency | FixedConcurrency,
        clock: Clock,
        on_limit: OnLimit | None = None,
        *,
        streams: bool = False,
        metrics: MetricsWatch | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._controller: Controller = (
            FixedController(policy.limit)
            if isinstance(policy, FixedConcurrency)
            else AdaptiveController(policy)
        )
        self._permits = Permits(self._controller, clock)
        self._on_limit = on_limit
        self._streams = streams
        self._told = 0
        self._seen: object = None
        self._telling = Telling()
        self._times = ReasonTimes()
        self._tell(clock.monotonic())
        self._answered = 0
        self._metrics = metrics
        if metrics is not None:
            metrics.attach(self._standing, self._advise)

    @property
    def statistics(self) -> ConcurrencyStatistics:
        controller = self._controller
        return ConcurrencyStatistics(
            controller.limit,
            controller.in_flight,
            self._permits.waiting,
            controller.why,
            self._times.held(self._clock.monotonic()),
        )

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        """Raises DeadlineExceededError when the deadline passes before there is a permit."""
        started = self._permits.acquire_nowait() or await self._permit(request)
        if self._metrics is not None:
            self._metrics.wake()
        ended = _ABANDONED
        try:
            if self._streams or request.sink is not None:
                request = self._listening(request, started)
            response = await self._inner.send(request)
            self._answered += 1
            usage = response.usage
            ended = Ended(_OK, 0 if usage is None else usage.output_tokens)
        except InferenceError as error:
            ended = ended_by(error)
            raise
        finally:
            now = self._permits.release(started, ended)
            if self._times.waited_for and not self._permits.waited_for:
                self._times.flow(now)
            if self._controller.limit != self._told or self._controller.why is not self._seen:
                self._tell(now)
        return response

    def _listening(self, request: PreparedRequest, started: Started) -> PreparedRequest:
        def on_first_token(seconds: float) -> None:
            now = self._clock.monotonic()
            self._controller.first_token(started, seconds, now)
            self._permits.grant()
            self._tell(now)

        return msgspec.structs.replace(request, on_first_token=on_first_token)

    async def _permit(self, request: PreparedRequest) -> Started:
        if not self._times.waited_for:
            self._times.wait(self._clock.monotonic())
        if request.deadline == float("inf"):
            return await self._permits.acquire()
        left = request.deadline - self._clock.monotonic()
        try:
            return await asyncio.wait_for(self._permits.acquire(), max(0.0, left))
        except TimeoutError:
            allowed = format_duration(max(0.0, request.deadline - request.started))
            raise DeadlineExceededError(
                f"the deadline passed {allowed} after the request was made, while it waited for"
                f" its turn ({self._controller.limit} may be under way)",
                request_id=request.request_id,
                attempts=request.attempt - 1,
            ) from None

    def _standing(self) -> Standing:
        controller = self._controller
        return Standing(controller.in_flight, controller.limit, self._answered)

    def _advise(self, advice: Advice) -> None:
        if isinstance(self._controller, AdaptiveController):
            now = self._clock.monotonic()
            self._controller.advise(advice, now)
            self._permits.grant()
            self._tell(now)

    def _tell(self, now: float) -> None:
        limit, why = self._controller.limit, self._controller.why
        if limit != self._told or why is not self._seen:
            self._times.hold(why, limit, now)
        is_news = self._telling.is_news(why, now)
        self._seen = _LOOK_AGAIN if self._telling.pending else why
        if limit != self._told or is_news:
            self._told = limit
            if self._on_limit is not None:
                self._on_limit(limit, why, is_news)

    async def aclose(self) -> None:
        if self._metrics is not None:
            await self._metrics.aclose()
        await self._permits.aclose()
        await self._inner.aclose()
