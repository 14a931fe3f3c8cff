"""Which display suits a stream."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO

from batch_gateway.cli.progress_display import Display, LineDisplay

__all__ = ["choose_display"]


def choose_display(stream: IO[str], *, quiet: bool) -> Display:
    """Live on a terminal that can redraw, lines on anything else, nothing if quiet."""
    if quiet:
        return Display()
    if not stream.isatty() or _is_in_a_cell(os.environ):
        return LineDisplay(stream)
    # Importing rich takes a third of the time that the command takes to start.
    from rich.console import Console  # noqa: PLC0415

    from batch_gateway.cli.live_display import LiveDisplay  # noqa: PLC0415

    console = Console(file=stream)
    return LineDisplay(stream) if console.is_dumb_terminal else LiveDisplay(console)


def _is_in_a_cell(environment: Mapping[str, str]) -> bool:
    """Whether `!` of a notebook started this: what it calls a terminal only adds at its end.

    It is known by what ipykernel sets for everything that cells start (its
    `ZMQInteractiveShell.init_environment`).
    """
    return (environment.get("TERM"), environment.get("GIT_PAGER")) == ("xterm-color", "cat")
