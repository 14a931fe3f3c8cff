"""How far an upload, a download or somebody else's batch is, shown in the display's own time."""

from __future__ import annotations

import time
from collections.abc import Callable

from batch_gateway.cli.progress_display import Display
from batch_gateway.cli.terminal_text import one_line

__all__ = ["Steps"]

_MEGABYTE = 1_000_000


class Steps:
    """Passes on to a display no more than it shows."""

    def __init__(self, display: Display, now: Callable[[], float] = time.monotonic) -> None:
        self._display, self._now = display, now
        # What is over by then needs no word.
        self._next = now() + display.interval

    def show(self, words: str, share: float | None, *, at_once: bool = False) -> None:
        now = self._now()
        if at_once or now >= self._next:
            self._next = now + self._display.interval
            self._display.step(words, share)

    def bytes(self, doing: str) -> Callable[[int, int | None], None]:
        """Takes (bytes done, bytes in all or None) of what `doing` says, as "Uploading x.jsonl"."""
        started = self._now()

        def show(done: int, total: int | None) -> None:
            speed = done / _MEGABYTE / max(self._now() - started, 0.001)
            of = "" if total is None else f" of {total / _MEGABYTE:,.1f}"
            words = f"{one_line(doing)}  {done / _MEGABYTE:,.1f}{of} MB, {speed:,.1f} MB/s"
            self.show(words, done / total if total else None)

        return show
