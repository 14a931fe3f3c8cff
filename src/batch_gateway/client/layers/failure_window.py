"""How many of the last requests failed: by time, and in a row. Pure."""

from __future__ import annotations

from batch_gateway.errors import GatewayConnectionError, InferenceError
from batch_gateway.wire.refusal_words import is_page

__all__ = ["FailureRow", "FailureWindow", "is_nobody_there"]

_BUCKETS = 10


def _broke(error: InferenceError) -> bool:
    lost = error.status_code is None and isinstance(error, GatewayConnectionError)
    return lost or is_page(error)


def is_nobody_there(error: InferenceError) -> bool:
    """Whether a connection broke, or a proxy says that there is nobody: 502, 503, a page.

    In all other failures there is a server, and one request may be too much for it by itself.
    """
    return _broke(error) or error.status_code in (502, 503)


class FailureRow:
    """Requests in a row that nobody answered; it is none before it took so many seconds.

    Attributes:
        length: how many there are.
    """

    def __init__(self, least_seconds: float) -> None:
        self._least = least_seconds
        self.clear()

    def clear(self) -> None:
        self._broken = self.length = 0
        self._began = 0.0
        self._are_pages = False

    def end(self, sent: float) -> None:
        """A request that was sent then was answered.

        A path that is gone is refused in no time, while answers to older requests still come.
        """
        if not self._are_pages or sent > self._began:
            self.clear()

    def add(self, error: InferenceError, now: float) -> tuple[int, int]:
        """One more failure. How many connections broke in a row, and how many in all failed so.

        Failures of a server that is there end the row.
        """
        self._are_pages = is_page(error)
        if not is_nobody_there(error):
            self.clear()
            return 0, 0
        if not self.length:
            self._began = now
        self.length += 1
        self._broken = self._broken + 1 if _broke(error) else 0
        return (self._broken, self.length) if now - self._began >= self._least else (0, 0)


class FailureWindow:
    """Counts of the last `length` seconds, in a ring of buckets. Times are monotonic seconds."""

    def __init__(self, length: float) -> None:
        self._bucket_length = length / _BUCKETS
        self.clear()

    def clear(self) -> None:
        self._failures = [0] * _BUCKETS
        self._totals = [0] * _BUCKETS
        self._newest: int | None = None
        self._place, self._ends = 0, float("-inf")

    def add(self, now: float, *, failed: bool) -> None:
        # Hardly ever another bucket than the one before: this runs once a request.
        if now >= self._ends:
            self._move_to(now)
        self._totals[self._place] += 1
        if failed:
            self._failures[self._place] += 1

    def counts(self, now: float) -> tuple[int, int]:
        self._move_to(now)
        return sum(self._failures), sum(self._totals)

    def _move_to(self, now: float) -> None:
        number = int(now / self._bucket_length)
        newest = number if self._newest is None else self._newest
        for passed in range(newest + 1, min(number, newest + _BUCKETS) + 1):
            self._totals[passed % _BUCKETS] = self._failures[passed % _BUCKETS] = 0
        self._newest = max(number, newest)
        self._place = self._newest % _BUCKETS
        self._ends = (self._newest + 1) * self._bucket_length
