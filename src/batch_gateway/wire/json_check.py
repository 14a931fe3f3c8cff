"""Whether bytes are a JSON object, without building it."""

from __future__ import annotations

import json
from typing import Never

import msgspec

__all__ = ["json_object_problem"]


class _AnyObject(msgspec.Struct):
    """No field: the decoder walks the whole text, checks its syntax and keeps nothing."""


_walk = msgspec.json.Decoder(_AnyObject).decode


def json_object_problem(body: bytes) -> str:
    """Why `body` is not a JSON object in UTF-8, or an empty string when it is one."""
    try:
        _walk(body)
    except msgspec.ValidationError:
        return "is JSON but not an object"
    except (msgspec.DecodeError, RecursionError) as error:
        return "" if _is_object_by_stdlib(body) else f"is not JSON ({error})"
    # The walk checks syntax, not the encoding of strings that it skips.
    return "" if body.isascii() or _is_utf8(body) else "is not UTF-8"


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_object_by_stdlib(body: bytes) -> bool:
    """A second opinion: msgspec refuses `"\\ud800"`, which JSON allows and models do emit when an
    emoji is cut at a token limit."""
    try:
        return isinstance(json.loads(body, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")
