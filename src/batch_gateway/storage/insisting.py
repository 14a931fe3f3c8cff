"""Trying again what a store could not do just now, for as long as that is worth it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from obstore.exceptions import BaseError

from batch_gateway.clock import Clock
from batch_gateway.storage.outage_log import OutageLog
from batch_gateway.storage.store_troubles import Trouble, trouble_of

__all__ = ["STORE_ERRORS", "Insisting"]

STORE_ERRORS: Final = (BaseError, FileNotFoundError)
"""What obstore raises when a store does not do what it was asked."""

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0

_Result = TypeVar("_Result")


class Insisting:
    """Begins again what fails, until that has lasted `seconds`.

    Waits are between half of and all of a time that doubles up to 5 s, so that those who lost the
    same store do not come back to it all at once.
    """

    def __init__(self, seconds: float, clock: Clock, outage: OutageLog) -> None:
        self._seconds, self._clock, self._outage = seconds, clock, outage
        self._since: float | None = None
        self._times = 0

    async def after(self, trouble: Trouble) -> bool:
        """Wait before the next try; False where there is none."""
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        if not trouble.may_pass or now - self._since >= self._seconds:
            trouble.tell(self._outage)
            return False
        longest = min(_FIRST_WAIT * 2.0 ** min(self._times, 10), _LONGEST_WAIT)
        self._times += 1
        await self._clock.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        return True

    def worked(self) -> None:
        """The store did what it was asked."""
        self._outage.over()

    async def result_of(self, action: Callable[[], Awaitable[_Result]], name: str) -> _Result:
        """Of the first try that comes to something. Raises StorageError, of the object `name`."""
        while True:
            try:
                result = await action()
            except STORE_ERRORS as error:
                trouble = trouble_of(error)
                if not await self.after(trouble):
                    raise trouble.of(name) from None
            else:
                self.worked()
                return result
