"""Whether bytes are JSON in UTF-8, their value, and the words for what they are instead."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

__all__ = ["BYTE_ORDER_MARK", "NotJSONError", "decode_text", "is_utf8", "read_json"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Of UTF-8. RFC 8259, section 8.1: not to be added, and may be ignored."""

# The marks of other encodings, and how ASCII begins in them without one (RFC 4627, section 3).
_ENCODINGS = (
    ("utf-32", re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff")),
    ("utf-32-le", re.compile(rb"[^\0]\0\0\0")),
    ("utf-32-be", re.compile(rb"\0\0\0[^\0]")),
    ("utf-16", re.compile(rb"\xff\xfe|\xfe\xff")),
    ("utf-16-le", re.compile(rb"[^\0]\0")),
    ("utf-16-be", re.compile(rb"\0[^\0]")),
)
# What serializers of Python, JavaScript and C write for values that JSON has no word for.
_FOREIGN_WORD = re.compile(r"[+-]?(?:nan|inf(?:inity)?|None|undefined)\b", re.IGNORECASE)


class NotJSONError(Exception):
    """The text goes on from "whose body"; `is_final` when the same will come again."""

    def __init__(self, problem: str, *, is_final: bool = False) -> None:
        super().__init__(problem)
        self.is_final = is_final


def read_json(body: bytes) -> Any:
    """The value of JSON in UTF-8. Raises NotJSONError.

    Unlike msgspec it takes half of a surrogate pair, which JSON allows and models do emit when an
    emoji is cut at a token limit, and numbers that no float or int holds.
    """
    encoding = _foreign_encoding(body)
    if encoding:
        raise NotJSONError(f"is {encoding[:6].upper()}, while JSON is sent as UTF-8", is_final=True)
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise NotJSONError("is not UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        return _read_by_stdlib(body, str(error).removeprefix("JSON is malformed: "))


def is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_text(body: bytes) -> str:
    """`body` as text, whichever encoding it is in; what fits none becomes U+FFFD."""
    return body.decode(_foreign_encoding(body) or "utf-8", "replace")


def _foreign_encoding(body: bytes) -> str:
    return next((name for name, signs in _ENCODINGS if signs.match(body)), "")


def _read_by_stdlib(body: bytes, first_opinion: str) -> Any:
    words: list[str] = []
    text = _utf8_text(body)
    try:
        value = json.loads(text, parse_constant=words.append, parse_int=float)
    except json.JSONDecodeError as error:
        word = _FOREIGN_WORD.match(text, error.pos)
        if word is None:
            raise NotJSONError(f"is not JSON ({first_opinion})") from error
        words.append(word.group())
    except RecursionError as error:
        raise NotJSONError("is not JSON (nested too deeply)") from error
    else:
        if not words:
            return value
    raise NotJSONError(
        f"is not JSON (it holds {words[0]}, which JSON has no word for)", is_final=True
    )


def _utf8_text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise NotJSONError("is not UTF-8") from error
