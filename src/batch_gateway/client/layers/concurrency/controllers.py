"""What decides how many attempts may be under way."""

from __future__ import annotations

from typing import Protocol

from batch_gateway.concurrency.events import Ended, Started
from batch_gateway.concurrency.reasons import Why

__all__ = ["Controller", "FixedController"]


class Controller(Protocol):
    """What decides how many requests may be under way."""

    @property
    def limit(self) -> int: ...

    @property
    def allowed_now(self) -> int:
        """How many just now: the limit, or fewer for a moment, which nobody is told of."""
        ...

    @property
    def in_flight(self) -> int: ...

    @property
    def paused_until(self) -> float:
        """Monotonic seconds before which nothing is sent."""
        ...

    @property
    def why(self) -> Why | None:
        """What holds the limit where it is, the same object until that changes; None if unknown."""
        ...

    def started(self, now: float) -> Started: ...

    def finished(self, started: Started, ended: Ended, now: float) -> None: ...

    def first_token(self, started: Started, seconds: float, now: float, heard_after: float) -> None:
        """It was heard so many seconds after the request was sent, and after it had come."""
        ...

    def look(self, now: float) -> None:
        """A pause is over; the limit may have changed with it."""
        ...


class FixedController:
    """The same number always."""

    paused_until = 0.0
    why = None

    def __init__(self, limit: int) -> None:
        self.limit = self.allowed_now = limit
        self.in_flight = 0

    def started(self, now: float) -> Started:
        self.in_flight += 1
        return Started(now, 0.0, self.in_flight)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self.in_flight -= 1

    def first_token(self, started: Started, seconds: float, now: float, heard_after: float) -> None:
        """Of no use here."""

    def look(self, now: float) -> None:
        """There is no pause."""
