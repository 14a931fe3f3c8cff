"""Server-sent events on the wire."""

from __future__ import annotations

import msgspec

__all__ = ["DONE", "EVENT_STREAM", "data_event", "named_event"]

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.encode


def data_event(value: object) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def named_event(name: str, value: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _encode(value) + b"\n\n"
