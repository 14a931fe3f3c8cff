"""How long to go on asking a server that does not answer."""

from __future__ import annotations

from collections.abc import Callable

from batch_gateway.clock import Clock
from batch_gateway.errors import InferenceError

__all__ = ["Outage"]

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0


class Outage:
    """Waits between questions, longer each time, until one is answered or patience ends.

    `patience` is in seconds; `note` is told, once, when an outage begins and when it is over.
    """

    def __init__(self, patience: float, clock: Clock, note: Callable[[str], None]) -> None:
        self._patience, self._clock, self._note = patience, clock, note
        self._since: float | None = None
        self._wait = _FIRST_WAIT

    async def wait_out(self, error: InferenceError) -> None:
        """Return when it is time to ask again. Raises `error` when that makes no sense."""
        now = self._clock.monotonic()
        since = now if self._since is None else self._since
        if not error.is_retryable or now - since >= self._patience:
            raise error
        if self._since is None:
            self._since = now
            self._note(f"{error.message}; asking again until it answers")
        wait = max(self._wait, error.retry_after or 0.0)
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        await self._clock.sleep(min(wait, since + self._patience - now))

    def answered(self) -> None:
        """The server did."""
        if self._since is not None:
            self._note("The server answers again.")
        self._since, self._wait = None, _FIRST_WAIT
