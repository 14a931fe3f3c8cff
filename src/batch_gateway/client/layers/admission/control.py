"""When an attempt may go, and which of those that wait goes first. Pure: `now` is given.

Whoever may not go waits in one queue (`Turns`) until the circuit breaker, the rate limits and the
concurrency limit all let it go: nothing that a waiting request has taken, a token of a rate or a
permit, is idle meanwhile.

| what holds the next one back        | until                                              |
|-------------------------------------|----------------------------------------------------|
| OUTAGE: the breaker is not closed   | a probe is due, and then one goes; a probe has     |
|                                     | ended; or those who wait lose patience             |
| LIMIT: as many as may are under way,| one of them has ended, the limit has risen, or the |
| or the controller pauses            | pause is over                                      |
| RATE: requests or tokens a minute   | the next is due                                    |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.turns import Turn, Turns
from batch_gateway.client.layers.circuit_breaker import (
    BreakerState,
    CircuitBreaker,
    CircuitBreakerPolicy,
)
from batch_gateway.client.layers.concurrency.limit import (
    ABANDONED,
    ConcurrencyLimit,
    OnLimit,
    ended_by,
)
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit, Rates
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.durations import format_duration
from batch_gateway.errors import CircuitOpenError, DeadlineExceededError, InferenceError
from batch_gateway.wire.usage import Usage

__all__ = ["AdmissionControl", "Permit", "Waiter"]

_CLOSED = BreakerState.CLOSED
_OK = Outcome.OK
_NEVER = float("inf")


class Permit(msgspec.Struct, frozen=True, gc=False):
    """Leave to make one attempt; it must come back in `answered`, `failed` or `abandoned`.

    Attributes:
        at: monotonic seconds when it was given.
        started: what the concurrency limit remembers of it; None without such a limit.
        tokens: how many it is thought to cost, for the rate limit.
        probe: the circuit breaker is open, and this attempt finds out whether it may close.
    """

    at: float
    started: Started | None = None
    tokens: float = 0.0
    probe: bool = False


class Waiter:
    """A request in the queue: its turn, and for how long the rate limit had held others before.

    `is_gone` says that it is about to leave, and wants no permit.
    """

    __slots__ = ("rated", "request", "turn")

    turn: Turn[Any]
    is_gone = False

    def __init__(self, request: PreparedRequest) -> None:
        self.request = request
        self.rated = 0.0


W = TypeVar("W", bound=Waiter)


class _Held(Enum):
    OUTAGE = "outage"
    LIMIT = "limit"
    RATE = "rate"


class AdmissionControl(Generic[W]):
    """The decisions for one gateway, in monotonic seconds.

    After every event `next` is to be asked until it gives None, and then again after `look_after`.

    Attributes:
        breaker, rates, limit: what holds requests back; None where nothing of the kind does.
        waiting: those that wait for their turn.
    """

    def __init__(
        self,
        now: float,
        *,
        breaker: CircuitBreakerPolicy | None = None,
        rate_limit: RateLimit | None = None,
        concurrency: AdaptiveConcurrency | FixedConcurrency | None = None,
        on_limit: OnLimit | None = None,
    ) -> None:
        self.waiting = waiting = Turns[W]()
        self.breaker = None if breaker is None else CircuitBreaker(breaker)
        self.rates = None if rate_limit is None else Rates(rate_limit)
        self.limit = (
            None
            if concurrency is None
            else ConcurrencyLimit(concurrency, now, waiting.__len__, on_limit)
        )
        self._only_breaker = self.breaker if self.rates is None and self.limit is None else None
        # For how long the rate limit has held requests back, and since when it does.
        self._rated = 0.0
        self._rated_since: float | None = None
        self._held: _Held | None = None

    # -- permits ---------------------------------------------------------------------------

    def admit(self, request: PreparedRequest, now: float) -> Permit | None:
        """A permit, when nothing is in the way and nobody waits."""
        if self.waiting.waiting:
            return None
        # With a breaker alone, as a fixed number of lines has it, this is all there is to ask.
        if self._only_breaker and self._only_breaker.state is _CLOSED:
            return Permit(now)
        limit, breaker = self.limit, self.breaker
        if limit and not self.rates and (breaker is None or breaker.state is _CLOSED):
            # Nor is there more with a limit of how many may be under way.
            return None if limit.is_full(now) else Permit(now, limit.controller.started(now))
        if self._held_by(now) is not None:
            return None
        return self._permit(request, now)

    def come(self, waiter: W, now: float) -> None:
        """It waits from now on.

        Raises CircuitOpenError or DeadlineExceededError for one that has nothing to wait for.
        """
        request = waiter.request
        is_down = self.breaker is not None and self.breaker.state is not _CLOSED
        if is_down or self.rates is not None:
            self._refuse_at_once(request, now)
        if self.rates is not None:
            waiter.rated = self._rated_until(now)
        # In an outage whoever failed before is behind those that may show that it is over.
        due = _NEVER if is_down and request.attempt > 1 else request.due
        waiter.turn = self.waiting.push(waiter, now, due, request.tenant)

    def leave(self, waiter: W) -> None:
        """It waits no longer, and has no permit."""
        self.waiting.remove(waiter.turn)

    def next(self, now: float) -> tuple[W, Permit | CircuitOpenError] | None:
        """Who need not wait any longer, and its permit, or why it has none; None if all must."""
        waiting, breaker, held = self.waiting, self.breaker, None
        while waiting.waiting:
            held = self._held_by(now)
            impatient = held is _Held.OUTAGE and breaker and not breaker.patience_left(now)
            if held is not None and not impatient:
                break
            waiter = waiting.pop()
            if waiter.is_gone:
                continue
            if impatient and breaker:
                return waiter, _open_error(waiter.request, breaker, now)
            return waiter, self._permit(waiter.request, now)
        else:
            held = None
        if held is not self._held or self.rates is not None:
            self._note(held, now)
        return None

    def _permit(self, request: PreparedRequest, now: float) -> Permit:
        """Whoever gets it may go; `_held_by` was asked just now."""
        probe = self.breaker is not None and self.breaker.state is not _CLOSED
        if self.breaker is not None and probe:
            self.breaker.begin_probe()
        tokens = 0.0 if self.rates is None else self.rates.take(request.body, now)
        started = None if self.limit is None else self.limit.controller.started(now)
        return Permit(now, started, tokens, probe)

    # -- how attempts end ------------------------------------------------------------------

    def answered(
        self, permit: Permit, request: PreparedRequest, usage: Usage | None, now: float
    ) -> None:
        """The attempt was answered; `usage` is the answer's, where it is read."""
        if self.breaker is not None:
            self.breaker.succeeded(now, permit.at)
        if self.rates is not None:
            self.rates.answered(request.body, usage, permit.tokens)
        if self.limit is not None and permit.started is not None:
            ended = Ended(_OK, 0 if usage is None else usage.output_tokens)
            self.limit.finished(permit.started, ended, now)

    def failed(
        self, permit: Permit, error: InferenceError, now: float, request_id: str = ""
    ) -> bool:
        """The attempt failed. Whether the request is to wait for another turn: its gateway is down.

        Such a request spends none of its retries on the outage.
        """
        held = False
        if self.breaker is not None:
            held = self.breaker.ended(error, now, probe=permit.probe, request_id=request_id)
        if self.rates is not None:
            self.rates.failed(permit.tokens)
        if self.limit is not None and permit.started is not None:
            self.limit.finished(permit.started, ended_by(error), now)
        return held

    def abandoned(self, permit: Permit, now: float) -> None:
        """The attempt was cut off, which says nothing."""
        if permit.probe and self.breaker is not None:
            self.breaker.abandoned()
        if self.limit is not None and permit.started is not None:
            self.limit.finished(permit.started, ABANDONED, now)

    def declined(self, permit: Permit, now: float) -> None:
        """Nothing was sent: whoever had the permit has left."""
        if self.rates is not None:
            self.rates.give_back(permit.tokens)
        self.abandoned(permit, now)

    def learn(self, headers: Mapping[str, str], now: float, wall_time: float) -> None:
        """What an answer or a refusal said of the gateway's own rate limits."""
        if self.rates is not None and self.rates.learns:
            self.rates.learn(headers, now, wall_time)

    # -- what holds requests back ----------------------------------------------------------

    def _held_by(self, now: float) -> _Held | None:
        """What keeps the next one from going, whoever it is."""
        breaker = self.breaker
        if breaker is not None and breaker.state is not _CLOSED and breaker.wait(now):
            return _Held.OUTAGE
        if self.limit is not None and self.limit.is_full(now):
            return _Held.LIMIT
        if self.rates is not None and self.rates.wait(now) > 0:
            return _Held.RATE
        return None

    def _note(self, held: _Held | None, now: float) -> None:
        """What holds those who wait from now on."""
        self._held = held
        if self.limit is not None:
            self.limit.holds_others(held is _Held.LIMIT, now)
        if self.rates is not None:
            self._rated = self._rated_until(now)
            self._rated_since = now if held is _Held.RATE else None

    def _rated_until(self, now: float) -> float:
        return self._rated + (0.0 if self._rated_since is None else now - self._rated_since)

    def rate_waited(self, waiter: W, now: float) -> float:
        """For how many seconds the rate limit has held back one that has its permit now."""
        return self._rated_until(now) - waiter.rated

    def look_after(self, now: float) -> float:
        """Seconds after which time alone may have changed something; infinity if it will not."""
        held = self._held
        if held is _Held.OUTAGE and self.breaker is not None:
            return min(self.breaker.wait(now) or _NEVER, self.breaker.patience_left(now))
        if held is _Held.LIMIT and self.limit is not None:
            pause = self.limit.controller.paused_until - now
            return pause if pause > 0 else _NEVER
        if held is _Held.RATE and self.rates is not None:
            wait = self.rates.wait(now)
            self.rates.expect(now + wait)
            return wait
        return _NEVER

    # -- those that are not sent -----------------------------------------------------------

    def _refuse_at_once(self, request: PreparedRequest, now: float) -> None:
        breaker, rates = self.breaker, self.rates
        if breaker is not None and breaker.state is not _CLOSED:
            # One at most may wait to be the probe.
            waits = breaker.patience_left(now) or not (breaker.wait(now) or self.waiting)
            if not waits:
                raise _open_error(request, breaker, now)
        if rates is None or request.deadline == _NEVER:
            return
        before = self.waiting.surely_before(request.due, request.tenant)
        wait = rates.least_wait(before, now)
        if now + wait >= request.deadline:
            raise _deadline_error(
                request, f"the rate limit would let it go only in {wait:.1f}s, after its deadline"
            )

    def too_late(self, request: PreparedRequest) -> DeadlineExceededError:
        """The error for a request that waits and whose deadline has passed."""
        if self._held is _Held.OUTAGE and self.breaker is not None:
            words = (
                "the deadline passed while the gateway was failing;"
                f" last: {self.breaker.last_words}"
            )
        elif self._held is _Held.RATE or self.limit is None:
            words = "the rate limit did not let it go before its deadline"
        else:
            allowed = format_duration(max(0.0, request.deadline - request.started))
            words = (
                f"the deadline passed {allowed} after the request was made, while it waited for"
                f" its turn ({self.limit.controller.limit} may be under way)"
            )
        return _deadline_error(request, words)


def _open_error(request: PreparedRequest, breaker: CircuitBreaker, now: float) -> CircuitOpenError:
    wait = breaker.wait(now)
    return CircuitOpenError(
        breaker.words(now),
        retry_after=None if wait is None or wait == _NEVER else wait,
        request_id=request.request_id,
        attempts=request.attempt - 1,
        cause=breaker.last_error,
    )


def _deadline_error(request: PreparedRequest, words: str) -> DeadlineExceededError:
    return DeadlineExceededError(words, request_id=request.request_id, attempts=request.attempt - 1)
