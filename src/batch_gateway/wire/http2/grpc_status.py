"""How a gRPC call ends: the codes of google.rpc.Code, and messages as headers carry them."""

from __future__ import annotations

from enum import IntEnum
from urllib.parse import quote, unquote

__all__ = [
    "HTTP_STATUS_OF_GRPC",
    "StatusCode",
    "decode_status_message",
    "encode_status_message",
]

# All that is printable, but for the sign itself (gRPC over HTTP/2, Status-Message).
_UNENCODED = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


class StatusCode(IntEnum):
    """google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS_OF_GRPC: dict[int, int] = {
    StatusCode.CANCELLED: 503,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 404,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}
"""The HTTP status that means the same.

After google/rpc/code.proto, except that a service which is not there is a wrong address (404), as
it would be over HTTP, and a call that the server cancelled is one that it could not serve (503).
"""


def encode_status_message(message: str) -> str:
    """The value of `grpc-message`: percent-encoded UTF-8."""
    return quote(message, safe=_UNENCODED)


def decode_status_message(value: str) -> str:
    """What a `grpc-message` says. Takes anything: what is not encoded rightly stays as it is."""
    return unquote(value, errors="replace")
