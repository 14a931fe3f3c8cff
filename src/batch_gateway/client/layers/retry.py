"""Sending a failed request again: when, after how long, and how many of them at once.

Waits follow "exponential backoff with full jitter" (M. Brooker, AWS Architecture Blog, 2015):
uniformly random between nothing and a ceiling that doubles. A budget bounds retries over the
whole client, as in Finagle and Linkerd, except that a retry over the budget first waits for its
turn and only then gives up: a batch would rather be late than lose a line.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.clock import Clock
from batch_gateway.config_checks import normalise_duration, require_count, require_number
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import (
    CircuitOpenError,
    InferenceError,
    StaleConnectionError,
)
from batch_gateway.wire.refusals import POD_UNREACHABLE, wants_room

__all__ = ["RetryBudget", "RetryPolicy", "RetryTransport", "retry_delay"]

_NEVER = float("inf")

Random = Callable[[float, float], float]
OnRetry = Callable[[PreparedRequest, InferenceError, float], None]
Outlasts = Callable[[PreparedRequest, InferenceError], bool]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a failed request is sent again.

    Attributes:
        max_retries: sendings after the first.
        initial_backoff: ceiling of the first random wait after a 5xx or a connection error.
        rate_limit_backoff: the same after a 429, where the gateway asked for room, and where an
            endpoint picker named a pod that cannot be reached.
        max_backoff: no computed wait is longer; it doubles up to here.
        max_retry_after: a longer Retry-After is cut to this.
        budget_ratio: retries allowed per first sending, over the whole client.
        budget_per_second: retries a second allowed on top, so that a quiet client may retry.
    """

    max_retries: int = 3
    initial_backoff: Duration = 0.5
    rate_limit_backoff: Duration = 2.0
    max_backoff: Duration = 60.0
    max_retry_after: Duration = 300.0
    budget_ratio: float = 0.5
    budget_per_second: float = 10.0

    def __post_init__(self) -> None:
        require_count("retry.max_retries", self.max_retries, minimum=0)
        for name in ("initial_backoff", "rate_limit_backoff", "max_backoff", "max_retry_after"):
            normalise_duration(self, name, prefix="retry.")
        for name in ("budget_ratio", "budget_per_second"):
            require_number(f"retry.{name}", getattr(self, name))


def retry_delay(
    policy: RetryPolicy,
    error: InferenceError,
    attempt: int,
    uniform: Random = random.uniform,
    *,
    outlasts: bool = False,
) -> float | None:
    """Seconds to wait before sending again after `error`, or None when it is final.

    `attempt` is the number of the sending that failed, from 1; one that `outlasts` an outage may
    have any. A wait that the gateway asked for is obeyed up to `max_retry_after`, with up to a
    tenth more so that those who were refused together do not come back together. An endpoint
    picker that left before it looked at a call says nothing about load, so the first retry after
    one does not wait; the HTTP transports send again by themselves what a server left unread.
    """
    if not error.is_retryable or (attempt > policy.max_retries and not outlasts):
        return None
    if isinstance(error, CircuitOpenError):
        # Its point is to fail fast; the caller knows whether to come back.
        return None
    if isinstance(error, StaleConnectionError) and attempt == 1:
        return 0.0
    # Nothing to wait for is no answer to how long to wait.
    if error.retry_after:
        asked = min(error.retry_after, seconds(policy.max_retry_after))
        return asked + uniform(0, asked / 10)
    # An endpoint picker names a pod that died until it is told so, which takes seconds.
    takes_longer = wants_room(error) or error.code == POD_UNREACHABLE
    base = policy.rate_limit_backoff if takes_longer else policy.initial_backoff
    # 2**60 is beyond any ceiling; without the bound a huge attempt number would overflow.
    ceiling = seconds(base) * 2 ** min(attempt - 1, 60)
    return uniform(0, min(seconds(policy.max_backoff), ceiling))


class RetryBudget:
    """How many retries a client may send, as a token bucket; pure but for its own numbers.

    Every first sending earns `ratio` tokens and every second `per_second`; a retry costs one. A
    retry that finds the bucket empty goes into debt and waits until time has paid for it; past
    `longest_wait` of debt it is refused and owes nothing.

    Attributes:
        first_sendings: requests that were sent for the first time, to be added to as they are:
            what they earn is reckoned when somebody wants to spend it.
    """

    def __init__(
        self,
        ratio: float,
        per_second: float,
        longest_wait: float,
        now: float,
        capacity: float = 100.0,
    ) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._longest_wait = longest_wait
        self._capacity = capacity
        # A start with some credit: the first requests of a client may fail too.
        self._tokens = max(1.0, per_second) if ratio or per_second else 0.0
        self._updated = now
        self.first_sendings = 0

    def spend(self, now: float) -> float | None:
        """Seconds until a retry may go, or None when it may not."""
        self._refill(now)
        debt = 1.0 - self._tokens
        if debt <= 0:
            self._tokens -= 1.0
            return 0.0
        wait = debt / self._per_second if self._per_second else float("inf")
        if wait > self._longest_wait:
            return None
        self._tokens -= 1.0
        return wait

    def _refill(self, now: float) -> None:
        earned = self.first_sendings * self._ratio + (now - self._updated) * self._per_second
        self._tokens = min(self._capacity, self._tokens + earned)
        self.first_sendings, self._updated = 0, now


class RetryTransport:
    """A layer that sends again what failed and may succeed, within policy, budget and deadline.

    `outlasts` says of a request that has spent its retries whether its gateway is down; it is then
    sent again nevertheless. If it fails when the gateway is back, it has its retries once more.
    `on_backoff` is told 1 when a request begins to wait for its retry, and -1 when the wait ends.
    """

    def __init__(
        self,
        inner: Transport,
        policy: RetryPolicy,
        clock: Clock,
        uniform: Random = random.uniform,
        *,
        outlasts: Outlasts | None = None,
        on_retry: OnRetry | None = None,
        on_backoff: Callable[[int], None] | None = None,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._clock = clock
        self._uniform = uniform
        self._outlasts = outlasts
        self._on_retry = on_retry
        self._on_backoff = on_backoff
        self._budget = RetryBudget(
            policy.budget_ratio,
            policy.budget_per_second,
            seconds(policy.max_retry_after),
            clock.monotonic(),
        )

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self._budget.first_sendings += 1
        while True:
            try:
                return await self._inner.send(request)
            except InferenceError as error:
                request, outlasts = self._judge(request, error)
                delay = self._delay(request, error, outlasts)
                if delay is None:
                    raise
                if self._on_retry is not None:
                    self._on_retry(request, error, delay)
            await self._back_off(delay)
            request = msgspec.structs.replace(request, attempt=request.attempt + 1)

    def _judge(
        self, request: PreparedRequest, error: InferenceError
    ) -> tuple[PreparedRequest, bool]:
        """What the request is from now on, and whether it outlasts an outage."""
        spent = request.attempt - self._policy.max_retries
        if request.failed_at == _NEVER:
            now = self._clock.monotonic()
            return msgspec.structs.replace(request, failed_at=now), False
        if spent <= 0 or request.is_begun or not error.is_retryable:
            return request, False
        if self._outlasts is not None and self._outlasts(request, error):
            return request, True
        if spent == 1:
            return request, False
        # It was held and is no more: others were answered, or too few failed for too long. With a
        # first failure that is no later than any answer it is not held again.
        return msgspec.structs.replace(request, attempt=1, failed_at=-_NEVER), False

    async def _back_off(self, delay: float) -> None:
        if self._on_backoff is None:
            return await self._clock.sleep(delay)
        self._on_backoff(1)
        try:
            await self._clock.sleep(delay)
        finally:
            self._on_backoff(-1)

    def _delay(
        self, request: PreparedRequest, error: InferenceError, outlasts: bool
    ) -> float | None:
        if request.is_begun:
            return None
        delay = retry_delay(self._policy, error, request.attempt, self._uniform, outlasts=outlasts)
        now = self._clock.monotonic()
        if delay is None:
            return None
        # Nothing is sent after the deadline, so waiting for it would only delay the bad news.
        if now + delay >= request.deadline:
            error.out_of_time = True
            return None
        turn = self._budget.spend(now)
        if turn is None or now + turn >= request.deadline:
            error.out_of_time = turn is not None
            return None
        return max(delay, turn)

    async def aclose(self) -> None:
        await self._inner.aclose()
