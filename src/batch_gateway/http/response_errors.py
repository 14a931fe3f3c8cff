"""The error that an HTTP response means, not yet any request's."""

from __future__ import annotations

import re

from batch_gateway.errors import (
    BadResponseError,
    ErrorCategory,
    InferenceError,
    InvalidRequestError,
    error_class_for_status,
    is_retryable_status,
)
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.answer_judge import Fault, judge_answer
from batch_gateway.wire.error_body import parse_error_body, short_text
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.refusal_words import is_used_up, names_unknown_model
from batch_gateway.wire.retry_after import parse_retry_after, reset_wait
from batch_gateway.wire.scheduling_headers import DROPPED_REASON, TTL_EXPIRED
from batch_gateway.wire.too_large import says_too_large

__all__ = ["class_for", "error_of_fault", "no_answer_error", "refusal_error"]

_RATE_LIMITS = "x-ratelimit-"
_UNWANTED_STREAM = Fault(
    "with an event stream; ask for one with client.stream(request), or leave it out",
    is_retryable=False,
)

_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]")


def refusal_error(
    response: HTTPResponse, wall_time: float, redact: Redactor, *, ttl_asked: bool = False
) -> InferenceError:
    """The error that a response of any status but 2xx means, not yet any request's.

    `ttl_asked` says that the request named how long it may wait in the gateway's queue.
    """
    # Before anything is cut: a part of a key would not be found again.
    response = redact.in_response(response)
    status, headers, body = response.status_code, response.headers, response.body
    detail = parse_error_body(status, body)
    reason = headers.get(DROPPED_REASON)
    message = f"HTTP {status}: {detail.message}"
    if 300 <= status <= 399:
        target = short_text(headers.get("location", "nowhere"), 100)
        message = f"HTTP {status} redirects to {target}; redirects are not followed"
    elif response.undecodable:
        message = f"HTTP {status}, and its body {response.undecodable}"
    elif reason:
        message = f"{message} [{short_text(reason, 60)}]"
    elif _is_about_size(status, detail.message):
        return InvalidRequestError(message, status_code=413, body=body, code=detail.code)
    error = class_for(status, detail.code, message, body)(
        message,
        is_retryable=is_retryable_status(status),
        status_code=status,
        body=body,
        code=detail.code,
        retry_after=detail.retry_after,
    )
    _heed(headers, error, wall_time)
    if reason == TTL_EXPIRED and ttl_asked:
        # Nobody wants the answer any more. Without a limit of ours it is the router's queue
        # that was too long (llm-d-router).
        error.is_retryable = False
    return error


def _is_about_size(status: int, words: str) -> bool:
    """Whether a status that is worth a retry is given to a request that is too large."""
    return (status == 429 or status >= 500) and says_too_large(words)


def no_answer_error(
    response: HTTPResponse, endpoint: str, wall_time: float, redact: Redactor
) -> InferenceError:
    """The error that a response of a 2xx status means whose body is no answer."""
    # Judged anew without secrets, too, because its words are cut.
    response = redact.in_response(response)
    body = response.body
    fault = judge_answer(endpoint, body) or Fault("whose body is no answer")
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    if is_stream and body and not _JSON.match(body):
        fault = _UNWANTED_STREAM
    error = error_of_fault(fault, response.status_code, body)
    _heed(response.headers, error, wall_time)
    return error


def error_of_fault(fault: Fault, status_code: int, body: bytes) -> InferenceError:
    """The error that a fault in the body of a 2xx status is, not yet any request's.

    Its status is the one that the fault names, so that whoever decides by it, such as the circuit
    breaker, treats it as a plain refusal of that status.
    """
    message = f"HTTP {status_code} {fault.problem}"
    if _is_about_size(fault.status or 0, fault.problem):
        return InvalidRequestError(message, status_code=413, body=body, code=fault.code)
    kind, retryable = BadResponseError, True
    if fault.status is not None:
        kind = class_for(fault.status, fault.code, message, body)
        retryable = is_retryable_status(fault.status)
    error = kind(
        message,
        is_retryable=retryable if fault.is_retryable is None else fault.is_retryable,
        status_code=fault.status or status_code,
        body=body,
        code=fault.code,
        retry_after=fault.retry_after,
    )
    error.is_retryable = error.is_retryable and not is_used_up(error)
    return error


def class_for(status: int, code: str | None, message: str, body: bytes) -> type[InferenceError]:
    """A 404 about a model is an error of the request, and no wrong address."""
    if status == 404 and names_unknown_model(status, code, message, body):
        return InvalidRequestError
    return error_class_for_status(status)


def _heed(headers: Headers, error: InferenceError, wall_time: float) -> None:
    """Note in `error` what the response's head says about it."""
    error.retry_after = parse_retry_after(headers, wall_time) or error.retry_after
    if error.retry_after is None and error.category is ErrorCategory.RATE_LIMIT:
        error.retry_after = reset_wait(headers, wall_time)
    error.dropped_reason = headers.get(DROPPED_REASON)
    error.rate_limits = {name: headers[name] for name in headers if name.startswith(_RATE_LIMITS)}
    should_retry = headers.get("x-should-retry")
    if should_retry in ("true", "false"):
        error.is_retryable = should_retry == "true"
    error.is_retryable = error.is_retryable and not is_used_up(error)
