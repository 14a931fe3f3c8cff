"""The innermost layer: one attempt over HTTP, its answer interpreted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from batch_gateway.client.interfaces.interpret_answer import interpret, interpret_aside
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration
from batch_gateway.errors import (
    DeadlineExceededError,
    InferenceError,
    RequestTimeoutError,
)
from batch_gateway.http.exchange import HTTPExchanger
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.json_check import LARGE_BODY
from batch_gateway.wire.refusal_words import is_unknown_model

if TYPE_CHECKING:
    from batch_gateway.client.streaming.attempts import StreamedAttempts

__all__ = ["ACCEPT_EVENTS", "AttemptsByModel", "CountedAttempts", "GatewayTransport"]

# Not found, and method not allowed: what a server says of a path that it does not have.
_ABOUT_THE_PATH = frozenset({404, 405})

ACCEPT_EVENTS = ("Accept", "text/event-stream, application/json")


class AttemptFigures(Protocol):
    """Where attempts of one kind are counted.

    Attributes:
        in_flight: those that are being made.
    """

    in_flight: int

    def ended(self, seconds: float) -> None:
        """One of them took so long, however it ended, and is not in flight any more."""
        ...


class AttemptsByModel(Protocol):
    def of(self, model: str) -> AttemptFigures: ...


class CountedAttempts(Protocol):
    """Where requests that are being sent or answered just now are counted; by model, if wanted."""

    attempts_in_flight: int

    @property
    def attempts_by_model(self) -> AttemptsByModel | None: ...

    @property
    def attempts_are_heard(self) -> bool:
        """Whether somebody wants to know of each by itself."""
        ...

    def attempt_begins(self, request: PreparedRequest) -> None: ...

    def attempt_ends(self, request: PreparedRequest, seconds: float) -> None: ...

    def attempt_failed(self, words: str) -> None: ...


class GatewayTransport:
    """Posts to one gateway. The attempt ends at its timeout or the request's deadline.

    Where the answer is streamed, because the request has a sink or `stream_upstream` is set, the
    timeout is that of its beginning, and from then on `limits.idle_timeout` counts. Attempts under
    way are counted in `counted`, which tells of them too, here and not in a layer of its own: each
    coroutine more lengthens every wake-up. `url` gives the full URL of an endpoint, which a refusal
    that is about the path names; without it none does. `remark` is what else there is to say of a
    refusal.
    """

    def __init__(
        self,
        exchanger: HTTPExchanger,
        timeout: float,
        clock: Clock,
        redact: Redactor,
        *,
        limits: StreamLimits,
        counted: CountedAttempts,
        url: Callable[[str], str] | None = None,
        remark: Callable[[InferenceError], str] | None = None,
        stream_upstream: bool = False,
        accept: tuple[tuple[str, str], ...] = (ACCEPT_EVENTS,),
    ) -> None:
        self._exchanger = exchanger
        self._timeout = timeout
        self._too_late = f"no answer within {format_duration(timeout)} (timeout, --timeout)"
        self._clock = clock
        self._redact = redact
        self._limits = limits
        self._counted, self._are_heard = counted, counted.attempts_are_heard
        self._url = url
        self._remark = remark
        self._stream_upstream = stream_upstream
        self._accept = accept

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        began = self._clock.monotonic()
        attempt_ends = began + self._timeout
        if request.deadline < attempt_ends:
            attempt_ends = request.deadline
            if attempt_ends <= began:
                raise self._deadline_passed(request, None)
        counted, figures = self._counted, None
        if counted.attempts_by_model is not None:
            figures = counted.attempts_by_model.of(request.model)
            figures.in_flight += 1
        if self._are_heard:
            counted.attempt_begins(request)
        counted.attempts_in_flight += 1
        try:
            if request.sink is not None or self._stream_upstream:
                answer = await self._streams.send(request, attempt_ends)
                if answer is not None:
                    return answer
            response = await self._exchanger.post(
                request.endpoint,
                (("X-Request-ID", request.request_id), *request.headers),
                request.body,
                deadline=attempt_ends,
            )
            if len(response.body) <= LARGE_BODY:
                return interpret(response, request, self._clock, self._redact)
            return await interpret_aside(response, request, self._clock, self._redact)
        except InferenceError as error:
            await self._present(error, request, attempt_ends)
            if isinstance(error, RequestTimeoutError) and (
                self._clock.monotonic() >= request.deadline
            ):
                raise self._deadline_passed(request, error) from error
            raise error from error.cause
        finally:
            counted.attempts_in_flight -= 1
            if figures is not None:
                figures.ended(self._clock.monotonic() - began)
            if self._are_heard:
                counted.attempt_ends(request, self._clock.monotonic() - began)

    @cached_property
    def _streams(self) -> StreamedAttempts:
        # Loaded only where it is used: reading streams is a quarter of the client.
        from batch_gateway.client.streaming.attempts import StreamedAttempts  # noqa: PLC0415

        return StreamedAttempts(
            self._exchanger, self._clock, self._redact, limits=self._limits, accept=self._accept
        )

    async def _present(
        self, error: InferenceError, request: PreparedRequest, attempt_ends: float
    ) -> None:
        self._name_the_limit(error, attempt_ends)
        if len(error.body) <= LARGE_BODY:
            self._make_presentable(error, request)
        else:
            await asyncio.to_thread(self._make_presentable, error, request)

    def _name_the_limit(self, error: InferenceError, attempt_ends: float) -> None:
        # Those of a connection and of a stream that stands still name their own.
        is_ours = isinstance(error, RequestTimeoutError) and error.code == error.default_code
        if is_ours and self._clock.monotonic() >= attempt_ends:
            error.message = f"{self._too_late}: {error.message}"
            error.args = (error.message,)

    def _make_presentable(self, error: InferenceError, request: PreparedRequest) -> None:
        """Every failure of an attempt passes here, with all that it says still in it."""
        self._redact.and_headers(request.headers).in_error(error)
        error.request_id = request.request_id
        error.attempts = request.attempt
        # It may be about where the request went, and not about what it said.
        about_path = error.status_code in _ABOUT_THE_PATH and not is_unknown_model(error)
        if about_path and self._url is not None:
            error.message += f"; asked for {self._url(request.endpoint)}"
        if self._remark is not None and error.status_code is not None:
            error.message += self._remark(error)
        error.args = (error.message,)
        self._counted.attempt_failed(error.message)

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
