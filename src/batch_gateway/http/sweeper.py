"""One timer for any number of deadlines: it wakes for the earliest and looks at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Sweeper"]

_NEVER = float("inf")

# However many deadlines fall close together, sweeps keep this distance, in seconds.
_REST = 0.01


class Sweeper:
    """Calls `sweep(now)` no later than about 10 ms after the earliest time it was armed for.

    A timer for each request would cost more than the rest of its bookkeeping, and nearly all of
    them would be cancelled. `sweep` handles what is due and returns when it is next needed
    (infinity: not until armed again). Being woken for work that is done by then is harmless.
    All times are monotonic seconds.

    Attributes:
        wakes_at: when it sweeps next, infinity when it does not. `arm` does nothing for a later
            time, so that who arms it for each request may spare the call.
    """

    __slots__ = ("_clock", "_handle", "_sweep", "wakes_at")

    def __init__(
        self, sweep: Callable[[float], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sweep = sweep
        self._clock = clock
        self.wakes_at = _NEVER
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, at: float) -> None:
        """Make sure that a sweep happens at `at`."""
        if at < self.wakes_at:
            self._schedule(at, rest=0.0)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self.wakes_at = _NEVER

    def _schedule(self, at: float, rest: float) -> None:
        self.stop()
        if at == _NEVER:
            return
        self.wakes_at = at
        # The loop's own clock may run on another base, or be coarser (uvloop: milliseconds).
        delay = max(at - self._clock(), rest)
        self._handle = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._handle = None
        self.wakes_at = _NEVER
        self._schedule(self._sweep(self._clock()), rest=_REST)
