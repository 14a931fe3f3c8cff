"""A queue that a raise of ours made, seen before the round that made it is over, and drained."""

from __future__ import annotations

__all__ = ["Overshoot"]

_SHORTEST_WINDOW = 0.25  # seconds
_FEWEST, _FEW = 4, 0.05  # so many, and such a share of those in flight, may wait for a first token
_AS_MANY = 1.25  # first tokens for each end where requests get in only as others go out
_TWICE = 2  # windows in a row that must agree
_ALMOST_ALL = 1.2  # answers for each first token
_LATE = 0.5  # seconds
_DRAINED = 0.6  # of the limit


class Overshoot:
    """Counts ours that were sent since a raise and have no first token yet, where answers are
    streamed. A server with room reads prompt after prompt; a full one takes as many as go.

    Attributes:
        drains: whether less is sent until what waits on the server is gone.
        under_way: whether it is to be told what ends.
    """

    def __init__(self) -> None:
        self.drains = self.under_way = False
        self._watches = False
        self._began = self._window = self._span = 0.0
        self._in_flight = 0
        self._ended = self._served = self._ended_before = self._served_before = 0
        self._times = self._told = self._answers = 0

    def begin(self, in_flight: int, usual: float | None, now: float) -> None:
        """A round begins with so many in flight; `usual` is the time to first token where nobody
        waits, in seconds, or None where nothing was raised or it is not known."""
        self._watches = usual is not None
        self.under_way = self._watches or self.drains
        self._in_flight = in_flight
        self._began = now
        self._span = max(_SHORTEST_WINDOW, usual or 0.0)
        self._window = now + 2 * (usual or 0.0)
        self._ended = self._served = self._ended_before = self._served_before = 0
        self._times = 0

    def first_token(self, sent_at: float, seconds: float, now: float) -> None:
        """The first token of an answer came so many seconds after it was sent."""
        if now - sent_at > 2 * seconds + _LATE:
            # Told of when answers end, it shows nothing of those under way.
            self._watches = False
        self._told += self._watches
        if sent_at >= self._began:
            self._served += 1

    def ended(self, sent_at: float, answered: bool, in_flight: int, now: float) -> float | None:
        """A request ended, and `in_flight` are left. How many of these have a place, once it is
        sure that the others wait; until then None."""
        if not self._watches:
            return None
        self._ended += 1
        self._answers += answered
        if not answered and sent_at >= self._began:
            self._served += 1
        if now - self._window < self._span:
            return None
        ended, served = self._ended - self._ended_before, self._served - self._served_before
        self._window, self._ended_before, self._served_before = now, self._ended, self._served
        waiting = in_flight - self._in_flight + self._ended - self._served
        full = served <= _AS_MANY * ended and waiting > max(_FEWEST, _FEW * in_flight)
        # Where only some answers are streamed, nothing is known of the others.
        streamed = self._answers <= _ALMOST_ALL * self._told + _FEWEST
        self._times = self._times + 1 if full and streamed else 0
        return max(1.0, in_flight - waiting) if self._times >= _TWICE else None

    def drain(self) -> None:
        """Send less until it is gone."""
        self._watches = False
        self.drains = self.under_way = True

    def wanted(self, base: float) -> float:
        """What to have in flight instead of `base`."""
        return _DRAINED * base if self.drains else base

    def is_gone(self, in_flight: int, limit: int) -> bool:
        """Whether what waited is gone now. True once."""
        if not self.drains or in_flight > limit:
            return False
        self.drains = False
        self.under_way = self._watches
        return True
