"""What refusals tell: how many requests were accepted, and when to ask for more again."""

from __future__ import annotations

from batch_gateway.client.concurrency.policy import AdaptiveConcurrency
from batch_gateway.concurrency.events import Ended, Started

__all__ = ["Refusals"]

_SENDS_BETWEEN_PROBES = 200
_SHORTEST_HOLD = 1.0
_LONGEST_HOLD = 5.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 2.0
# As retries cut it unless told otherwise; nobody is to wait for a day that was asked by mistake.
_LONGEST_ASKED = 300.0


class Refusals:
    """A ceiling under which nothing was refused, which is probed now and then.

    A request that was refused as the n-th in flight shows that fewer than n are accepted.

    Attributes:
        ceiling: how many were accepted; infinity while nothing was refused.
        paused_until: nothing is sent before; in the past as a rule.
    """

    def __init__(self, policy: AdaptiveConcurrency) -> None:
        self._policy = policy
        self.ceiling = float("inf")
        self.paused_until = 0.0
        self._probe_at = 0.0
        self._step = 0
        self._pause = _FIRST_PAUSE
        self._shut = False
        self._quick = 0.05
        self._tried = 0
        self._tried_at = 0.0

    def refused(self, started: Started, ended: Ended, now: float, rate: float) -> None:
        asked = min(_LONGEST_ASKED, ended.retry_after or 0.0)
        self._quick = 0.8 * self._quick + 0.2 * (now - started.at)
        hold = min(_LONGEST_HOLD, max(_SHORTEST_HOLD, _SENDS_BETWEEN_PROBES / max(rate, 1e-9)))
        self._probe_at = now + max(asked, hold)
        self._step = self._tried = 0
        accepted = started.rank - 1
        self.ceiling = max(float(self._policy.minimum), min(self.ceiling, accepted))
        if accepted < self._policy.minimum:
            self._shut = True
            self.paused_until = now + max(asked, self._pause)
            self._pause = min(_LONGEST_PAUSE, 2 * self._pause)

    def answered(self) -> bool:
        """Whether this answer ends an outage."""
        if not self._shut:
            return False
        self._shut = False
        self.ceiling = float("inf")
        self._pause = _FIRST_PAUSE
        self._step = 0
        return True

    def exceeded(self, rank: int, now: float) -> None:
        """A request was sent as the `rank`-th in flight, above the ceiling."""
        if rank > self._tried:
            self._tried = rank
            self._tried_at = now

    def allowed(self, now: float) -> float:
        """The ceiling, or a little more when it is time to try."""
        if self.ceiling == float("inf") or self._shut or now < self._probe_at:
            return self.ceiling
        if self._tried > self.ceiling and now - self._tried_at > max(0.02, 4 * self._quick):
            # A refusal would have come by now: what was tried is accepted.
            self.ceiling = float(self._tried)
            self._step *= 2
        self._step = max(1, self._step)
        return self.ceiling + self._step
