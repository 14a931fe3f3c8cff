"""Which request headers may be sent, checked before they reach a socket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from batch_gateway.errors import ConfigError
from batch_gateway.wire.ext_proc.names import DESTINATION
from batch_gateway.wire.scheduling_headers import DROPPED_REASON

__all__ = ["check_headers"]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Visible ASCII, space, tab and obs-text (RFC 9110 §5.5); a line break here would let a value
# write headers of its own.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# Framing is the transport's own business; two opinions about it are a request-smuggling hole.
_RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
# A router decides these; sent by a client they would bypass or fake its decisions (llm-d).
_ROUTER_ONLY_PREFIXES = (DESTINATION, DROPPED_REASON)


def check_headers(
    field: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] | None
) -> tuple[tuple[str, str], ...]:
    """The headers as a tuple of pairs.

    Raises ConfigError naming `field` and the header for names that are not tokens, values with
    control characters, and headers that belong to the transport or to a router. Values are not
    quoted in messages: they may be secrets.
    """
    if headers is None:
        return ()
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else _pairs(field, headers))
    for name, value in pairs:
        problem = _problem(name, value)
        if problem:
            raise ConfigError(f"{field}[{name!r}]", problem)
    return pairs


def _pairs(field: str, headers: object) -> Sequence[tuple[str, str]]:
    """What callers without a type checker give instead of a mapping."""
    if isinstance(headers, Sequence) and not isinstance(headers, str | bytes):
        given = cast("Sequence[Any]", headers)
        if all(
            isinstance(pair, tuple | list) and len(cast("list[Any]", pair)) == 2 for pair in given
        ):
            return given
    raise ConfigError(field, "must be a mapping of names to values, or a list of such pairs")


def _problem(name: object, value: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "is not a header name"
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return "its value has a control character or one outside Latin-1"
    if value != value.strip(" \t"):
        return "its value starts or ends with a blank"
    lower = name.lower()
    if lower in _RESERVED:
        return "is set by the transport and cannot be changed"
    if lower.startswith(_ROUTER_ONLY_PREFIXES):
        return "is for routers alone and must not be sent by a client"
    return ""
