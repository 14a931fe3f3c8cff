"""Whether bytes are JSON in UTF-8, their value, and the words for what they are instead."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Never

import msgspec

from batch_gateway.wire.abridged import decode_abridged, without_half_pairs

__all__ = ["BYTE_ORDER_MARK", "LARGE_BODY", "NotJSONError", "decode_text", "is_utf8", "read_json"]

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
LARGE_BODY = 1024 * 1024
"""More bytes than these are worth some care not to hold up others."""

# Python takes no more than some thousand, at a cost that grows with their square.
_MOST_DIGITS = 1000
_FOREIGN = "is not JSON (it holds {}, which JSON has no word for)"
_PLACE = re.compile(r"\(byte ([0-9]+)\)")
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_utf8_decoder = codecs.getincrementaldecoder("utf-8")
# What serializers of Python, JavaScript and C write for values that JSON has no word for.
_FOREIGN_WORD = re.compile(r"[+-]?(?:nan|inf(?:inity)?|None|undefined)\b", re.IGNORECASE)


class NotJSONError(Exception):
    """The text goes on from "whose body"; `is_final` when the same will come again."""

    def __init__(self, problem: str, *, is_final: bool = False) -> None:
        super().__init__(problem)
        self.is_final = is_final


def read_json(body: bytes) -> Any:
    """The value of JSON in UTF-8, abridged where it is large. Raises NotJSONError.

    Unlike msgspec it takes half of a surrogate pair, which JSON allows and models do emit when an
    emoji is cut at a token limit, and numbers that no float or int holds.
    """
    encoding = _foreign_encoding(body)
    if encoding:
        raise NotJSONError(f"is {encoding[:6].upper()}, while JSON is sent as UTF-8", is_final=True)
    if len(body) > LARGE_BODY:
        return _read_large(body)
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise NotJSONError("is not UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        return _read_by_stdlib(body, str(error).removeprefix("JSON is malformed: "))


def is_utf8(body: bytes) -> bool:
    """Whether it is, at a cost in time and memory that lets other threads go on."""
    if body.isascii():
        return True
    decoder = _utf8_decoder()
    try:
        for start in range(0, len(body), LARGE_BODY):
            decoder.decode(body[start : start + LARGE_BODY])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def decode_text(body: bytes) -> str:
    """`body` as text, whichever encoding it is in; what fits none becomes U+FFFD."""
    return body.decode(_foreign_encoding(body) or "utf-8", "replace")


def _foreign_encoding(body: bytes) -> str:
    return next((name for name, signs in _ENCODINGS if signs.match(body)), "")


def _read_large(body: bytes) -> Any:
    if not is_utf8(body):
        raise NotJSONError("is not UTF-8")
    try:
        try:
            return decode_abridged(body)
        except msgspec.DecodeError:
            if not _HALF_PAIR.search(body):
                raise
            return decode_abridged(without_half_pairs(body))
    except (msgspec.DecodeError, RecursionError) as error:
        _refuse(body, str(error))


def _refuse(body: bytes, reason: str) -> Never:
    """What msgspec did not take: a word where it stopped, or broken JSON."""
    reason = reason.removeprefix("JSON is malformed: ")
    place = _PLACE.search(reason)
    start = int(place.group(1)) if place else len(body)
    start -= body[start - 1 : start] == b"-"
    word = _FOREIGN_WORD.match(body[start : start + 20].decode("ascii", "replace"))
    if word is None:
        raise NotJSONError(f"is not JSON ({reason})")
    raise NotJSONError(_FOREIGN.format(word.group()), is_final=True)


def _read_by_stdlib(body: bytes, first_opinion: str) -> Any:
    words: list[str] = []
    text = _utf8_text(body)
    try:
        value = json.loads(text, parse_constant=words.append, parse_int=_whole_number)
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
    raise NotJSONError(_FOREIGN.format(words[0]), is_final=True)


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _utf8_text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise NotJSONError("is not UTF-8") from error
