"""What a gateway's error body says, in whichever form it says it."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

import msgspec

from batch_gateway.wire.chunks import decode_json
from batch_gateway.wire.error_object import Found, find_in_json
from batch_gateway.wire.error_status import is_final_word, status_of_words
from batch_gateway.wire.markup import element_texts, has_markup, plain_text
from batch_gateway.wire.rare_pattern import rare_pattern
from batch_gateway.wire.retry_after import wait_in_words
from batch_gateway.wire.short_text import MESSAGE_LIMIT, short_text

__all__ = ["MESSAGE_LIMIT", "ErrorDetail", "detail_of", "parse_error_body", "short_text"]

# Enough of a body to find a sentence in; neither JSON nor a page is read to the end of a gigabyte.
_READ_LIMIT = 256 * 1024
_TEXT_LIMIT = 64 * 1024

_LINE_END = rare_pattern(r"\r\n|\r|\n")
_EVENT_FIELD = rare_pattern(r"(data|event|id|retry|error):|:", re.IGNORECASE)
# Of JSON that is cut short, or else not quite JSON; only its closing quote may be missing.
_FIELD = rare_pattern(r'"([A-Za-z_]{2,32})"\s*:\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)|(-?[0-9]{1,15}))')
_BROKEN_ESCAPE = rare_pattern(r"\\(?:u[0-9a-fA-F]{0,3})?$")
# llm-d's way to say it without JSON.
_ROUTER_TEXT = rare_pattern(r"inference error: ([A-Za-z]{3,40}) - ")
_ELEMENTS = frozenset({"code", "message", "faultcode", "faultstring", "title", "h1"})
_MAY_BE_ASKED_TO_WAIT = (429, 503)


class ErrorDetail(msgspec.Struct, frozen=True):
    """An error body's content.

    Attributes:
        message: one short line, never empty.
        status: the HTTP status that the error itself names, as a number or in words; None when
            it names none. It need not be that of the response.
        number: the same, where it is given as a number.
        retry_after: seconds that it asks to wait, or None.
        is_final: the request was refused for what it is (its content, its model, its size), so
            that sending it again is of no use whenever in an answer this is said.
    """

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    number: int | None = None
    retry_after: float | None = None
    is_final: bool = False


def parse_error_body(status_code: int, body: bytes) -> ErrorDetail:
    """The detail of an error of this status.

    The body may be JSON of whichever form (OpenAI's, Google's, FastAPI's, problem details, lists,
    JSON within JSON), also cut short or in UTF-16, a server-sent event, XML, HTML, text or nothing.
    `error.code` is a string for OpenAI, an integer for llama.cpp and null for many; it comes
    back as text or None.
    """
    fallback = _reason_phrase(status_code)
    text = _decoded(body[:_READ_LIMIT])
    if not text:
        return ErrorDetail(f"{fallback} (no body)")
    return detail_of(_find(text), status_code, fallback)


def detail_of(found: Found, status_code: int, fallback: str) -> ErrorDetail:
    """What was found in an error of this status; `fallback` is its message where it says none."""
    words = [found.code, found.type, *found.words]
    status = found.number or status_of_words(word for word in words if word)
    wait = found.retry_after
    if wait is None and (status or status_code) in _MAY_BE_ASKED_TO_WAIT:
        wait = wait_in_words(found.message)
    return ErrorDetail(
        message=short_text(found.message) or fallback,
        code=found.code,
        type=found.type,
        param=found.param,
        status=status,
        number=found.number,
        retry_after=wait,
        is_final=any(is_final_word(word) for word in words if word),
    )


def _reason_phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return "unexpected status"


def _decoded(body: bytes) -> str:
    """As text, without the mark that some put before it. JSON without one may be UTF-16, too."""
    encoding = json.detect_encoding(body)
    return body.decode(encoding, "replace").lstrip("\ufeff").strip()


def _find(text: str) -> Found:
    for form in (_whole_json, _events, _first_json_line, _broken_json):
        found = form(text)
        if found is not None:
            return found
    return _text(text[:_TEXT_LIMIT])


def _whole_json(text: str) -> Found | None:
    try:
        value: Any = decode_json(text.encode("utf-8", "replace"))
    except ValueError:
        return None
    return find_in_json(value)


def _events(text: str) -> Found | None:
    """A stream's beginning: the first event with any words, also an `error:` field (llama.cpp)."""
    if not _EVENT_FIELD.match(text):
        return None
    data: list[str] = []
    for line in (*_LINE_END.split(text), ""):
        name, _, value = line.partition(":")
        if name in ("data", "error"):
            data.append(value.removeprefix(" "))
        elif not line and data:
            said = "\n".join(data)
            data = []
            found = _whole_json(said) or _broken_json(said) or Found(message=said.strip())
            if found.message and found.message != "[DONE]":
                return found
    return None


def _first_json_line(text: str) -> Found | None:
    first, more, _ = text.partition("\n")
    return _whole_json(first) if more and first[:1] in ("{", "[") else None


def _broken_json(text: str) -> Found | None:
    """What stands in JSON that no parser takes, found by the fields' names."""
    if text[:1] not in ("{", "["):
        return None
    fields: dict[str, Any] = {}
    for field in _FIELD.finditer(text):
        name, words, number = field.groups()
        if name not in fields and (words or number):
            fields[name] = _unescaped(words) if words else int(number)
    found = find_in_json(fields, depth=1)
    return found if found.message else None


def _unescaped(words: str) -> str:
    words = _BROKEN_ESCAPE.sub("", words)
    try:
        value = json.loads(f'"{words}"', strict=False)
    except ValueError:
        return words
    return value


def _text(text: str) -> Found:
    if not has_markup(text):
        named = _ROUTER_TEXT.match(text)
        return Found(message=text, words=(named.group(1),) if named else ())
    said = element_texts(text, _ELEMENTS)
    names = ("message", "faultstring", "title", "h1")
    message = next((said[name] for name in names if name in said), "") or plain_text(text)
    code = said.get("code") or said.get("faultcode")
    return find_in_json({"message": message, "code": code}, depth=1)
