"""What a gateway grants a key, request by request: by a token bucket, or anew in each window."""

from __future__ import annotations

from typing import Protocol

from batch_gateway.simulator.quota import TokenBucket
from benchmarks.worlds.world import Quota

__all__ = ["Grants", "grants_of"]

_BEGINS_AT = 0.4  # of a window


class Grants(Protocol):
    """Knows no clock."""

    def take(self, now: float) -> float:
        """Take one request's place and return 0, or return the seconds until there may be one."""
        ...

    def answered(self, tokens: int) -> None:
        """An answer of so many tokens is complete."""


class _Bucket:
    """A token bucket whose rate others change."""

    def __init__(self, quota: Quota) -> None:
        self._bucket = TokenBucket(quota.per_second, quota.burst)
        self._later = list(quota.later)

    def take(self, now: float) -> float:
        while self._later and self._later[0][0] <= now:
            self._bucket.per_second = self._later.pop(0)[1]
        return self._bucket.take(now)

    def answered(self, tokens: int) -> None:
        """It counts requests."""


class _Window:
    """So many requests, or tokens of answers, in each window on the clock."""

    def __init__(self, quota: Quota) -> None:
        self._seconds = quota.window
        # Nobody begins just as the clock's minute does.
        self._early = _BEGINS_AT * quota.window
        self._granted = quota.per_second * quota.window
        self._of_tokens = quota.of_tokens
        self._used = self._number = 0

    def take(self, now: float) -> float:
        now += self._early
        if (number := int(now / self._seconds)) != self._number:
            self._number, self._used = number, 0
        if self._used >= self._granted:
            return (number + 1) * self._seconds - now
        self._used += not self._of_tokens
        return 0.0

    def answered(self, tokens: int) -> None:
        self._used += tokens if self._of_tokens else 0


def grants_of(quota: Quota) -> Grants:
    return _Window(quota) if quota.window else _Bucket(quota)
