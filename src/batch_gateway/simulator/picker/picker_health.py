"""grpc.health.v1 as the inference extension's picker has it: `Check` only."""

from __future__ import annotations

from collections.abc import Callable

from batch_gateway.simulator.picker.rpc.served_call import Call
from batch_gateway.wire.ext_proc.messages_pb2 import HealthCheckRequest, HealthCheckResponse

__all__ = ["health_check"]

_LIVENESS = "liveness"
_READY = frozenset({"", "readiness"})


async def health_check(call: Call, ready: Callable[[], bool]) -> None:
    """Answer one `Check`: alive whenever it can, ready when `ready` says so."""
    message = await call.read()
    service = HealthCheckRequest.FromString(message or b"").service
    status = HealthCheckResponse.SERVICE_UNKNOWN
    if service == _LIVENESS or (service in _READY and ready()):
        status = HealthCheckResponse.SERVING
    elif service in _READY:
        status = HealthCheckResponse.NOT_SERVING
    await call.write(HealthCheckResponse(status=status).SerializeToString())
