"""Room that is left free for others who come in bursts."""

from __future__ import annotations

import math

__all__ = ["Headroom"]

_FIRST_FIRM = 60.0
_LONGEST_FIRM = 960.0
_EPISODE = 20.0
_RELAX = 0.004
_STRETCH = 1.1


class Headroom:
    """A cap on the limit, from what fitted beside others when they came.

    It stands for a minute, and twice as long each time that it turns out to be needed again, so
    that users who come in bursts find their room; then it gives way, 0.4 % a second.

    Attributes:
        fits: so many did at the worst; infinity when nobody ever waited.
    """

    def __init__(self) -> None:
        self.fits = math.inf
        self._at = 0.0
        self._firm = _FIRST_FIRM / 2

    def waited(self, fits: float, now: float) -> None:
        """Some of ours had to wait: only so many fit."""
        if now - self._at > _EPISODE or self.fits == math.inf:
            self._firm = min(_LONGEST_FIRM, 2 * self._firm)
            self.fits = fits
        else:
            self.fits = min(self.fits, fits)
        self._at = now

    def forget(self) -> None:
        """The server is another one now."""
        self.fits = math.inf
        self._firm = _FIRST_FIRM / 2

    def cap(self, used: float, now: float) -> float:
        """No limit should be above; infinity when nobody ever waited.

        It gives way only a tenth, or one, beyond what is `used`, so that no climb leaps over it.
        """
        if self.fits == math.inf:
            return math.inf
        relaxed = self.fits * math.exp(_RELAX * max(0.0, now - self._at - self._firm))
        return min(relaxed, max(self.fits, _STRETCH * used, used + 1))
