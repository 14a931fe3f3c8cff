"""How many pings a client may send before it is told to calm down, as grpc-go counts them."""

from __future__ import annotations

__all__ = ["PingPolicy"]

_MOST_STRIKES = 2
_WITHOUT_CALLS_SECONDS = 2 * 3600.0


class PingPolicy:
    """Counts pings that come too often. Knows no clock: the caller says what time it is.

    Source: grpc-go's keepalive.EnforcementPolicy and how its server applies it.

    Args:
        interval: seconds that should lie between two pings while calls are under way.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: float | None = None
        self._strikes = 0
        self._sent = False

    def sent(self) -> None:
        """Headers or data went to the client, which may well ping behind them."""
        self._sent = True

    def ping(self, now: float, *, calls: bool) -> bool:
        """A ping came, with calls under way or without; False when it is one too many."""
        last, self._last = self._last, now
        if self._sent:
            self._sent = False
            self._strikes = 0
            return True
        interval = self._interval if calls else _WITHOUT_CALLS_SECONDS
        if last is not None and now - last < interval:
            self._strikes += 1
        return self._strikes <= _MOST_STRIKES
