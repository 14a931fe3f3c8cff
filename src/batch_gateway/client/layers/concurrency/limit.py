"""How many attempts may be under way, and why: a controller, what it is told, what it tells."""

from __future__ import annotations

from collections.abc import Callable

from batch_gateway.client.layers.concurrency.controllers import Controller, FixedController
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.reasons import Why
from batch_gateway.concurrency.server_load import Advice, Standing
from batch_gateway.concurrency.telling import ConcurrencyStatistics, ReasonTimes, Telling
from batch_gateway.errors import GatewayConnectionError, InferenceError
from batch_gateway.wire.refusals import wants_room

__all__ = ["ABANDONED", "ConcurrencyLimit", "OnLimit", "ended_by"]

OnLimit = Callable[[int, Why | None, bool], None]
"""Told the limit, why it is that, and whether the reason is news rather than the number."""

ABANDONED = Ended(Outcome.ABANDONED)
# Stands where a reason was seen that may have to be told later.
_LOOK_AGAIN = object()


def ended_by(error: InferenceError) -> Ended:
    """What the controller is told of an attempt that brought no answer."""
    if wants_room(error):
        return Ended(Outcome.REFUSED, retry_after=error.retry_after)
    if isinstance(error, GatewayConnectionError):
        return Ended(Outcome.UNREACHABLE)
    return Ended(Outcome.FAILED, retry_after=error.retry_after)


class ConcurrencyLimit:
    """Tells a controller what becomes of the attempts, and others what it makes of that.

    `waiting` says how many wait to be sent. `on_limit` is told each new limit, the first included,
    and each new reason as `Telling` has it.
    """

    def __init__(
        self,
        policy: AdaptiveConcurrency | FixedConcurrency,
        now: float,
        waiting: Callable[[], int],
        on_limit: OnLimit | None = None,
    ) -> None:
        self._waiting = waiting
        self.controller: Controller = (
            FixedController(policy.limit)
            if isinstance(policy, FixedConcurrency)
            else AdaptiveController(policy)
        )
        self._on_limit = on_limit
        self._told = 0
        self._seen: object = None
        self._telling = Telling()
        self._times = ReasonTimes()
        self._answered = 0
        self._tell(now)

    def statistics(self, now: float) -> ConcurrencyStatistics:
        controller, times = self.controller, self._times
        return ConcurrencyStatistics(
            controller.limit,
            controller.in_flight,
            self._waiting() if times.waited_for else 0,
            controller.why,
            times.held(now),
        )

    def is_full(self, now: float) -> bool:
        """Whether nothing may be sent just now."""
        controller = self.controller
        return controller.in_flight >= controller.allowed_now or now < controller.paused_until

    def holds_others(self, holds: bool, now: float) -> None:
        """Whether somebody waits from now on because nothing may be sent."""
        if holds is not self._times.waited_for:
            (self._times.wait if holds else self._times.flow)(now)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self._answered += ended.outcome is Outcome.OK
        self.controller.finished(started, ended, now)
        if self.controller.limit != self._told or self.controller.why is not self._seen:
            self._tell(now)

    def first_token(self, started: Started, seconds: float, now: float, heard_after: float) -> None:
        self.controller.first_token(started, seconds, now, heard_after)
        self._tell(now)

    def look(self, now: float) -> None:
        """A pause may be over."""
        self.controller.look(now)
        self._tell(now)

    def standing(self) -> Standing:
        """How many are under way, may be, and were answered."""
        controller = self.controller
        return Standing(controller.in_flight, controller.limit, self._answered)

    def advise(self, advice: Advice, now: float) -> None:
        """What the gateway's own metrics say, which is of use where the limit is found out."""
        if isinstance(self.controller, AdaptiveController):
            self.controller.advise(advice, now)
            self._tell(now)

    def _tell(self, now: float) -> None:
        limit, why = self.controller.limit, self.controller.why
        if limit != self._told or why is not self._seen:
            self._times.hold(why, limit, now)
        is_news = self._telling.is_news(why, now)
        self._seen = _LOOK_AGAIN if self._telling.pending else why
        if limit != self._told or is_news:
            self._told = limit
            if self._on_limit is not None:
                self._on_limit(limit, why, is_news)
