"""Go-style duration strings ("300ms", "1.5h", "1h30m") and plain seconds."""

from __future__ import annotations

import math
import re
import sys

from batch_gateway.errors import ConfigError

__all__ = ["Duration", "format_duration", "parse_duration", "seconds"]

_FORMS = "seconds as a number, or a Go-style string such as '90s', '5m', '1h30m'"

Duration = float | int | str
"""Seconds as a number, or a Go-style string such as "90s", "5m" or "1h30m"."""

_UNIT_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(value: object, field: str = "duration") -> float:
    """Seconds from a number of seconds or a Go-style string.

    A bare number in a string ("90") counts as seconds, which Go refuses and people write.
    Raises ConfigError, naming `field`, for anything else, and for NaN and negative values.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ConfigError(field, f"{value!r} is not a duration: write {_FORMS}")
    if math.isnan(seconds) or seconds < 0:
        raise ConfigError(field, f"{value!r} is not a duration: it must be at least 0")
    return seconds


def seconds(value: Duration) -> float:
    """A duration that was checked before, as seconds."""
    return value if isinstance(value, float) else parse_duration(value)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        # A whole number may be larger than every float.
        return math.inf if value > sys.float_info.max else float(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        return _seconds_from_parts(text)


def _seconds_from_parts(text: str) -> float | None:
    parts = list(_PART.finditer(text))
    if not parts or "".join(part.group(0) for part in parts) != text:
        return None
    return sum(float(part.group(1)) * _UNIT_SECONDS[part.group(2)] for part in parts)


def format_duration(seconds: float) -> str:
    """A short Go-style string for a person: "850ms", "12.3s", "4m10s", "2h05m"; "∞" for ever."""
    if math.isinf(seconds):
        return "∞"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{secs:02d}s"
