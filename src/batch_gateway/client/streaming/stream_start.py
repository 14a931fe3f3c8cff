"""What the body of a streamed answer begins with, which tells it from one in one piece. Pure."""

from __future__ import annotations

from batch_gateway.wire.json_check import BYTE_ORDER_MARK

__all__ = ["BLANKS", "FIELDS", "TELLING", "usual_start"]

FIELDS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")
_USUAL_FIELD = FIELDS[0]

TELLING = len(BYTE_ORDER_MARK) + len(max(FIELDS, key=len))
"""So many bytes behind the blanks are enough to tell."""

BLANKS = b" \t\r\n"
"""Those that JSON or a stream may begin with, before or behind the mark of UTF-8."""


def usual_start(start: bytes) -> bytes:
    """The start of a body, if it is that of nearly all streams; else nothing."""
    return start if start.startswith(_USUAL_FIELD) and len(start) >= TELLING else b""
