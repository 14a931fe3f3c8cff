"""What bounds a streamed answer."""

from __future__ import annotations

import msgspec

__all__ = ["StreamLimits"]


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a stream may be silent once it has begun, in seconds, and how large it may be."""

    idle_timeout: float
    max_event_bytes: int
    max_response_bytes: int
