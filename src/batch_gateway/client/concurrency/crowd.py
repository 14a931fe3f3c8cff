"""How much of the server to use where others come and go."""

from __future__ import annotations

import math
from collections import deque

from batch_gateway.client.concurrency.headroom import Headroom
from batch_gateway.client.concurrency.others import Others
from batch_gateway.concurrency.rounds import Reading

__all__ = ["Crowd"]

_ROUNDS_REMEMBERED = 8


class Crowd:
    """Puts together what is known of others: that they come in bursts, how much fits while they
    are away, and, where answers are streamed, how much fitted beside them.

    Nothing is held back for them before a queue was seen once: until then nobody is in the way.
    """

    def __init__(self) -> None:
        self._others = Others()
        self._headroom = Headroom()
        self._fitted: deque[float] = deque(maxlen=_ROUNDS_REMEMBERED)
        self._saturated = False
        self._fits: float | None = None

    def known(self, now: float) -> bool:
        """Whether others are known to come, and how much fits while they are away."""
        return self._saturated and self._others.known(now)

    def block(self, latency: float, in_flight: float, now: float) -> None:
        """Some answers came: mean seconds of a typical one, with so many in flight."""
        self._others.block(latency, in_flight, now)

    def fitted(self, in_flight: float) -> None:
        """So many of ours had a place in a round."""
        self._fitted.append(in_flight)

    def saturated(self) -> None:
        """A queue was seen, or as much as ever will be of one."""
        self._saturated = True

    def overrun(self, fits: float) -> None:
        """A raise made a queue: so many of ours had a place."""
        self.fitted(fits)
        self.saturated()

    def only(self, in_flight: float, now: float) -> None:
        """A queue lasted although others were known: no more than so many fit."""
        self._fits = in_flight if self.known(now) else None

    def waited(self, fits: float, now: float) -> None:
        """First tokens came late: only so many fitted beside others."""
        if self.known(now):
            self._headroom.waited(fits, now)

    def look(self, best: Reading | None, now: float) -> None:
        """Settle how much fits in quiet times when others have become known."""
        if not self.known(now):
            self._fits = None
        elif self._fits is None and best is not None:
            self._fits = max(best.in_flight, *self._fitted, 0.0)

    def forget(self) -> None:
        """The server is another one now."""
        self._headroom.forget()

    @property
    def leaves_all(self) -> bool:
        """Whether `cap` is infinite, and stays so until another event."""
        return self._fits is None and self._headroom.fits == math.inf

    def cap(self, used: float, now: float) -> float:
        """What others leave: no limit should be above; infinity when they are not known."""
        cap = self._headroom.cap(used, now)
        if self._fits is None or not self.known(now):
            return cap
        return min(cap, self._fits * self._others.share(now))
