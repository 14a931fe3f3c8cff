"""An error that a server reports inside a stream whose status was 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from batch_gateway.errors import InferenceError, is_retryable_status
from batch_gateway.http.response_errors import class_for
from batch_gateway.wire.chunks import encode_json
from batch_gateway.wire.error_body import parse_error_body
from batch_gateway.wire.error_forms import WORDS, hints_at_error, says_error
from batch_gateway.wire.refusal_words import is_used_up

__all__ = ["error_of_event", "reported_error"]

_FAILED = b'{"error":{"message":"the response failed","code":"server_error"}}'


def reported_error(value: object, data: bytes, event: str) -> bytes | None:
    """What an event reports as an error, as JSON or text; None when it reports none.

    `value` is the JSON of its `data`. Besides the forms of bodies, an error may be all of an
    event called `error`, or the response of `response.failed`.
    """
    if event == "error":
        return data
    if isinstance(value, list):
        entries = cast("list[object]", value)
        return data if any(reported_error(one, data, "") for one in entries) else None
    if not isinstance(value, dict):
        return None
    fields = cast("Mapping[str, Any]", value)
    if (fields.get("type") or event) == "response.failed":
        return _of_response(fields.get("response"))
    if says_error(fields):
        return data
    is_chunk = "choices" in fields or "type" in fields or "object" in fields
    return None if is_chunk or not _hints_at_error(fields) else data


def error_of_event(said: bytes, *, midway: bool) -> InferenceError:
    """The exception for an error event, in the category of the status or code that it names.

    Before anything was generated it is worth what a refusal of that status is. After that the
    request was good enough to begin with, so that it may succeed the next time, unless the error
    is about what was asked for.
    """
    detail = parse_error_body(500, said)
    status = detail.status or 500
    retryable = midway or is_retryable_status(status)
    message = f"the gateway broke off its answer: {detail.message}"
    error = class_for(status, detail.code, message, said)(
        message,
        is_retryable=retryable and not detail.is_final,
        status_code=(detail.number if midway else detail.status) or 200,
        body=said,
        code=detail.code or detail.type or "stream_error",
        retry_after=detail.retry_after,
    )
    error.is_retryable = error.is_retryable and not is_used_up(error)
    return error


def _of_response(response: Any) -> bytes:
    fields = cast("dict[str, Any]", response) if isinstance(response, dict) else {}
    error = fields.get("error")
    return encode_json({"error": error}) if error else _FAILED


def _hints_at_error(fields: Mapping[str, Any]) -> bool:
    return hints_at_error(fields) or any(isinstance(fields.get(one), str) for one in WORDS)
