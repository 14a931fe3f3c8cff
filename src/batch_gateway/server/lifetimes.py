"""How long things last, as requests say it: completion windows, and what expires after them."""

from __future__ import annotations

import re
from typing import Any, cast

from batch_gateway.durations import format_duration, parse_duration
from batch_gateway.errors import ConfigError
from batch_gateway.server.api_errors import ApiError

__all__ = ["expires_after", "expires_after_object", "window_seconds"]

_SHORTEST, _LONGEST = 3600, 2_592_000
_LONGEST_TEXT = 100
# Go takes no number without a unit, nor blanks around it.
_GO_DURATION = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|[+-]?0")


def window_seconds(text: str, longest: float) -> float:
    """Seconds of a completion window such as `24h`. Raises ApiError."""
    if len(text) > _LONGEST_TEXT or not _GO_DURATION.fullmatch(text):
        raise ApiError(400, "completion_window must be a valid duration (e.g., 24h)")
    try:
        seconds = -1.0 if text.startswith("-") else parse_duration(text.removeprefix("+"))
    except ConfigError as error:
        raise ApiError(400, "completion_window must be a valid duration (e.g., 24h)") from error
    if seconds <= 0:
        raise ApiError(400, "completion_window must be more than zero")
    if seconds > longest:
        raise ApiError(400, f"completion_window must be at most {format_duration(longest)}")
    return seconds


def expires_after(name: str, anchor: object, seconds: object) -> int:
    """The seconds of `{"anchor": "created_at", "seconds": …}`. Raises ApiError."""
    if anchor != "created_at":
        raise ApiError(400, f"{name}.anchor must be 'created_at'")
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not _SHORTEST <= cast("int", seconds) <= _LONGEST:
        raise ApiError(
            400,
            f"{name}.seconds must be between {_SHORTEST} (1 hour) and {_LONGEST} (30 days)",
        )
    return cast("int", seconds)


def expires_after_object(name: str, value: Any) -> int | None:
    """The same of a JSON object with these two keys; None of `null`. Raises ApiError."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ApiError(400, f"{name} must be an object")
    given = cast("dict[str, Any]", value)
    for key in given:
        if key not in {"anchor", "seconds"}:
            raise ApiError(400, f'json: unknown field "{key}"')
    return expires_after(name, given.get("anchor"), given.get("seconds"))
