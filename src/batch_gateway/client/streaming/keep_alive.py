"""What servers and proxies send as data to keep a connection busy, and which is no chunk. Pure."""

from __future__ import annotations

import re
from typing import Any, cast

__all__ = ["is_busy_text", "is_busy_value", "names_busy_event"]

_WORD = r"(?:ping|pong|keep[-_ ]?alive|heart[-_ ]?beat|no-?op|processing|waiting|queued)"
_BUSY_WORD = re.compile(_WORD, re.IGNORECASE)
# Such as ": OPENROUTER PROCESSING", a comment that was put into the data.
_BUSY_TEXT = re.compile(rf"\s*(?::.*|\W*(?:[\w-]+ )?{_WORD}\W*)", re.IGNORECASE)
_LONGEST_TEXT = 200


def names_busy_event(event: str) -> bool:
    """Whether the name of an event says that there is nothing in it."""
    return _BUSY_WORD.fullmatch(event) is not None


def is_busy_text(data: bytes) -> bool:
    """Whether data that is not JSON says nothing but that the server is at work."""
    if len(data) > _LONGEST_TEXT:
        return False
    return _BUSY_TEXT.fullmatch(data.decode("utf-8", "replace")) is not None


def is_busy_value(value: object) -> bool:
    """The same of JSON: null, an empty object, `{"type": "ping"}` (Anthropic's) and its like."""
    if not isinstance(value, dict):
        return value is None
    fields = cast("dict[str, Any]", value)
    said = (fields.get(name) for name in ("type", "event", "object"))
    return not fields or any(isinstance(one, str) and names_busy_event(one) for one in said)
