"""What the API says when it refuses: the one table of statuses and types, and the envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

__all__ = ["ApiError", "error_body", "error_response", "json_response"]

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "api_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """A request that is refused with `status` and a sentence for whoever sent it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def error_body(status: int, message: str) -> bytes:
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    error = {"code": None, "type": kind, "message": message, "param": None}
    return msgspec.json.encode({"error": error})


def error_response(error: ApiError) -> Response:
    body = error_body(error.status, error.message)
    return Response(body, error.status, error.headers, "application/json")


def json_response(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
