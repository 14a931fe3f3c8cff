"""Counting a response's tokens as a picker does, from what passes through it."""

from __future__ import annotations

import msgspec

from batch_gateway.wire.usage import Usage, parse_usage

__all__ = ["TokenCount"]


class _Wrapped(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw(b"null")


_wrapped = msgspec.json.Decoder(_Wrapped)


class TokenCount:
    """Fed a response piece by piece; `usage` is the last one that it held."""

    def __init__(self, *, events: bool) -> None:
        self.usage: Usage | None = None
        self._events = events
        self._kept = bytearray()

    def feed(self, data: bytes, *, end: bool) -> None:
        self._kept += data
        if not self._events:
            if end:
                self.usage = parse_usage(bytes(self._kept))
            return
        *lines, rest = bytes(self._kept).split(b"\n")
        self._kept = bytearray(rest)
        for line in [*lines, rest] if end else lines:
            self._event(line)

    def _event(self, line: bytes) -> None:
        if not line.startswith(b"data:") or b'"usage"' not in line:
            return
        event = line[5:].strip()
        usage = parse_usage(event)
        if usage is None:
            try:
                inner = _wrapped.decode(event).response
            except (msgspec.DecodeError, RecursionError):
                return
            usage = parse_usage(bytes(inner))
        self.usage = usage or self.usage
