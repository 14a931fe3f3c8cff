"""Asking an endpoint picker's health service whether it takes requests (grpc.health.v1)."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from batch_gateway.errors import ServerError
from batch_gateway.grpc.contract import GrpcChannel, GrpcStatusError
from batch_gateway.picker.picker_statuses import status_error
from batch_gateway.wire.ext_proc.messages_pb2 import HealthCheckRequest, HealthCheckResponse
from batch_gateway.wire.ext_proc.names import HEALTH_METHOD
from batch_gateway.wire.http2.grpc_status import StatusCode

__all__ = ["check_health"]

# Readiness, as GAIE's pickers call it, then the server as a whole, which others have.
_SERVICES = ("readiness", "")
_Status = HealthCheckResponse.ServingStatus


async def check_health(
    channel: GrpcChannel, picker: str, *, deadline: float, required: bool
) -> None:
    """Return when it is serving. `required`: a server without a health service is an error.

    Raises ServerError when it says that it is not, and as `GrpcChannel.unary` does.
    """
    for service in _SERVICES:
        try:
            answer = await channel.unary(
                HEALTH_METHOD,
                HealthCheckRequest(service=service).SerializeToString(),
                deadline=deadline,
            )
        except GrpcStatusError as error:
            if error.code == StatusCode.NOT_FOUND:
                continue
            if error.code == StatusCode.UNIMPLEMENTED and not required:
                return
            raise _refused(error, picker) from error
        status = _status(answer)
        if status == _Status.SERVING:
            return
        if status != _Status.SERVICE_UNKNOWN:
            raise ServerError(
                f"the endpoint picker {picker} says that it is not serving: it waits for its pool,"
                " or another replica leads",
                code="not_serving",
            )


def _status(answer: bytes) -> int:
    try:
        return HealthCheckResponse.FromString(answer).status
    except DecodeError:
        return _Status.UNKNOWN


def _refused(error: GrpcStatusError, picker: str) -> ServerError:
    told = status_error(error, picker)
    if error.code == StatusCode.UNIMPLEMENTED:
        message = f"{picker} has no health service, at which it was to be asked"
        return ServerError(message, code="not_serving", is_retryable=False, cause=error)
    return ServerError(told.message, code="not_serving", cause=error)
