"""The body of `POST /v1/batches`: what it may say, checked in the order of the original."""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Any, Final, cast

import msgspec

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.lifetimes import expires_after_object, window_seconds
from batch_gateway.server.server_config import ServerConfig

__all__ = ["MOST_BODY_BYTES", "BatchRequest", "parse_batch_request"]

MOST_BODY_BYTES: Final = 1024 * 1024

_FIELDS = frozenset(
    {"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"}
)
_MOST_KEYS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that somebody asks for. `metadata` is JSON."""

    input_file_id: str
    endpoint: str
    completion_window: str
    window_seconds: float
    metadata: str | None
    output_seconds: int | None


def parse_batch_request(body: bytes, config: ServerConfig) -> BatchRequest:
    """Raises ApiError (400) for the first thing that is wrong."""
    given = _object(body)
    for name in given:
        if name not in _FIELDS:
            raise ApiError(400, f'json: unknown field "{name}"')
    input_file_id = _text(given, "input_file_id")
    endpoint = _text(given, "endpoint")
    if endpoint not in config.endpoints:
        raise ApiError(400, f"invalid endpoint: {endpoint}")
    window = _text(given, "completion_window")
    return BatchRequest(
        input_file_id=input_file_id,
        endpoint=endpoint,
        completion_window=window,
        window_seconds=window_seconds(window, cast("float", config.max_completion_window)),
        metadata=_metadata(given.get("metadata")),
        output_seconds=expires_after_object(
            "output_expires_after", given.get("output_expires_after")
        ),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        # Some editors and shells begin a file with a mark that says nothing (RFC 8259 §8.1).
        given = msgspec.json.decode(body.removeprefix(BOM_UTF8))
    except _NOT_JSON as error:
        raise ApiError(400, f"the request body is not valid JSON: {_reason(error)}") from error
    if not isinstance(given, dict):
        raise ApiError(400, "the request body must be a JSON object")
    return cast("dict[str, Any]", given)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error) if isinstance(error, msgspec.DecodeError) else "too deep or too large"


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None or value == "":
        raise ApiError(400, f"{name} is required")
    if not isinstance(value, str):
        raise ApiError(400, f"{name} must be a string")
    return value


def _metadata(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ApiError(400, "metadata must be an object")
    pairs = cast("dict[str, Any]", value)
    if len(pairs) > _MOST_KEYS:
        raise ApiError(400, f"metadata: too many keys (max {_MOST_KEYS}, got {len(pairs)})")
    for key, text in pairs.items():
        if len(key) > _LONGEST_KEY:
            raise ApiError(400, f"metadata: key exceeds {_LONGEST_KEY} characters")
        if not isinstance(text, str):
            raise ApiError(400, f'metadata: value for key "{key}" must be a string')
        if len(text) > _LONGEST_VALUE:
            raise ApiError(
                400, f'metadata: value for key "{key}" exceeds {_LONGEST_VALUE} characters'
            )
    return msgspec.json.encode(pairs).decode()
