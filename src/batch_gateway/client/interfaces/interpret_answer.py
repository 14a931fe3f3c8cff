"""From an HTTP response to an `InferenceResponse`, or to the error that it means."""

from __future__ import annotations

import asyncio

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.clock import Clock
from batch_gateway.errors import InferenceError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.redaction import Redactor
from batch_gateway.http.response_errors import no_answer_error, refusal_error
from batch_gateway.wire.answer_judge import judge_unusual, usual_answer
from batch_gateway.wire.json_check import BYTE_ORDER_MARK, LARGE_BODY
from batch_gateway.wire.scheduling_headers import QUEUE_TTL

__all__ = ["interpret", "interpret_aside"]


def interpret(
    response: HTTPResponse, request: PreparedRequest, clock: Clock, redact: Redactor
) -> InferenceResponse:
    """The answer, when the status is 2xx and the body one (see `wire.answer_judge`).

    Raises the InferenceError subclass of the status, or of the one that an error in the body would
    have; BadResponseError for a success that is none for another reason.
    """
    if not 200 <= response.status_code <= 299:
        raise _refusal(response, request, clock, redact)
    usual = usual_answer(request.endpoint, response.body)
    if usual is None and judge_unusual(request.endpoint, response.body, request.body) is not None:
        raise _of(request, no_answer_error(response, request.endpoint, clock.wall_time(), redact))
    answer = InferenceResponse(
        request_id=request.request_id,
        status_code=response.status_code,
        headers=response.headers,
        body=response.body.removeprefix(BYTE_ORDER_MARK),
        attempts=request.attempt,
        duration=clock.monotonic() - request.started,
    )
    vars(answer)["usual"] = usual
    return answer


async def interpret_aside(
    response: HTTPResponse, request: PreparedRequest, clock: Clock, redact: Redactor
) -> InferenceResponse:
    """The same, in a thread where the body is large: others go on meanwhile."""
    if len(response.body) <= LARGE_BODY:
        return interpret(response, request, clock, redact)

    def interpreted() -> InferenceResponse:
        answer = interpret(response, request, clock, redact)
        _ = answer.usage  # found here, and kept
        return answer

    return await asyncio.to_thread(interpreted)


def _refusal(
    response: HTTPResponse, request: PreparedRequest, clock: Clock, redact: Redactor
) -> InferenceError:
    asked = any(name.lower() == QUEUE_TTL for name, _ in request.headers)
    return _of(request, refusal_error(response, clock.wall_time(), redact, ttl_asked=asked))


def _of(request: PreparedRequest, error: InferenceError) -> InferenceError:
    # Made apart from where it is raised, or error and frame would hold each other and the request.
    error.request_id = request.request_id
    error.attempts = request.attempt
    return error
