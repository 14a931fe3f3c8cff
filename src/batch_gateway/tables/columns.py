"""The columns of a table: their names, and the one kind that fits all values of each. Pure."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, cast

import msgspec

__all__ = ["Column", "Kind", "as_json_text", "as_kind", "joint_kind", "kind_of"]

_LARGEST = 2**63


class Kind(StrEnum):
    """What a column holds; in each there may be nothing instead."""

    NOTHING = "nothing"
    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    TRUTH = "true or false"
    VECTOR = "list of numbers"
    VECTORS = "list of lists of numbers"
    TEXTS = "list of texts"
    JSON = "json"


class Column(msgspec.Struct, frozen=True):
    """A column."""

    name: str
    kind: Kind


def kind_of(value: Any) -> Kind:
    """The narrowest kind that has `value`. Dates, decimals and the like are text."""
    if value is None:
        return Kind.NOTHING
    if isinstance(value, bool):
        return Kind.TRUTH
    if isinstance(value, int):
        return Kind.WHOLE if -_LARGEST <= value < _LARGEST else Kind.NUMBER
    if isinstance(value, float):
        return Kind.NUMBER
    return Kind.JSON if isinstance(value, dict | list | tuple) else Kind.TEXT


def joint_kind(one: Kind, other: Kind) -> Kind:
    """The kind that has all values of both; of two that have nothing in common it is JSON."""
    if one == other or other is Kind.NOTHING:
        return one
    if one is Kind.NOTHING:
        return other
    return Kind.NUMBER if {one, other} == {Kind.WHOLE, Kind.NUMBER} else Kind.JSON


def as_kind(value: Any, kind: Kind) -> Any:
    """`value` as a column of `kind` has it: JSON is text there, and so is what Python alone has."""
    if value is None:
        return None
    if kind is Kind.JSON:
        return as_json_text(value)
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else str(value)
    return float(value) if kind is Kind.NUMBER else value


def as_json_text(value: Any) -> str:
    """`value` as JSON on one line; what JSON has no form for is text in it."""
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        # Half a surrogate pair, or numbers beyond 64 bits.
        return json.dumps(cast("object", value), default=str)
