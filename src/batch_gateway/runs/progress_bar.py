"""A bar for who waits in a terminal or in a notebook."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from batch_gateway.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["ProgressBar"]

_REDRAW_SECONDS = 0.1


class ProgressBar:
    """Shows how far something is, while it is entered; drawn by who calls `show`, by no thread.

    Raises ConfigError where there is no `rich`.
    """

    def __init__(self) -> None:
        try:
            # Who shows nothing need not load it.
            from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                "progress", "needs rich (pip install rich); False shows nothing"
            ) from error
        text = TextColumn("{task.description}", markup=False)
        self._progress: Progress = Progress(BarColumn(), text, auto_refresh=False)
        self._task = self._progress.add_task("", total=None)
        self._next = 0.0

    def show(self, done: int, total: int | None, words: str, *, last: bool = False) -> None:
        """So many of `total` are done, None while nobody knows; at most ten times a second."""
        now = time.monotonic()
        if last or now >= self._next:
            self._next = now + _REDRAW_SECONDS
            self._progress.update(self._task, completed=done, total=total, description=words)
            self._progress.refresh()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
