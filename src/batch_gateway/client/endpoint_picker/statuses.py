"""How a gRPC status of an endpoint picker is told: as the HTTP status that means the same.

The table follows google/rpc/code.proto, except that a service which is not there is a wrong
address (404), as it would be over HTTP, and a call that was cancelled by the picker is one that
it could not serve (503).
"""

from __future__ import annotations

from batch_gateway.client.grpc.contract import GrpcStatusError
from batch_gateway.errors import (
    InferenceError,
    InvalidRequestError,
    RequestTimeoutError,
    error_class_for_status,
    is_retryable_status,
)
from batch_gateway.wire.error_body import short_text

__all__ = ["HTTP_STATUS_OF_GRPC", "UNIMPLEMENTED", "status_error"]

# name of each status by its number, and the HTTP status it is told as
HTTP_STATUS_OF_GRPC: dict[int, tuple[str, int]] = {
    1: ("CANCELLED", 503),
    2: ("UNKNOWN", 500),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    6: ("ALREADY_EXISTS", 409),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    10: ("ABORTED", 409),
    11: ("OUT_OF_RANGE", 400),
    12: ("UNIMPLEMENTED", 404),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
    15: ("DATA_LOSS", 500),
    16: ("UNAUTHENTICATED", 401),
}
UNIMPLEMENTED = 12

_DEADLINE_EXCEEDED = 4
_RESOURCE_EXHAUSTED = 8
_SERVED_BY_NONE = "; there is a gRPC server, but no endpoint picker: its port is 9002 as a rule"


def status_error(error: GrpcStatusError, picker: str) -> InferenceError:
    """What the end of a call with `error` means to the request it was made for.

    `picker` is how messages name it.
    """
    name, status = HTTP_STATUS_OF_GRPC.get(error.code, (f"status {error.code}", 500))
    said = short_text(error.message)
    message = f"the endpoint picker {picker} answered {name}" + (f": {said}" if said else "")
    if error.code == _DEADLINE_EXCEEDED:
        return RequestTimeoutError(message, cause=error)
    if error.code == UNIMPLEMENTED:
        message += _SERVED_BY_NONE
    # gRPC's own words for a message that is too large, which no waiting will make smaller.
    if error.code == _RESOURCE_EXHAUSTED and "larger than max" in error.message:
        return InvalidRequestError(message, status_code=413, cause=error)
    return error_class_for_status(status)(
        message, is_retryable=is_retryable_status(status), status_code=status, cause=error
    )
