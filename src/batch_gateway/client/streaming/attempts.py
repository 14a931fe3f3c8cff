"""One attempt whose answer is streamed: the request for it, and what reads it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.gateway_habits import GatewayHabits
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.client.streaming.receive import Reception, StreamReader
from batch_gateway.client.streaming.request_body import (
    is_streamable,
    quick_streaming_body,
    refuses_usage_option,
    streaming_body,
)
from batch_gateway.clock import Clock
from batch_gateway.errors import InferenceError, InvalidRequestError
from batch_gateway.http.exchange import HTTPExchanger, HTTPStream
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
        self._accept = accept
        self._habits = habits = GatewayHabits()
        self._reader = StreamReader(clock, redact, limits, habits)

    async def send(self, request: PreparedRequest, begin_by: float) -> InferenceResponse | None:
        """The answer to a request for a stream; None when it is not to be asked for one."""
        if request.sink is None and not is_streamable(request.endpoint):
            return None
        habits = self._habits
        asks_usage = habits.takes_usage_option
        while True:
            try:
                reception, opened = self._begin(request, begin_by, asks_usage)
            except InvalidRequestError:
                return None  # no JSON object: the gateway will say so better
            try:
                async with opened as response:
                    answer = await reception.run(response)
            except InferenceError as error:
                if not (asks_usage and refuses_usage_option(error)):
                    raise
                try:
                    is_ours = _asks_usage(request)
                except InvalidRequestError:
                    return None  # as above; it was not looked into
                if not is_ours:
                    raise
            else:
                # A refusal may only have quoted it: it was refused if the request works without.
                if not asks_usage:
                    habits.takes_usage_option = False
                return answer
            asks_usage = False

    def _begin(
        self, request: PreparedRequest, begin_by: float, asks_usage: bool
    ) -> tuple[Reception, AbstractAsyncContextManager[HTTPStream]]:
        """What reads the answer, and the block for it. Raises InvalidRequestError, see there."""
        # Not kept here: it may be large, and the answer may take hours.
        body = quick_streaming_body(request.body, request.endpoint, with_usage=asks_usage)
        accept = self._accept
        if request.headers and any(name.lower() == "accept" for name, _ in request.headers):
            accept = ()
        reader = self._reader
        reception = Reception(reader, request, reader.monotonic(), begin_by)
        return reception, self._exchanger.stream(
            request.endpoint,
            (("X-Request-ID", request.request_id), *accept, *request.headers),
            body,
            deadline=request.deadline,
            begin_by=begin_by,
            idle_timeout=reader.limits.idle_timeout,
            early=reception.begin,
        )


def _asks_usage(request: PreparedRequest) -> bool:
    """Whether a request asks for usage only where that is added to it."""
    body, endpoint = request.body, request.endpoint
    return streaming_body(body, endpoint) != streaming_body(body, endpoint, with_usage=False)
