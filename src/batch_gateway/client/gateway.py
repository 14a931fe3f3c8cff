"""The innermost layer: one attempt over HTTP, its answer interpreted."""

from __future__ import annotations

from batch_gateway.client.answer import interpret
from batch_gateway.client.clock import Clock
from batch_gateway.client.http.exchange import HTTPExchanger
from batch_gateway.client.redaction import Redactor
from batch_gateway.client.request import InferenceResponse
from batch_gateway.client.transport import PreparedRequest
from batch_gateway.durations import format_duration
from batch_gateway.errors import DeadlineExceededError, InferenceError, RequestTimeoutError

__all__ = ["GatewayTransport"]


class GatewayTransport:
    """Posts to one gateway. The attempt ends at its timeout or the request's deadline."""

    def __init__(
        self, exchanger: HTTPExchanger, timeout: float, clock: Clock, redact: Redactor
    ) -> None:
        self._exchanger = exchanger
        self._timeout = timeout
        self._clock = clock
        self._redact = redact

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        attempt_ends = self._clock.monotonic() + self._timeout
        if request.deadline < attempt_ends:
            attempt_ends = request.deadline
            if attempt_ends <= self._clock.monotonic():
                raise self._deadline_passed(request, None)
        try:
            response = await self._exchanger.post(
                request.endpoint,
                (("X-Request-ID", request.request_id), *request.headers),
                request.body,
                deadline=attempt_ends,
            )
        except RequestTimeoutError as error:
            if self._clock.monotonic() >= request.deadline:
                raise self._deadline_passed(request, error) from error
            raise self._attributed(error, request) from error.cause
        except InferenceError as error:
            raise self._attributed(error, request) from error.cause
        return interpret(response, request, self._clock, self._redact)

    @staticmethod
    def _attributed(error: InferenceError, request: PreparedRequest) -> InferenceError:
        error.request_id = request.request_id
        error.attempts = request.attempt
        return error

    @staticmethod
    def _deadline_passed(
        request: PreparedRequest, error: RequestTimeoutError | None
    ) -> DeadlineExceededError:
        allowed = format_duration(max(0.0, request.deadline - request.started))
        sent = request.attempt if error is not None else request.attempt - 1
        return DeadlineExceededError(
            f"the deadline passed {allowed} after the request was made",
            request_id=request.request_id,
            attempts=sent,
            cause=error,
        )

    async def aclose(self) -> None:
        await self._exchanger.aclose()
