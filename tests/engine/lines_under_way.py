"""A run with lines at its gateways."""

from __future__ import annotations

from batch_gateway.engine.time_left import TimeLeft

__all__ = ["end", "sending"]


def sending(lines: int) -> TimeLeft:
    """So many lines are being sent."""
    time_left = TimeLeft()
    for line in range(lines):
        time_left.begin(line, 0.0)
    return time_left


def end(time_left: TimeLeft, line: int, at: float) -> None:
    """A line of 100 bytes has its answer."""
    time_left.end(line, 100, lambda: at)
