"""Whether a gateway refuses from a certain number in flight on: a sequential test on ranks.

The rank of a request is how many are in flight with it. A full server refuses all above some
rank and nothing below, which is a step; chance and quotas refuse at any rank.

| state | event | next | what is done |
|---|---|---|---|
| no ceiling | refused from a rank on, surely no chance | ceiling | try after an answer's time |
| ceiling | time for a try | ceiling, trying | one more may be sent |
| trying | two were accepted above it | ceiling there, trying | one more at once than before |
| trying | refused, more than one at once | ceiling, trying | one more again |
| trying | refused, a single one | ceiling | try after twice as many sends, now apart, now not |
| ceiling | refused from a lower rank on | lower ceiling | try after an answer's time |
| ceiling | refused from so far down that others took places | a tenth lower | the same |
"""

from __future__ import annotations

import math

from batch_gateway.concurrency.sequential_test import LIKELY, SURE, evidence

__all__ = ["RankStep"]

_FULL = 0.95  # of those above a ceiling are refused; the rest find a place that was just freed
# Chance starts as if one of 20 had been refused, so that it takes three to set a ceiling, and
# looks back on 400 sends: enough to tell 2 % from 5 %, short enough to follow a change.
_PRIOR = (1.25, 25.0)
_MEMORY = 400.0
_LEAST, _MOST = 0.005, 0.9
# A refusal in 400 sends is a low price for trying; a ceiling that was only chance is soon undone.
_RAREST, _SOONEST = 400.0, 100.0  # sends from try to try; the first sooner where fewer fit
_LONGEST_WAIT = 7.0  # seconds to a try: who has few places is to try as often as who has many
# A ceiling that fell by more than answers on their way explain was taken by somebody: a tenth of
# what was ours goes with it, and whoever has more gives more (the decrease of CUBIC, RFC 9438).
_TAKEN, _YIELD = 0.98, 0.9
# Where chance refuses as many, neither places that others took show, nor what comes apart.
_OFTEN = 0.1


class RankStep:
    """The highest number in flight that is accepted, and careful tries above it.

    Attributes:
        top: the ceiling; infinity while there is none.
        stride: how many more a try sends.
    """

    def __init__(self, minimum: int) -> None:
        self._minimum = minimum
        self._refused, self._sent = _PRIOR
        self.forget()

    def forget(self) -> None:
        """There is no ceiling, but chance is what it was."""
        self.top = math.inf
        self.stride = 1
        self._apart = False
        self._explained = 0  # refusals that are no chance if the ceiling is there
        self._known = 0  # ceiling that was there before others took places; 0: none
        self._above = 0.0  # log odds that what is above `top` is refused
        self._try_at = 0.0
        self._wait = _SOONEST  # sends from try to try
        self._acquit()

    @property
    def chance(self) -> float:
        """The share of sends that is refused whatever is in flight."""
        return min(_MOST, max(_LEAST, self._refused / self._sent))

    @property
    def apart(self) -> bool:
        """Whether requests are to be sent apart from each other, since a gateway that takes no two
        at one instant refuses the second one whatever is in flight."""
        return self._apart and self.chance < _OFTEN

    def limit(self, now: float) -> float:
        """The ceiling, or a little more when it is time to try."""
        return self.top + self.stride if now >= self._try_at else self.top

    def accepted(self, rank: int, now: float) -> None:
        fell = evidence(_FULL, self.chance, refused=False)
        if rank > self.top:
            self._above = min(0.0, self._above) + fell
            if self._above < -LIKELY:
                self._raise(rank, now)
            return
        self._count(refused=False)
        if rank >= self._lowest:
            self._against += fell
            if self._against <= 0:
                self._acquit()

    def refused(self, rank: int, now: float, rate: float) -> bool:
        """Whether it showed a first ceiling; `rate`: answers a second."""
        rose = evidence(_FULL, self.chance, refused=True)
        if rank > self.top:
            self._above = max(0.0, self._above) + rose
            if self._above > LIKELY:
                self._try_failed(now, rate)
            return False
        if rank < self._lowest:
            self._acquit()
            self._lowest = rank
        self._against += rose
        self._suspects += 1
        self._count(refused=True)
        if self._against <= SURE:
            return False
        first = self.top == math.inf
        self._lower(now, rate)
        return first

    def _lower(self, now: float, rate: float) -> None:
        self._explained = self._suspects
        top = self._lowest - 1
        if not self._known:
            self._known = top
        elif top < _TAKEN * self._known and self._refused - self._explained < _OFTEN * self._sent:
            self._known = top
            top = min(top, int(_YIELD * self.top))
            self._explain()
        self.top = max(self._minimum, top)
        self._apart = False
        # One answer's time (Little's law): what chance set in the wrong place is soon undone.
        self._wait = min(self.top, _SOONEST)
        self._put_off(now, rate)

    def _raise(self, rank: int, now: float) -> None:
        self.top = rank
        self._above = 0.0
        self._explained = 0
        self.stride += 1
        self._wait = min(self.top, _SOONEST) / 2
        self._try_at = now

    def _try_failed(self, now: float, rate: float) -> None:
        if self.stride > 1:
            self.stride = 1
            self._above = 0.0
            return
        self._known = max(self._known, int(self.top))
        self._explain()
        self._apart = not self._apart
        self._wait = min(_RAREST, 2 * self._wait)
        self._put_off(now, rate)

    def _explain(self) -> None:
        """What was refused from the ceiling on was no chance."""
        self._refused = max(_PRIOR[0], self._refused - self._explained)
        self._explained = 0

    def _put_off(self, now: float, rate: float) -> None:
        self._acquit()
        self._above = 0.0
        self.stride = 1
        self._try_at = now + min(_LONGEST_WAIT, self._wait / max(rate, 1e-9))

    def _acquit(self) -> None:
        self._against = 0.0  # log odds of a ceiling below `top`
        self._lowest = math.inf  # rank from which on it is suspected
        self._suspects = 0  # refusals from there on

    def _count(self, *, refused: bool) -> None:
        self._sent += 1
        self._refused += refused
        if self._sent > _MEMORY:
            self._refused /= 2
            self._sent /= 2
