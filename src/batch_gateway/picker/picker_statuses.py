"""How a gRPC status of an endpoint picker is told: as the HTTP status that means the same."""

from __future__ import annotations

import re

from batch_gateway.errors import (
    InferenceError,
    InvalidRequestError,
    RequestTimeoutError,
    error_class_for_status,
    is_retryable_status,
)
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.wire.error_body import short_text
from batch_gateway.wire.http2.grpc_status import HTTP_STATUS_OF_GRPC, StatusCode
from batch_gateway.wire.scheduling_headers import NO_ENDPOINTS
from batch_gateway.wire.too_large import says_too_large

__all__ = ["status_error"]

_SERVED_BY_NONE = "; there is a gRPC server, but no endpoint picker: its port is 9002 as a rule"

# As Go writes an error that it passes on; the innermost says what happened.
_PASSED_ON = re.compile(r"code = ([A-Za-z]{2,20}) desc = ")
_WRAPS = frozenset({StatusCode.UNKNOWN, StatusCode.INTERNAL})
_CODE_BY_GO_NAME = {code.name.replace("_", "").lower(): code for code in StatusCode} | {
    "canceled": StatusCode.CANCELLED
}

# GAIE's lightweight picker, whose words have changed, and llm-d's, which has them over HTTP too.
_NO_PODS = re.compile(
    r"no (?:\w{1,20} ){0,2}(?:pods?|endpoints?) (?:\w{1,20} ){0,2}(?:available|found|ready)"
    r"|failed to find endpoint candidates",
    re.IGNORECASE,
)


def status_error(error: GrpcStatusError, picker: str) -> InferenceError:
    """What the end of a call with `error` means to the request it was made for.

    `picker` is how messages name it. A picker without pods is told as the HTTP refusal of one.
    """
    code, name = _meant(error), _name(error.code)
    said = short_text(error.message)
    message = f"the endpoint picker {picker} answered {name}" + (f": {said}" if said else "")
    if says_too_large(error.message):
        return InvalidRequestError(message, status_code=413, cause=error)
    if code == StatusCode.DEADLINE_EXCEEDED:
        return RequestTimeoutError(message, cause=error)
    if error.code == StatusCode.UNIMPLEMENTED:
        message += _SERVED_BY_NONE
    status = HTTP_STATUS_OF_GRPC.get(code, 500)
    return error_class_for_status(status)(
        message,
        is_retryable=is_retryable_status(status),
        status_code=status,
        dropped_reason=NO_ENDPOINTS if _has_no_pods(code, error.message) else None,
        cause=error,
    )


def _meant(error: GrpcStatusError) -> int:
    """The code of what happened, which pickers pass on as INTERNAL or UNKNOWN with its words."""
    if error.code in _WRAPS:
        for name in reversed(_PASSED_ON.findall(error.message)):
            return _CODE_BY_GO_NAME.get(name.lower(), error.code)
    return error.code


def _name(code: int) -> str:
    return StatusCode(code).name if code in HTTP_STATUS_OF_GRPC else f"status {code}"


def _has_no_pods(code: int, message: str) -> bool:
    return code == StatusCode.UNAVAILABLE and _NO_PODS.search(message) is not None
