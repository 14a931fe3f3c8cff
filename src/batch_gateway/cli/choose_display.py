"""Which display suits a stream."""

from __future__ import annotations

from typing import IO

from batch_gateway.cli.progress_display import Display, LineDisplay

__all__ = ["choose_display"]


def choose_display(stream: IO[str], *, quiet: bool) -> Display:
    """Live on a terminal that can redraw, lines on anything else, nothing if quiet."""
    if quiet:
        return Display()
    if not stream.isatty():
        return LineDisplay(stream)
    # Importing rich takes a third of the time that the command takes to start.
    from rich.console import Console  # noqa: PLC0415

    from batch_gateway.cli.live_display import LiveDisplay  # noqa: PLC0415

    console = Console(file=stream)
    return LineDisplay(stream) if console.is_dumb_terminal else LiveDisplay(console)
