"""One attempt whose answer is streamed: the request for it, and what reads it."""

from __future__ import annotations

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.gateway_habits import GatewayHabits
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.client.streaming.receive import receive
from batch_gateway.client.streaming.request_body import (
    is_streamable,
    refuses_usage_option,
    streaming_body,
)
from batch_gateway.clock import Clock
from batch_gateway.errors import InferenceError, InvalidRequestError
from batch_gateway.http.exchange import HTTPExchanger
from batch_gateway.http.redaction import Redactor

__all__ = ["StreamedAttempts"]


class StreamedAttempts:
    """Those at one gateway, which learn from one another what it does with streams.

    `accept` is added to the headers of requests that name no such header themselves.
    """

    def __init__(
        self,
        exchanger: HTTPExchanger,
        clock: Clock,
        redact: Redactor,
        *,
        limits: StreamLimits,
        accept: tuple[tuple[str, str], ...],
    ) -> None:
        self._exchanger = exchanger
        self._clock = clock
        self._redact = redact
        self._limits = limits
        self._accept = accept
        self._habits = GatewayHabits()

    async def send(self, request: PreparedRequest, begin_by: float) -> InferenceResponse | None:
        """The answer to a request for a stream; None when it is not to be asked for one."""
        if request.sink is None and not is_streamable(request.endpoint):
            return None
        asks_usage = self._habits.takes_usage_option
        try:
            body = streaming_body(request.body, request.endpoint, with_usage=asks_usage)
            streamed = self._stream(request, body, begin_by)
            # It may be large, and the answer may take hours.
            del body
        except InvalidRequestError:
            return None  # no JSON object: the gateway will say so better
        try:
            return await streamed
        except InferenceError as error:
            if not asks_usage or not refuses_usage_option(error):
                raise
            asked, plain = (
                streaming_body(request.body, request.endpoint, with_usage=asks)
                for asks in (True, False)
            )
            if plain == asked:
                raise
        self._habits.takes_usage_option = False
        return await self._stream(request, plain, begin_by)

    async def _stream(
        self, request: PreparedRequest, body: bytes, begin_by: float
    ) -> InferenceResponse:
        accept = self._accept
        if request.headers and any(name.lower() == "accept" for name, _ in request.headers):
            accept = ()
        sent_at = self._clock.monotonic()
        async with self._exchanger.stream(
            request.endpoint,
            (("X-Request-ID", request.request_id), *accept, *request.headers),
            body,
            deadline=request.deadline,
            begin_by=begin_by,
            idle_timeout=self._limits.idle_timeout,
        ) as response:
            del body
            return await receive(
                response,
                request,
                self._clock,
                self._redact,
                limits=self._limits,
                habits=self._habits,
                sent_at=sent_at,
                begin_by=begin_by,
            )
