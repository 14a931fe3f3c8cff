"""How a gRPC status of an endpoint picker is told: as the HTTP status that means the same."""

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
from batch_gateway.wire.http2.grpc_status import HTTP_STATUS_OF_GRPC, StatusCode

__all__ = ["status_error"]

_SERVED_BY_NONE = "; there is a gRPC server, but no endpoint picker: its port is 9002 as a rule"


def status_error(error: GrpcStatusError, picker: str) -> InferenceError:
    """What the end of a call with `error` means to the request it was made for.

    `picker` is how messages name it.
    """
    status = HTTP_STATUS_OF_GRPC.get(error.code)
    name = f"status {error.code}" if status is None else StatusCode(error.code).name
    status = status or 500
    said = short_text(error.message)
    message = f"the endpoint picker {picker} answered {name}" + (f": {said}" if said else "")
    if error.code == StatusCode.DEADLINE_EXCEEDED:
        return RequestTimeoutError(message, cause=error)
    if error.code == StatusCode.UNIMPLEMENTED:
        message += _SERVED_BY_NONE
    # gRPC's own words for a message that is too large, which no waiting will make smaller.
    if error.code == StatusCode.RESOURCE_EXHAUSTED and "larger than max" in error.message:
        return InvalidRequestError(message, status_code=413, cause=error)
    return error_class_for_status(status)(
        message, is_retryable=is_retryable_status(status), status_code=status, cause=error
    )
