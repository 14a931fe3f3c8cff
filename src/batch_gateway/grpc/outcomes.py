"""How calls end, as errors: from a status, a reset, or an HTTP response that is not gRPC's."""

from __future__ import annotations

from typing import Protocol

from batch_gateway.errors import (
    BadResponseError,
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    StaleConnectionError,
    TLSError,
)
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.request_blocks import ResponseHeaders
from batch_gateway.http.connection_errors import broken_error
from batch_gateway.wire.http2.grpc_status import StatusCode
from batch_gateway.wire.http2.http2_errors import ErrorCode, code_name

__all__ = [
    "NOT_PROCESSED",
    "Progress",
    "broken_rule",
    "hung_up",
    "no_http2",
    "not_processed",
    "reset_error",
    "response_problem",
    "status_outcome",
    "timed_out",
]

NOT_PROCESSED = "not_processed"
"""The `code` of an error after which the server is known not to have looked at the call."""


# gRPC's "HTTP to gRPC Status Code Mapping", for answers that something in between gave.
_STATUS_OF_HTTP = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}

# "gRPC over HTTP2", Errors; all others are INTERNAL.
_STATUS_OF_RESET = {
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


def response_problem(headers: ResponseHeaders, peer: str) -> Exception | None:
    """Why the headers of a response cannot lead to messages, or None."""
    if headers.http_status != 200:
        code = _STATUS_OF_HTTP.get(headers.http_status or 0, StatusCode.UNKNOWN)
        return GrpcStatusError(code, f"{peer} answered HTTP {headers.http_status}")
    if not headers.content_type.startswith("application/grpc"):
        said = headers.content_type[:80] or "none"
        return BadResponseError(f"{peer} did not answer as gRPC (content type: {said})")
    if headers.encoding != "identity":
        return BadResponseError(
            f"{peer} compresses its messages ({headers.encoding[:40]}), which it was not asked to"
        )
    return None


def status_outcome(trailers: ResponseHeaders, peer: str, *, incomplete: bool) -> Exception | None:
    """How a call ended that ended with `trailers`; None is OK.

    `incomplete` says that a message had begun and not ended.
    """
    code = trailers.grpc_status
    if code is None:
        return BadResponseError(f"{peer} ended the call without a status")
    if code == StatusCode.OK and incomplete:
        return BadResponseError(f"{peer} ended the call in the middle of a message")
    if code == StatusCode.OK:
        return None
    return GrpcStatusError(StatusCode.UNKNOWN if code < 0 else code, trailers.grpc_message)


def reset_error(code: int, peer: str) -> Exception:
    """What RST_STREAM means to the call."""
    if code == ErrorCode.REFUSED_STREAM:
        return GatewayConnectionError(f"{peer} refused the call unseen", code=NOT_PROCESSED)
    status = StatusCode.INTERNAL if code > max(ErrorCode) else _status_of_reset(ErrorCode(code))
    return GrpcStatusError(status, f"{peer} reset the call ({code_name(code)})")


def not_processed(peer: str, reason: str) -> InferenceError:
    """For calls that a server which goes away has not looked at."""
    return StaleConnectionError(f"{peer} {reason} before it took the call", code=NOT_PROCESSED)


def broken_rule(problem: str, peer: str) -> InferenceError:
    return BadResponseError(f"{peer} broke the rules of HTTP/2: {problem}")


class Progress(Protocol):
    """How far a call has come."""

    @property
    def held_back(self) -> bool: ...
    @property
    def received(self) -> bool: ...


def timed_out(call: Progress, peer: str) -> RequestTimeoutError:
    """The error of a call whose deadline passed."""
    if call.held_back:
        progress = "its messages had not been sent completely"
    else:
        progress = "its answer had begun" if call.received else "it had said nothing"
    return RequestTimeoutError(f"{peer} did not end the call in time: {progress}")


def no_http2(first_bytes: bytes, problem: str, peer: str) -> InferenceError:
    """The server's very first bytes were not those of HTTP/2."""
    if first_bytes[:1] == b"H":
        problem = "it answered as an HTTP/1 server"
    elif first_bytes[:1] == b"\x15":  # a TLS alert
        problem = "it expects TLS; use grpcs://"
    return GatewayConnectionError(f"{peer} does not speak HTTP/2: {problem}")


def hung_up(cause: Exception | None, peer: str, *, tls: bool) -> InferenceError:
    """The server ended the connection before its first word. Go's does so where TLS is missing."""
    error = broken_error(cause, peer, reused=False, received=0, progress="")
    if isinstance(error, TLSError):
        return error
    hint = "perhaps it asks for a client certificate" if tls else "perhaps it expects TLS: grpcs://"
    return GatewayConnectionError(f"{error.message}; {hint}", cause=cause)


def _status_of_reset(code: ErrorCode) -> StatusCode:
    return _STATUS_OF_RESET.get(code, StatusCode.INTERNAL)
