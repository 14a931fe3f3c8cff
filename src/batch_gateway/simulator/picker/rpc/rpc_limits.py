"""When a connection of the gRPC server refuses calls or asks its client to leave."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ConnectionLimits"]


class ConnectionLimits(NamedTuple):
    """Of one connection.

    Attributes:
        concurrent_streams: calls at a time; None says nothing.
        streams: calls after which GOAWAY is sent; None never.
        age: seconds after which it is; None never.
        ping_interval: seconds between two pings; a client that does not keep to it loses its
            connection.
    """

    concurrent_streams: int | None = None
    streams: int | None = None
    age: float | None = None
    ping_interval: float = 300.0
