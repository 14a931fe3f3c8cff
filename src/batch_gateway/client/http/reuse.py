"""How many requests a connection to one server may carry, learned from how the server ends them.

Some servers and proxies close each connection after its answer, or after so many, and do not say
so with `Connection: close`. Each time, the next request is lost and must be sent again on a new
connection, until it is known. Pure; times are monotonic seconds.
"""

from __future__ import annotations

__all__ = ["Reuse"]

_NEVER = float("inf")

# So many connections one after another, each made after the one before had been lost: a server
# that restarts closes all of them at once, which counts as one.
_ENOUGH = 3

# Then it may have been replaced by one that keeps its connections.
_FORGET_AFTER = 60.0


class Reuse:
    """What is known of one server.

    Attributes:
        most: requests that a connection may carry; infinity while nothing is known.
        suspected: the same, of which there is not enough evidence yet; 0 without any.
    """

    __slots__ = ("_evidence", "_last_lost", "_learned", "most", "suspected")

    def __init__(self) -> None:
        self.most = _NEVER
        self.suspected = 0
        self._evidence = 0
        self._last_lost = -_NEVER
        self._learned = 0.0

    def lost(self, served: int, made: float, now: float) -> None:
        """A connection made at `made`, which had brought `served` answers, was closed under a
        request.
        """
        if made < self._last_lost:
            return
        self._evidence = self._evidence + 1 if served == self.suspected else 1
        self.suspected = served
        self._last_lost = now
        if self._evidence >= _ENOUGH:
            self.most, self._learned = served, now
            self.suspected = self._evidence = 0

    def answered(self, served: int) -> None:
        """A connection has brought so many answers by now: it was worth keeping until then."""
        if served > self.suspected:
            self.suspected = self._evidence = 0

    def keeps(self, served: int, now: float) -> bool:
        """Whether a connection that has brought so many answers is worth keeping."""
        if now - self._learned >= _FORGET_AFTER:
            self.most = _NEVER
        return served < self.most
