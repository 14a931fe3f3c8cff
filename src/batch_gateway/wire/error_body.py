"""What a gateway's error body says, in whichever form it says it."""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from typing import Any, cast

import msgspec

__all__ = ["MESSAGE_LIMIT", "ErrorDetail", "parse_error_body", "short_text"]

MESSAGE_LIMIT = 300
# Enough of a body to find a sentence in; an HTML page of a megabyte is not read to its end.
_READ_LIMIT = 64 * 1024

_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
# Control characters too: a gateway must not be able to move the cursor of a terminal.
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class ErrorDetail(msgspec.Struct, frozen=True):
    """An error body's content. `message` is one short line and never empty."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None


def parse_error_body(status_code: int, body: bytes) -> ErrorDetail:
    """The detail of an error response: OpenAI-style JSON, other JSON, HTML, text or nothing.

    `error.code` is a string for OpenAI, an integer for llama.cpp and null for many; it comes
    back as text or None.
    """
    fallback = _reason_phrase(status_code)
    if not body.strip():
        return ErrorDetail(f"{fallback} (no body)")
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorDetail(_from_text(body) or fallback)
    return _from_json(decoded, fallback)


def short_text(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """One line of at most `limit` characters, without control characters."""
    line = _BLANKS.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _reason_phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return "unexpected status"


def _from_text(body: bytes) -> str:
    text = body[:_READ_LIMIT].decode("utf-8", "replace")
    if "<" in text and (title := _TITLE.search(text)):
        text = title.group(2)
    if "</" in text:
        text = _TAG.sub(" ", text)
    return short_text(html.unescape(text))


def _from_json(decoded: object, fallback: str) -> ErrorDetail:
    if isinstance(decoded, str):
        return ErrorDetail(short_text(decoded) or fallback)
    if not isinstance(decoded, dict):
        return ErrorDetail(fallback)
    outer = cast("dict[str, Any]", decoded)
    inner = outer.get("error")
    fields = cast("dict[str, Any]", inner) if isinstance(inner, dict) else outer
    message = inner if isinstance(inner, str) else _message(fields)
    return ErrorDetail(
        message=short_text(message) or fallback,
        code=_text(fields.get("code")),
        type=_text(fields.get("type")),
        param=_text(fields.get("param")),
    )


def _message(fields: dict[str, Any]) -> str:
    """OpenAI and old vLLM say `message`, FastAPI `detail`, which may be a list of problems."""
    for name in ("message", "detail", "title", "reason"):
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list | dict) and value:
            return msgspec.json.encode(value).decode()
    return ""


def _text(value: object) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    return short_text(str(value), 100) or None if isinstance(value, str | int) else None
