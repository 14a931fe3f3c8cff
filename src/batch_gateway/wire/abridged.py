"""JSON of many megabytes as a small value: what is large in it stands for itself no longer."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["decode_abridged", "without_half_pairs"]

_SMALL = 1024
_TEXT = 64 * 1024
# How far down a part that is large is opened: the answer, its choices, their messages.
_DEEPEST = 3

_decode = msgspec.json.Decoder(float_hook=float).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_ESCAPE = rare_pattern(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
_STAND_IN = rb"\u0058"


def decode_abridged(body: bytes | msgspec.Raw, depth: int = 0) -> Any:
    """The value with its small parts as they are.

    Of a long text the beginning is left, of a long list of numbers or of other lists one entry, of
    what is deep inside a large object nothing. Raises what msgspec raises.
    """
    with memoryview(body) as view:
        size, first = len(view), bytes(view[:_SMALL]).lstrip()[:1]
    if size <= _SMALL:
        return _decode(body)
    if first == b'"':
        return _decode_text(body)[:_TEXT]
    if first == b"{":
        fields = _decode_fields(body)
        return _opened(fields, depth)
    if first != b"[":
        return _decode(body)
    try:
        entries = _decode_entries(body)
    except msgspec.ValidationError:
        return [0]
    return [_opened(entry, depth + 1) for entry in entries]


def _opened(fields: dict[str, msgspec.Raw], depth: int) -> dict[str, Any]:
    if depth >= _DEEPEST:
        return {}
    return {name: decode_abridged(value, depth + 1) for name, value in fields.items()}


def without_half_pairs(body: bytes) -> bytes:
    r"""`body` with another letter for each `\ud800`, which msgspec takes only in whole pairs."""

    def letter(escape: re.Match[bytes]) -> bytes:
        return _STAND_IN if len(escape.group()) == len(_STAND_IN) else escape.group()

    return _ESCAPE.sub(letter, body)
