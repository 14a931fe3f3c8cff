"""From an HTTP response to an `InferenceResponse`, or to the error that it means."""

from __future__ import annotations

from typing import Never

from batch_gateway.client.clock import Clock
from batch_gateway.client.http.exchange import HTTPResponse
from batch_gateway.client.redaction import Redactor
from batch_gateway.client.request import InferenceResponse
from batch_gateway.client.transport import PreparedRequest
from batch_gateway.errors import (
    BadResponseError,
    InferenceError,
    error_class_for_status,
    is_retryable_status,
)
from batch_gateway.wire.error_body import parse_error_body, short_text
from batch_gateway.wire.json_check import json_object_problem
from batch_gateway.wire.retry_after import parse_retry_after
from batch_gateway.wire.scheduling_headers import DROPPED_REASON

__all__ = ["interpret", "refusal_error"]

# The request waited in the router's queue until nobody wanted the answer (llm-d-router).
_NEVER_RETRIED = frozenset({"rejected-ttl-expired"})
_RATE_LIMITS = "x-ratelimit-"


def interpret(
    response: HTTPResponse, request: PreparedRequest, clock: Clock, redact: Redactor
) -> InferenceResponse:
    """The answer, when the status is 2xx and the body a JSON object; raises otherwise.

    Raises the InferenceError subclass of the status, or BadResponseError for a success that is
    none: empty, cut short or not JSON.
    """
    if not 200 <= response.status_code <= 299:
        raise _refusal(response, request, clock, redact)
    problem = json_object_problem(response.body)
    if problem:
        _raise_bad_answer(response, request, redact, problem)
    return InferenceResponse(
        request_id=request.request_id,
        status_code=response.status_code,
        headers=response.headers,
        body=response.body,
        attempts=request.attempt,
        duration=clock.monotonic() - request.started,
    )


def _refusal(
    response: HTTPResponse, request: PreparedRequest, clock: Clock, redact: Redactor
) -> InferenceError:
    # Apart from where it is raised, or error and frame would hold each other, and the request.
    error = refusal_error(response, clock.wall_time(), redact)
    error.request_id = request.request_id
    error.attempts = request.attempt
    return error


def _raise_bad_answer(
    response: HTTPResponse, request: PreparedRequest, redact: Redactor, problem: str
) -> Never:
    kind = response.headers.get("content-type", "")
    is_stream = bool(response.body) and kind.startswith("text/event-stream")
    if not response.body:
        detail = "with an empty body"
    elif is_stream:
        detail = "with an event stream; ask for one with client.stream(request), or leave it out"
    else:
        start = short_text(redact.in_text(response.body[:80].decode("utf-8", "replace")), 60)
        detail = f"whose body {problem}; it starts {start!r}"
    raise BadResponseError(
        f"HTTP {response.status_code} {detail}",
        is_retryable=not is_stream,
        status_code=response.status_code,
        body=redact.in_bytes(response.body),
        request_id=request.request_id,
        attempts=request.attempt,
    )


def refusal_error(response: HTTPResponse, wall_time: float, redact: Redactor) -> InferenceError:
    """The error that a response of any status but 2xx means, not yet any request's."""
    status, headers = response.status_code, response.headers
    body = redact.in_bytes(response.body)
    detail = parse_error_body(status, body)
    reason = headers.get(DROPPED_REASON)
    message = f"HTTP {status}: {detail.message}"
    if 300 <= status <= 399:
        target = short_text(redact.in_text(headers.get("location", "nowhere")), 100)
        message = f"HTTP {status} redirects to {target}; redirects are not followed"
    elif response.undecodable:
        message = f"HTTP {status}, and its body {response.undecodable}"
    elif reason:
        message = f"{message} [{short_text(reason, 60)}]"
    return error_class_for_status(status)(
        message,
        is_retryable=_is_retryable(status, headers.get("x-should-retry"), reason),
        status_code=status,
        body=body,
        code=detail.code,
        retry_after=parse_retry_after(headers, wall_time),
        dropped_reason=reason,
        rate_limits={name: headers[name] for name in headers if name.startswith(_RATE_LIMITS)},
    )


def _is_retryable(status: int, should_retry: str | None, reason: str | None) -> bool:
    if reason in _NEVER_RETRIED:
        return False
    if should_retry in ("true", "false"):
        return should_retry == "true"
    return is_retryable_status(status)
