"""The error for a row of which no request can be made."""

from __future__ import annotations

__all__ = ["FaultyRowError"]


class FaultyRowError(ValueError):
    """Its words follow "line 7: "."""
