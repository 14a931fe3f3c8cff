"""An error that a server reports inside a stream whose status was 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from batch_gateway.errors import InferenceError, error_class_for_status, is_retryable_status
from batch_gateway.wire.chunks import encode_json
from batch_gateway.wire.error_body import ErrorDetail, parse_error_body

__all__ = ["error_of_event", "reported_error"]

# What codes and types say where they are words. In this order, because an "invalid_request_error"
# may be about a rate limit's parameters but not the other way round.
_STATUS_OF_WORDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (429, ("rate_limit", "ratelimit", "too_many_requests", "quota", "resource_exhausted")),
    (503, ("overloaded", "unavailable")),
    (504, ("timeout", "timed_out")),
    (401, ("authentication", "invalid_api_key", "unauthorized")),
    (403, ("permission", "forbidden")),
    (400, ("invalid_request", "badrequest", "bad_request", "context_length", "context_size")),
)


def reported_error(value: Mapping[str, Any], event: str) -> Mapping[str, Any] | None:
    """The error object of an event that reports one, else None.

    Known forms: `{"error": {...}}` (OpenAI, vLLM, llama.cpp), the error's fields themselves under
    an `error` event or with `"object": "error"` (older vLLM) or `"type": "error"` (responses),
    and `response.failed`, whose response holds the error.
    """
    if value.get("error"):
        return value
    if event == "error" or value.get("object") == "error" or value.get("type") == "error":
        return value
    if value.get("type") == "response.failed":
        response = value.get("response")
        inner = (
            cast("dict[str, Any]", response).get("error") if isinstance(response, dict) else None
        )
        return {"error": inner or {"message": "the response failed", "code": "server_error"}}
    return None


def error_of_event(error: Mapping[str, Any], *, midway: bool) -> InferenceError:
    """The exception for an error event, in the category of the status or code that it names.

    Before anything was generated it is worth what a refusal of that status is. After that the
    request was good enough to begin with, so that it may succeed the next time, whatever is said.
    """
    body = encode_json(error)
    detail = parse_error_body(500, body)
    said = _own_status(error, detail)
    status = said or _status_of_words(detail) or 500
    return error_class_for_status(status)(
        f"the gateway broke off its answer: {detail.message}",
        is_retryable=midway or is_retryable_status(status),
        status_code=said or 200,
        body=body,
        code=detail.code or detail.type or "stream_error",
    )


def _own_status(error: Mapping[str, Any], detail: ErrorDetail) -> int | None:
    inner = error.get("error")
    fields = cast("dict[str, Any]", inner) if isinstance(inner, dict) else error
    for value in (detail.code, fields.get("status_code"), fields.get("status")):
        text = str(value)
        if text.isascii() and text.isdigit() and 400 <= int(text[:4]) <= 599:
            return int(text[:4])
    return None


def _status_of_words(detail: ErrorDetail) -> int | None:
    words = f"{detail.code} {detail.type}".lower()
    for status, signs in _STATUS_OF_WORDS:
        if any(sign in words for sign in signs):
            return status
    return None
