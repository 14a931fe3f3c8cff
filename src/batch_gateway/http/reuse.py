"""How many requests a connection to one server may carry: as it says, or as it ends them.

Some servers and proxies close each connection after its answer, or after so many, and do not say
so with `Connection: close`. Each time, the next request is lost and must be sent again on a new
connection, until it is known. Pure; times are monotonic seconds.
"""

from __future__ import annotations

import re

__all__ = ["Reuse", "promised"]

_NEVER = float("inf")

# So many connections one after another, each made after the one before had been lost: a server
# that restarts closes all of them at once, which counts as one.
_ENOUGH = 3

# Then it may have been replaced by one that keeps its connections.
_FORGET_AFTER = 60.0


# RFC 2068 §19.7.1.1; Apache, Node.js, uvicorn's peers and most proxies write it so.
_PROMISE = re.compile(r"\b(timeout|max)[ \t]*=[ \t]*\"?([0-9]{1,9})\b", re.IGNORECASE)
# As much earlier than a server closes an idle connection it is left alone, in seconds: a request
# may be as long on its way.
_MARGIN = 1.0


def promised(keep_alive: str) -> tuple[float, float]:
    """What a `Keep-Alive` header says: for how many seconds an idle connection may be used again,
    and how many answers it brings. Infinite is what it does not say.
    """
    said = {name.lower(): float(number) for name, number in _PROMISE.findall(keep_alive)}
    timeout = said.get("timeout", _NEVER)
    return max(timeout - _MARGIN, timeout / 2), said.get("max", _NEVER)


class Reuse:
    """What is known of one server.

    Attributes:
        most: requests that a connection may carry; infinity while nothing is known.
        suspected: the same, of which there is not enough evidence yet; 0 without any.
    """

    __slots__ = ("_evidence", "_last_lost", "_learned", "_promised", "most", "suspected")

    def __init__(self) -> None:
        self.most: float = _NEVER
        self._promised: float = _NEVER
        self.suspected = 0
        self._evidence = 0
        self._last_lost = -_NEVER
        self._learned = 0.0

    def promise(self, most: float) -> None:
        """The server says itself how many answers each connection brings; it may be infinite."""
        if most != self._promised:
            self._promised = self.most = most

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
            self.most, self._learned = min(served, self._promised), now
            self.suspected = self._evidence = 0

    def answered(self, served: int) -> None:
        """A connection has brought so many answers by now: it was worth keeping until then."""
        if served > self.suspected:
            self.suspected = self._evidence = 0

    def keeps(self, served: int, now: float) -> bool:
        """Whether a connection that has brought so many answers is worth keeping."""
        if now - self._learned >= _FORGET_AFTER:
            self.most = self._promised
        return served < self.most
