"""A run with lines at its gateways."""

from __future__ import annotations

from batch_gateway.engine.time_left import TimeLeft

__all__ = ["sending"]


def sending(lines: int) -> TimeLeft:
    """So many lines are being sent."""
    time_left = TimeLeft()
    time_left.under_way = dict.fromkeys(range(lines), 0.0)
    return time_left
