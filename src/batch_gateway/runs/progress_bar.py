"""A bar for who waits in a terminal or in a notebook."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from batch_gateway.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ProgressBar"]

_REDRAW_SECONDS = 0.1
_CELLS = 40


class _Drawn(Protocol):
    """Where a bar is drawn."""

    def start(self) -> None: ...

    def draw(self, done: int, total: int | None, words: str) -> None: ...

    def stop(self) -> None: ...


class ProgressBar:
    """Shows how far something is, while it is entered; drawn by who calls `show`, by no thread.

    Raises ConfigError where there is no `rich`.
    """

    def __init__(self) -> None:
        try:
            # Who shows nothing need not load it.
            from rich.console import Console  # noqa: PLC0415

            console = Console()
            self._drawn: _Drawn = _InACell() if console.is_jupyter else _OnATerminal(console)
        except ImportError as error:
            raise ConfigError(
                "progress", "needs rich (pip install rich); False shows nothing"
            ) from error
        self._next = 0.0

    def show(self, done: int, total: int | None, words: str, *, last: bool = False) -> None:
        """So many of `total` are done, None while nobody knows; at most ten times a second."""
        now = time.monotonic()
        if last or now >= self._next:
            self._next = now + _REDRAW_SECONDS
            self._drawn.draw(done, total, words)

    def __enter__(self) -> Self:
        self._drawn.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._drawn.stop()


class _OnATerminal:
    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        text = TextColumn("{task.description}", markup=False)
        self._progress = Progress(BarColumn(), text, auto_refresh=False, console=console)
        self._task = self._progress.add_task("", total=None)
        self.start, self.stop = self._progress.start, self._progress.stop

    def draw(self, done: int, total: int | None, words: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=words)
        self._progress.refresh()


class _InACell:
    """Below a cell of a notebook: what rich draws there needs ipywidgets, and this does not."""

    def __init__(self) -> None:
        # Nothing but a notebook has it.
        from IPython.display import display  # noqa: PLC0415 # pyright: ignore

        self._display: Any = display
        self._handle: Any = None

    def start(self) -> None:
        self._handle = self._display({"text/plain": ""}, raw=True, display_id=True)

    def draw(self, done: int, total: int | None, words: str) -> None:
        full = _CELLS * done // total if total else 0
        bar = "━" * full + "─" * (_CELLS - full)
        self._handle.update({"text/plain": f"{bar} {words}"}, raw=True)

    def stop(self) -> None:
        """What was drawn last stays."""
