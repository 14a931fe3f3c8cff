"""How long a gateway asks to be left alone, in its headers or its words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = [
    "parse_retry_after",
    "parse_wait",
    "reset_wait",
    "retry_info",
    "said_number",
    "wait_in_words",
]

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = (
    r"[0-9]{1,12}(?:\.[0-9]{0,12})?\s?"
    r"(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)(?![a-z])"
)
_PARTS = rf"{_PART}(?:,?\s?{_PART}){{0,3}}"
_DURATION = rare_pattern(_PARTS, re.IGNORECASE)
_SPLIT = rare_pattern(r"([0-9.]+)\s?([a-z]+)", re.IGNORECASE)
_NUMBER = rare_pattern(r"[0-9]{1,15}(?:\.[0-9]{0,15})?")
_IN_WORDS = rare_pattern(
    r"\b(?:(?:try again|retry(?: your request)?|available)\s(?:in|after)|wait(?: for)?)"
    rf"\s({_PARTS})",
    re.IGNORECASE,
)

# No gateway asks for thirty years; from here on a number is a moment in Unix time, and from there
# on one in milliseconds.
_UNIX_TIME = 1e9
_UNIX_MILLISECONDS = 1e12


def parse_retry_after(headers: Mapping[str, str], wall_time: float) -> float | None:
    """Seconds to wait from `retry-after-ms`, else from `Retry-After`.

    `wall_time` is now in Unix seconds, for dates. None when neither header is there or makes
    sense, and when there is nothing to wait for: zero and a moment that has passed say that the
    gateway does not know, or that its clock is not ours. RFC 9110 §10.2.3 has seconds and dates;
    the millisecond form is OpenAI's, and `30s` or `1m30s` are what some gateways send.
    """
    milliseconds = said_number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000
    return parse_wait(headers.get("retry-after", ""), wall_time)


def parse_wait(text: str, wall_time: float) -> float | None:
    """Seconds from a number of them, a duration with units, a date or a moment in Unix time.

    None for anything else, and for what is not in the future.
    """
    text = text.strip()
    number = said_number(text)
    if number is None:
        wait = _duration(text) if _DURATION.fullmatch(text) else _until(text, wall_time)
    elif number >= _UNIX_TIME:
        wait = (number / 1000 if number >= _UNIX_MILLISECONDS else number) - wall_time
    else:
        wait = number
    return wait if wait and wait > 0 else None


def reset_wait(headers: Mapping[str, str], wall_time: float) -> float | None:
    """Seconds until every limit of which nothing is left has something again, or None.

    From pairs such as `x-ratelimit-remaining-tokens: 0` and `x-ratelimit-reset-tokens: 6m0s`
    (OpenAI, Groq), `ratelimit-remaining` and `ratelimit-reset` (the IETF draft), and
    `anthropic-ratelimit-requests-remaining` and `…-reset`.
    """
    waits = (
        parse_wait(headers.get(name.replace("remaining", "reset"), ""), wall_time)
        for name in headers
        if "ratelimit" in name and "remaining" in name and _is_used_up(headers[name])
    )
    return max((wait for wait in waits if wait is not None), default=None)


def _is_used_up(remaining: str) -> bool:
    # Some gateways send a policy after the number: "0, 0;w=60".
    found = _NUMBER.match(remaining.strip())
    return found is not None and float(found.group()) == 0


def wait_in_words(message: str) -> float | None:
    """Seconds from words such as OpenAI's "Please try again in 6m0s.", or None.

    Azure says "retry after 26 seconds", GitHub "Please wait 24 seconds before retrying", Django
    "Expected available in 30 seconds".
    """
    found = _IN_WORDS.search(message)
    return (_duration(found.group(1)) or None) if found else None


def retry_info(details: object) -> float | None:
    """Seconds from the google.rpc.RetryInfo among an error's `details`."""
    for detail in cast("list[Any]", details) if isinstance(details, list) else ():
        if isinstance(detail, dict) and "retryDelay" in detail:
            delay = cast("dict[str, Any]", detail)["retryDelay"]
            if isinstance(delay, str) and _DURATION.fullmatch(delay):
                return _duration(delay) or None
    return None


def said_number(value: object) -> float | None:
    """A number that is not negative, from JSON or from a header."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e15 else None


def _duration(text: str) -> float:
    total = 0.0
    for number, unit in _SPLIT.findall(text):
        name = unit.lower()
        key = "ms" if name.startswith(("ms", "milli")) else name[0]
        total += float(number) * _UNIT_SECONDS[key]
    return total


def _until(date: str, wall_time: float) -> float | None:
    try:
        moment = _moment(date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait = moment.timestamp() - wall_time
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return wait if math.isfinite(wait) else None


def _moment(date: str) -> datetime:
    """A date of HTTP, or of RFC 3339, which Anthropic's headers have."""
    if date[:4].isdigit():
        return datetime.fromisoformat(date)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few name a moment

    return parsedate_to_datetime(date)
