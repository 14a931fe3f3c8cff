"""The few header blocks that a gRPC server sends (gRPC over HTTP/2, Responses)."""

from __future__ import annotations

from batch_gateway.wire.http2.grpc_status import StatusCode, encode_status_message
from batch_gateway.wire.http2.header_blocks import field

__all__ = ["response_headers", "trailers"]

# Entry 8 of the static table is `:status: 200`.
_HEADERS = b"\x88" + field("content-type", "application/grpc")
_OK = field("grpc-status", "0")


def response_headers() -> bytes:
    """The block that goes before the first message."""
    return _HEADERS


def trailers(status: int, message: str, *, alone: bool) -> bytes:
    """The block that ends a call; `alone` when nothing went before it."""
    start = _HEADERS if alone else b""
    if status == StatusCode.OK:
        return start + _OK
    text = field("grpc-message", encode_status_message(message))
    return start + field("grpc-status", str(int(status))) + text
