"""Telling of an outage when it begins and when it is over, and not of all requests that meet it."""

from __future__ import annotations

import logging
from typing import Final

from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.durations import format_duration

__all__ = ["OutageLog"]

_AGAIN_SECONDS: Final = 60.0
_MOST_WORDS: Final = 16


class OutageLog:
    """That of `what`, which others need.

    Each kind of trouble is one line, however long it lasts; what comes and goes is told of once a
    minute at most, and what then stays when that minute is over.
    """

    def __init__(self, what: str, log: logging.Logger, clock: Clock = SYSTEM_CLOCK) -> None:
        self._what, self._log, self._clock = what, log, clock
        self._began: float | None = None
        self._told: set[str] = set()
        self._said: dict[str, float] = {}

    def met(self, words: str) -> None:
        """Somebody needed it in vain."""
        now = self._clock.monotonic()
        if self._began is None:
            self._began, self._told = now, set()
            recent = {w: at for w, at in self._said.items() if now - at < _AGAIN_SECONDS}
            self._said = recent
        said = self._said.get(words)
        is_due = len(self._said) < _MOST_WORDS if said is None else now - said >= _AGAIN_SECONDS
        if is_due and words not in self._told:
            self._said[words] = now
            self._told.add(words)
            self._log.error("%s", words)

    def over(self) -> None:
        """It did what somebody asked of it."""
        if self._began is None:
            return
        if self._told:
            lasted = format_duration(self._clock.monotonic() - self._began)
            self._log.warning("%s is back after %s", self._what, lasted)
        self._began = None
