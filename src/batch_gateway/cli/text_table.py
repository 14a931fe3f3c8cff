"""Rows as columns of text, for a person at a terminal and for `cut` alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from batch_gateway.cli.terminal_text import one_line

__all__ = ["text_table", "utc_time"]


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns with two blanks between; what others wrote cannot break a line."""
    lines = [list(heads), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def utc_time(seconds: float | None) -> str:
    """Seconds since the epoch as "2026-11-29 09:30 UTC"; "" for None, and for no time there is."""
    if seconds is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return ""
