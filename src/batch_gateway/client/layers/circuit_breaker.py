"""Leaving a gateway alone that fails, and noticing soon when it is back.

The breaker is closed while the gateway works. It opens on a share of failures over a sliding
window, on failures in a row, or when a router has no model servers. Then nothing is sent but one
probe now and then, and the first probe that succeeds closes it
(M. Nygard, "Release It!", 2007, "Circuit Breaker").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from batch_gateway.client.layers.failure_window import FailureRow, FailureWindow, is_nobody_there
from batch_gateway.config_checks import (
    normalise_duration,
    require_count,
    require_kinds,
    require_number,
    require_positive,
)
from batch_gateway.durations import Duration, format_duration, seconds
from batch_gateway.errors import ConfigError, InferenceError
from batch_gateway.wire.refusals import is_connect_failure, is_outage

__all__ = [
    "BreakerState",
    "CircuitBreaker",
    "CircuitBreakerPolicy",
    "is_connect_failure",
]

# A router without model servers says so itself, for every request, and it is known to pass.
_PASSING = frozenset({"rejected-no-endpoints", "rejected-shutting-down"})
# Fewer requests than these may be to blame themselves when nobody else is there to be tried. Their
# gateway has so many seconds to come back, and is not asked as often.
_MANY = 5
_LONGEST_OF_FEW = 60.0
_LONGEST_PROBE_OF_FEW = 10.0
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
            gateway is back, and spends none of their retries on the outage. A request that has
            spent them, while nothing was answered that was sent after its first failure, opens
            it as well.
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


_CLOSED = BreakerState.CLOSED
_NEVER = float("inf")


class CircuitBreaker:
    """The decisions: no waiting, no clock of its own. Times are monotonic seconds.

    Attributes:
        state: closed at first; only the breaker changes it.
        last_error: the last failure that spoke against the gateway.
    """

    def __init__(self, policy: CircuitBreakerPolicy) -> None:
        self._policy = policy
        self._holds = policy.when_open == "wait"
        self.state = BreakerState.CLOSED
        self.last_error: InferenceError | None = None
        self._armed = not policy.after_success
        self._window = FailureWindow(seconds(policy.window))
        self._row = FailureRow(_LEAST_ROW if policy.when_open == "fail" else 0.0)
        self._connect_failures = 0
        self._probe_wait = 0.0
        self._next_probe = 0.0
        self.has_answered = False
        self.opened_at = 0.0
        # When the request was sent that was sent last of those with an answer.
        self._answered_sent = -_NEVER
        # Which requests have failed since the last answer, as far as they are few, and whether
        # one did that nobody received.
        self._failing = set[str]()
        self._unreached = False

    def wait(self, now: float) -> float | None:
        """None to send, or seconds until a probe may go; infinity while one is under way."""
        if self.state is BreakerState.CLOSED:
            return None
        if self.state is BreakerState.HALF_OPEN:
            return float("inf")
        return max(0.0, self._next_probe - now)

    def patience_left(self, now: float) -> float:
        """Seconds for which requests are still held while it is open; 0 to fail them at once."""
        if not self._holds:
            return 0.0
        return max(0.0, self.opened_at + seconds(self._policy.patience) - now)

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
        sent = now if sent is None else sent
        self._answered_sent = max(self._answered_sent, sent)
        self._is_there(now, sent)

    def _is_there(self, now: float, sent: float) -> None:
        self._armed = True
        self._connect_failures = 0
        if self._failing:
            self._failing.clear()
            self._unreached = False
        if self._row.length:
            self._row.end(sent)
        if self.state is _CLOSED:
            self._window.add(now, failed=False)
            return
        self.state = BreakerState.CLOSED
        self._window.clear()

    def ended(
        self, error: InferenceError, now: float, *, probe: bool, request_id: str = ""
    ) -> bool:
        """A request failed in whichever way; whether it is to be held until another turn."""
        if is_outage(error, has_answered=self.has_answered):
            self.last_error = error
            self._note(error, request_id)
            self.failed(error, now, probe=probe)
            is_open = self.state is not BreakerState.CLOSED
            return self._holds and is_open and not self._are_to_blame(now)
        if error.status_code is not None:
            # Refused, but by a gateway that is there.
            self._is_there(now, now)
        elif probe:
            self.abandoned()
        return False

    def _note(self, error: InferenceError, request_id: str) -> None:
        if len(self._failing) < _MANY:
            self._failing.add(request_id)
        # No request is to blame for what it was not sent to.
        self._unreached |= is_connect_failure(error) or error.dropped_reason in _PASSING

    @property
    def blames_few(self) -> bool:
        """Whether no more than a few requests have failed since the last answer."""
        return 0 < len(self._failing) < _MANY and not self._unreached

    def _are_to_blame(self, now: float) -> bool:
        """Whether the few requests that have failed had time to show that they are not at fault."""
        return self.blames_few and now - self.opened_at >= _LONGEST_OF_FEW

    def outlasts(self, error: InferenceError, failed_at: float, now: float) -> bool:
        """A request has spent its retries: whether its gateway is down, so that it is held.

        It is when nothing was answered that was sent after the request had failed for the first
        time, at `failed_at`. Answers to older requests say nothing: a server that is being shut
        down still gives them, while it refuses what is new. A server that is there may fail
        because of the request, unless it fails others as well.
        """
        is_down = self._holds and self._armed and failed_at > self._answered_sent
        if not is_down or not is_outage(error, has_answered=self.has_answered):
            return False
        if len(self._failing) < 2 and not is_nobody_there(error):
            return False
        if self.state is BreakerState.CLOSED:
            self._open(now)
            return True
        return not self._are_to_blame(now)

    def failed(self, error: InferenceError, now: float, *, probe: bool) -> None:
        """A request failed in a way that speaks against the gateway."""
        if error.dropped_reason in _PASSING:
            self._armed = True
        if probe and self.state is BreakerState.HALF_OPEN:
            longest = seconds(self._policy.longest_probe)
            if self._holds and self.blames_few:
                longest = max(longest, _LONGEST_PROBE_OF_FEW)
            self._probe_wait = min(2 * self._probe_wait, longest)
            self._next_probe = now + self._probe_wait
            self.state = BreakerState.OPEN
        elif self.state is BreakerState.CLOSED and self._armed and self._trips(error, now):
            self._open(now)

    def _open(self, now: float) -> None:
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

    def words(self, now: float) -> str:
        """For how long it has been open, and why."""
        down = format_duration(now - self.opened_at)
        return f"the gateway has been failing for {down}; last: {self.last_words}"

    @property
    def last_words(self) -> str:
        return "nothing" if self.last_error is None else self.last_error.message
