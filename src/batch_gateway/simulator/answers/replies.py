"""An HTTP answer as a value, OpenAI's error bodies, and llm-d's refusals."""

from __future__ import annotations

import http
from typing import NamedTuple

import msgspec

from batch_gateway.wire.scheduling_headers import DROPPED_REASON

__all__ = [
    "JSON",
    "LLMD_REFUSALS",
    "PLAIN",
    "HeaderPairs",
    "Reply",
    "RequestError",
    "encode_head",
    "json_reply",
    "openai_error",
    "openai_refusal",
]

HeaderPairs = tuple[tuple[str, str], ...]

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"


class Reply(NamedTuple):
    """A status, headers besides Content-Length and Content-Type, and a whole body."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: HeaderPairs = ()


class RequestError(Exception):
    """The request cannot be answered; `reply` says why, in OpenAI's shape."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body.decode("utf-8", "replace"))
        self.reply = reply


_TYPE_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def openai_error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: HeaderPairs = (),
) -> Reply:
    """An error in the shape that OpenAI documents."""
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    kind = _TYPE_BY_STATUS.get(status, fallback)
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status, msgspec.json.encode({"error": error}), JSON, headers)


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))


def _refusal(status: int, code: str, message: str, reason: str | None = None) -> Reply:
    headers = () if reason is None else ((DROPPED_REASON, reason),)
    body = f"inference error: {code} - {message}".encode()
    return Reply(status, body, PLAIN, headers)


_EXHAUSTED = "ResourceExhausted"
_UNAVAILABLE = "ServiceUnavailable"

LLMD_REFUSALS = {
    "saturated": _refusal(429, _EXHAUSTED, "request queue is full", "rejected-saturated"),
    "ttl-expired": _refusal(
        429, _EXHAUSTED, "request TTL expired in the queue", "rejected-ttl-expired"
    ),
    "no-endpoints": _refusal(
        503,
        _UNAVAILABLE,
        "failed to find endpoint candidates for serving the request",
        "rejected-no-endpoints",
    ),
    "shutting-down": _refusal(
        503, _UNAVAILABLE, "flow controller is shutting down", "rejected-shutting-down"
    ),
    "evicted": _refusal(429, _EXHAUSTED, "request evicted in flight", "evicted"),
    "shed": _refusal(429, _EXHAUSTED, "system saturated, sheddable request dropped"),
    "admission-refused": _refusal(500, "Internal", "request cannot be admitted"),
    "parse-error": _refusal(400, "BadRequest", "error parsing the request body"),
}
"""llm-d-router v0.10.0's refusals: status, dropped reason (or none), plain-text body."""

_LLMD_TYPES = {400: "invalid_request_error", 429: "rate_limit_error"}


def openai_refusal(refusal: Reply) -> Reply:
    """A refusal of llm-d's as its routers after v0.10 have it: OpenAI's envelope, in JSON."""
    message = refusal.body.decode().partition(" - ")[2] or refusal.body.decode()
    kind = _LLMD_TYPES.get(refusal.status, "server_error")
    error = {"message": message, "type": kind, "code": refusal.status}
    headers = (*refusal.headers, ("content-type", JSON))
    return refusal._replace(body=msgspec.json.encode({"error": error}), headers=headers)


_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


def encode_head(reply: Reply, length: int | None, *, close: bool, request_id: str = "") -> bytes:
    """The status line and headers. `length` None leaves the framing to `reply.headers`."""
    lines = [
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}\r\n"
        f"content-type: {reply.content_type}\r\n"
    ]
    if request_id:
        lines.append(f"x-request-id: {request_id}\r\n")
    lines.extend(f"{name}: {value}\r\n" for name, value in reply.headers)
    if length is not None:
        lines.append(f"content-length: {length}\r\n")
    lines.append("connection: close\r\n\r\n" if close else "\r\n")
    return "".join(lines).encode("latin-1")
