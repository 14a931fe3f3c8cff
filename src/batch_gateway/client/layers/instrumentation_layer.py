"""The layer that tells a client's observers of every request."""

from __future__ import annotations

import msgspec

from batch_gateway.client.interfaces.instrumentation import (
    GatewayEvents,
    RequestFinished,
    RequestStarted,
)
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.clock import Clock
from batch_gateway.errors import InferenceError

__all__ = ["InstrumentationTransport"]

_OK = "ok"
_CANCELLED = "cancelled"


class InstrumentationTransport:
    """The outermost layer: tells observers of every request's start and end."""

    def __init__(self, inner: Transport, events: GatewayEvents, clock: Clock) -> None:
        self._inner = inner
        self._events = events
        self._clock = clock

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        events = self._events
        started = events.started(request)
        events.requests_in_flight += 1
        events.request_started(started)
        try:
            headers = events.headers(started)
            response = await self._inner.send(
                _with_headers(request, headers) if headers else request
            )
        except InferenceError as error:
            self._finished(started, request, error.category.value, error.attempts, error=error)
            raise
        except BaseException:
            self._finished(started, request, _CANCELLED, 0)
            raise
        self._finished(started, request, _OK, response.attempts, response=response)
        return response

    def _finished(
        self,
        started: RequestStarted,
        request: PreparedRequest,
        outcome: str,
        attempts: int,
        *,
        response: InferenceResponse | None = None,
        error: InferenceError | None = None,
    ) -> None:
        self._events.requests_in_flight -= 1
        duration = self._clock.monotonic() - request.started
        self._events.request_finished(
            RequestFinished(started, outcome, duration, attempts, response, error)
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


def _with_headers(request: PreparedRequest, headers: list[tuple[str, str]]) -> PreparedRequest:
    replaced = {name.lower() for name, _ in headers}
    kept = [pair for pair in request.headers if pair[0].lower() not in replaced]
    return msgspec.structs.replace(request, headers=(*kept, *headers))
