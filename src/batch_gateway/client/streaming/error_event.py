"""An error that a server reports inside a stream whose status was 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from batch_gateway.errors import InferenceError, error_class_for_status, is_retryable_status
from batch_gateway.wire.chunks import encode_json
from batch_gateway.wire.error_body import parse_error_body

__all__ = ["error_of_event", "reported_error"]


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
    status = detail.status or 500
    retryable = midway or is_retryable_status(status)
    return error_class_for_status(status)(
        f"the gateway broke off its answer: {detail.message}",
        is_retryable=retryable and not detail.is_final,
        status_code=detail.number or 200,
        body=body,
        code=detail.code or detail.type or "stream_error",
        retry_after=detail.retry_after,
    )
