"""One step before every attempt: circuit breaker, rate limits and concurrency limit at once.

Whoever may not go waits in one queue (`Turns`), and is woken once, when all of them let it go:
nothing that a waiting request has taken, a token of a rate or a permit, is idle meanwhile.

| what holds the next one back        | until                                              |
|-------------------------------------|----------------------------------------------------|
| OUTAGE: the breaker is not closed   | a probe is due, and then one goes; a probe has     |
|                                     | ended; or those who wait lose patience             |
| LIMIT: as many as may are under way,| one of them has ended, the limit has risen, or the |
| or the controller pauses            | pause is over                                      |
| RATE: requests or tokens a minute   | the next is due                                    |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.turns import Turns
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
from batch_gateway.clock import Clock
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.durations import format_duration
from batch_gateway.errors import CircuitOpenError, DeadlineExceededError, InferenceError
from batch_gateway.wire.usage import Usage

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsWatch

__all__ = ["Admission", "Permit"]

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


class _Held(Enum):
    OUTAGE = "outage"
    LIMIT = "limit"
    RATE = "rate"


class _Waiter:
    """A request in the queue, with the rate limit's seconds that had passed before it came."""

    __slots__ = ("permit", "rated", "request")

    def __init__(self, request: PreparedRequest, rated: float) -> None:
        self.request = request
        self.rated = rated
        self.permit: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()


class Admission:
    """Gives the permits for attempts at one gateway. Belongs to one event loop.

    A permit is held while an attempt is under way and no longer: a request that waits out a
    backoff holds none. `on_breaker` is told each state that lasts, `on_rate_wait` the seconds for
    which the rate limit held a request back, when that is over; `on_limit` see `ConcurrencyLimit`.

    Attributes:
        limit: how many attempts may be under way; None for any number.
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
        self._turns = Turns[_Waiter]()
        self._breaker = None if breaker is None else CircuitBreaker(breaker)
        self._rates = None if rate_limit is None else Rates(rate_limit)
        self.limit = (
            None
            if concurrency is None
            else ConcurrencyLimit(
                concurrency,
                clock,
                self._turns.__len__,
                on_limit,
                metrics=metrics,
                on_room=self._grant,
            )
        )
        self._on_breaker = on_breaker
        self._on_rate_wait = on_rate_wait
        self._told = _CLOSED
        self._waker: asyncio.Task[None] | None = None
        self._wakes_at = _NEVER
        # For how long the rate limit has held requests back, and since when it does.
        self._rated = 0.0
        self._rated_since: float | None = None
        self._held: _Held | None = None

        self.reads_usage = rate_limit is not None or concurrency is not None

    @property
    def breaker_state(self) -> BreakerState:
        return _CLOSED if self._breaker is None else self._breaker.state

    # -- permits ---------------------------------------------------------------------------

    def acquire_nowait(self, request: PreparedRequest) -> Permit | None:
        """A permit, when nothing is in the way and nobody waits."""
        now = self._clock.monotonic()
        if self._turns.waiting or self._held_by(now) is not None:
            return None
        return self._permit(request, now)

    async def acquire(self, request: PreparedRequest) -> Permit:
        """Wait for a permit. Cancelling the wait gives its place, or its permit, to the next.

        Raises DeadlineExceededError when the deadline passes before there is one, or will surely
        have passed; and CircuitOpenError when nobody is to wait for the gateway any longer.
        """
        now = self._clock.monotonic()
        self._refuse_at_once(request, now)
        waiter = _Waiter(request, self._rated_until(now))
        turn = self._turns.push(waiter, now, request.due, request.tenant)
        self._grant()
        left = request.deadline - now
        try:
            async with asyncio.timeout(None if left == _NEVER else max(0.0, left)):
                return await waiter.permit
        except (asyncio.CancelledError, TimeoutError) as error:
            late = self._too_late(request)
            self._turns.remove(turn)
            self._decline(waiter)
            if isinstance(error, TimeoutError):
                raise late from error
            raise

    def _decline(self, waiter: _Waiter) -> None:
        """It does not want a permit any more, though it may just have been given one."""
        given = not waiter.permit.cancel() and not waiter.permit.cancelled()
        if given and waiter.permit.exception() is None:
            permit = waiter.permit.result()
            if self._rates is not None:
                self._rates.give_back(permit.tokens)
            self.abandoned(permit)
        self._grant()

    def _permit(self, request: PreparedRequest, now: float) -> Permit:
        """Whoever gets it may go; `_held_by` was asked just now."""
        probe = self._breaker is not None and self._breaker.state is not _CLOSED
        if self._breaker is not None and probe:
            self._breaker.begin_probe()
        tokens = 0.0 if self._rates is None else self._rates.take(request.body, now)
        started = None if self.limit is None else self.limit.started(now)
        return Permit(now, started, tokens, probe)

    # -- how attempts end ------------------------------------------------------------------

    def answered(
        self,
        permit: Permit,
        request: PreparedRequest,
        response: InferenceResponse,
        usage: Usage | None,
    ) -> None:
        """The attempt was answered; `usage` is the response's, where it is read."""
        now = self._clock.monotonic()
        if self._breaker is not None:
            self._breaker.succeeded(now, permit.at)
        if self._rates is not None:
            self._rates.answered(request.body, usage, permit.tokens)
            if self._rates.learns:
                self._rates.learn(response.headers, now, self._clock.wall_time())
        if self.limit is not None and permit.started is not None:
            ended = Ended(_OK, 0 if usage is None else usage.output_tokens)
            self.limit.finished(permit.started, ended, now)
        self._go_on()

    def failed(self, permit: Permit, error: InferenceError) -> bool:
        """The attempt failed. Whether the request is to wait for another turn: its gateway is down.

        Such a request spends none of its retries on the outage.
        """
        now, held = self._clock.monotonic(), False
        if self._breaker is not None:
            held = self._breaker.ended(error, now, probe=permit.probe)
        if self._rates is not None:
            self._rates.failed(permit.tokens)
            if self._rates.learns and error.rate_limits:
                self._rates.learn(error.rate_limits, now, self._clock.wall_time())
        if self.limit is not None and permit.started is not None:
            self.limit.finished(permit.started, ended_by(error), now)
        self._go_on()
        return held

    def abandoned(self, permit: Permit) -> None:
        """The attempt was cut off, which says nothing."""
        if permit.probe and self._breaker is not None:
            self._breaker.abandoned()
        if self.limit is not None and permit.started is not None:
            self.limit.finished(permit.started, ABANDONED, self._clock.monotonic())
        self._go_on()

    def first_token(self, permit: Permit, seconds: float) -> None:
        """The first token of a streamed answer came so many seconds after it was asked for."""
        if self.limit is not None and permit.started is not None:
            self.limit.first_token(permit.started, seconds, self._clock.monotonic())
            self._grant()

    def _go_on(self) -> None:
        if self._turns.waiting:
            self._grant()
        if self._breaker is not None and self._breaker.state is not self._told:
            self._told = self._breaker.state
            if self._on_breaker is not None:
                self._on_breaker(self._told)

    # -- the queue -------------------------------------------------------------------------

    def _held_by(self, now: float) -> _Held | None:
        """What keeps the next one from going, whoever it is."""
        breaker = self._breaker
        if breaker is not None and breaker.state is not _CLOSED and breaker.wait(now):
            return _Held.OUTAGE
        if self.limit is not None and self.limit.is_full(now):
            return _Held.LIMIT
        if self._rates is not None and self._rates.wait(now) > 0:
            return _Held.RATE
        return None

    def _grant(self) -> None:
        """Give permits to those whose turn it is, as far as nothing is in the way."""
        held, now = None, self._clock.monotonic()
        while self._turns:
            now = self._clock.monotonic()
            held = self._held_by(now)
            if held is not None:
                break
            waiter = self._turns.pop()
            if not waiter.permit.done():
                waiter.permit.set_result(self._permit(waiter.request, now))
                self._tell_rate_wait(waiter, now)
        if held is _Held.OUTAGE:
            self._lose_patience(now)
        held = held if self._turns else None
        self._note(held, now)
        self._wake_after(held, now)

    def _lose_patience(self, now: float) -> None:
        """Fail those who wait for the gateway, where nobody is to wait for it any longer."""
        if self._breaker is None or self._breaker.patience_left(now) > 0:
            return
        while self._turns:
            waiter = self._turns.pop()
            if not waiter.permit.done():
                waiter.permit.set_exception(_open_error(waiter.request, self._breaker, now))

    def _note(self, held: _Held | None, now: float) -> None:
        """What holds those who wait from now on."""
        self._held = held
        if self.limit is not None:
            self.limit.holds_others(held is _Held.LIMIT, now)
        if self._rates is not None:
            self._rated = self._rated_until(now)
            self._rated_since = now if held is _Held.RATE else None

    def _rated_until(self, now: float) -> float:
        return self._rated + (0.0 if self._rated_since is None else now - self._rated_since)

    def _tell_rate_wait(self, waiter: _Waiter, now: float) -> None:
        waited = self._rated_until(now) - waiter.rated
        if waited > 0 and self._on_rate_wait is not None:
            self._on_rate_wait(waited)

    def _wake_after(self, held: _Held | None, now: float) -> None:
        """Look again when time alone may have changed something."""
        wait = _NEVER
        if held is _Held.OUTAGE and self._breaker is not None:
            wait = min(self._breaker.wait(now) or _NEVER, self._breaker.patience_left(now))
        elif held is _Held.LIMIT and self.limit is not None:
            pause = self.limit.controller.paused_until - now
            wait = pause if pause > 0 else _NEVER
        elif held is _Held.RATE and self._rates is not None:
            wait = self._rates.wait(now)
            self._rates.expect(now + wait)
        at = now + wait
        # A wake-up that is too early finds out when to look again.
        if self._waker is not None and (at < self._wakes_at or held is None):
            self._waker.cancel()
            self._waker = None
        if self._waker is None and wait != _NEVER:
            self._wakes_at = at
            self._waker = asyncio.create_task(self._wake(wait))

    async def _wake(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._waker = None
        if self.limit is not None:
            self.limit.look(self._clock.monotonic())
        self._grant()

    # -- errors ----------------------------------------------------------------------------

    def _refuse_at_once(self, request: PreparedRequest, now: float) -> None:
        """Raise for a request for which there is nothing to wait for."""
        breaker, rates = self._breaker, self._rates
        if breaker is not None and breaker.state is not _CLOSED:
            # One at most may wait to be the probe.
            waits = breaker.patience_left(now) or not (breaker.wait(now) or self._turns)
            if not waits:
                raise _open_error(request, breaker, now)
        if rates is None or request.deadline == _NEVER:
            return
        wait = rates.least_wait(self._turns.surely_before(request.due, request.tenant), now)
        if now + wait >= request.deadline:
            raise _deadline_error(
                request, f"the rate limit would let it go only in {wait:.1f}s, after its deadline"
            )

    def _too_late(self, request: PreparedRequest) -> DeadlineExceededError:
        if self._held is _Held.OUTAGE and self._breaker is not None:
            words = (
                "the deadline passed while the gateway was failing;"
                f" last: {self._breaker.last_words}"
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

    async def aclose(self) -> None:
        """End every wait."""
        if self._waker is not None:
            self._waker.cancel()
            with suppress(asyncio.CancelledError):
                await self._waker
        while self._turns:
            self._turns.pop().permit.cancel()
        if self.limit is not None:
            await self.limit.aclose()


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
