"""What a policy of concurrency is, and those that ours is measured against: a fixed number, and
additive increase with multiplicative decrease."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.server_load import Load

if TYPE_CHECKING:
    from benchmarks.worlds.simulation import Simulation

__all__ = ["AIMD", "Fixed", "Policy"]


class Policy:
    """How many requests may be under way.

    Attributes:
        holds_in_backoff: whether a line that waits for its retry occupies a slot, as it does
            where a semaphore is held around a call that retries inside.
        sees_first_token: whether answers are streamed, so that the time to first token is known.
        looks_every: seconds between looks at the server's metrics; 0 never looks.
    """

    name = ""
    holds_in_backoff = True
    sees_first_token = False
    looks_every = 0.0
    paused_until = 0.0

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0

    def enters(self, simulation: Simulation) -> None:
        """Called before anything happens; only what knows more than a client does looks there."""

    def started(self, now: float) -> Started:
        self.in_flight += 1
        return Started(now, 0.0, self.in_flight)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self.in_flight -= 1

    def first_token(
        self, started: Started, seconds: float, now: float, heard_after: float = 0.0
    ) -> None:
        """Only called where answers are streamed."""

    def looked(self, load: Load, now: float) -> None:
        """Only called where the server's metrics are looked at."""


class Fixed(Policy):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.name = f"fixed {limit:,}"


class AIMD(Policy):
    """Start at the ceiling, floor 5, half on 429 or 5xx, one more after each clean window.

    A window is `limit` answers, about one service time, as in congestion avoidance of TCP
    (RFC 5681). Failures of requests sent before the last cut belong to it and do not cut again.
    """

    name = "AIMD"
    FLOOR = 5

    def __init__(self, ceiling: int = 1_000) -> None:
        super().__init__(ceiling)
        self._ceiling = ceiling
        self._clean = 0
        self._cut_at = -1.0

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        if ended.outcome in (Outcome.REFUSED, Outcome.FAILED):
            self._clean = 0
            if started.at >= self._cut_at:
                self._cut_at = now
                self.limit = max(self.FLOOR, self.limit // 2)
            return
        self._clean += 1
        if self._clean >= self.limit:
            self._clean = 0
            self.limit = min(self._ceiling, self.limit + 1)
