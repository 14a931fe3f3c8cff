"""A whole answer that came in one piece, as nearly all do, or the head of a streamed one: read
without the parser's events. Pure.

The answers of a server share the lines of their heads, or most of them, so that each line is
looked at once. What is taken here is narrower than HTTP: nothing that two readers could understand
in two ways. Everything else is left to `http.response_reader`, which says the same of such answers.
"""

from __future__ import annotations

import re
from functools import lru_cache

from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.wire.headers import Headers

__all__ = ["usual_response", "usual_stream"]

_START = b"HTTP/1.1 200 OK\r\n"
# However short its lines are, there are fewer of them than a reader takes.
_MOST_HEAD_BYTES = 3 * 1024
# Of many servers, and a second's dates and lengths.
_LINES_KNOWN = 512

# What the lines of a head mean is added up: beside its length, more than all those of a head
# can come to, so that two of them are not one; that it comes in chunks, more than any length; and
# for what is not known here, less than nothing.
_STATES_LENGTH = 1 << 50
_CHUNKED = 1 << 60
_UNUSUAL = -(1 << 70)

_is_field = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?(?! )[ -~\x80-\xff]*(?<! )").fullmatch
_length = re.compile(rb"content-length: ?([0-9]{1,12})", re.IGNORECASE).fullmatch
# These say how a body is framed or encoded, or what becomes of the connection.
_FRAMING = (
    b"content-length:",
    b"content-encoding:",
    b"transfer-encoding:",
    b"connection:",
    b"proxy-connection:",
    b"upgrade:",
)
_KEPT = frozenset({b"connection: keep-alive", b"connection:keep-alive"})
_IN_CHUNKS = frozenset({b"transfer-encoding: chunked", b"transfer-encoding:chunked"})


def usual_response(data: bytes, most: int) -> HTTPResponse | None:
    """The answer that `data` is: a 200, with a body of a stated length, of at most `most` bytes,
    behind which the connection may carry another. None for anything else.
    """
    lines, body, meaning = _parted(data)
    if meaning != _STATES_LENGTH + len(body) or len(body) > most:
        return None
    return HTTPResponse(200, Headers.of_lines(lines), body)


def usual_stream(data: bytes) -> tuple[Headers, bytes] | None:
    """The head that `data` begins with, and what is behind it: that of a 200 in chunks, behind
    which the connection may carry another answer. None for anything else.
    """
    lines, rest, meaning = _parted(data)
    return (Headers.of_lines(lines), rest) if meaning == _CHUNKED else None


def _parted(data: bytes) -> tuple[bytes, bytes, int]:
    """The lines of the head of a 200, what is behind it, and what they mean."""
    end = data.find(b"\r\n\r\n")
    if not (data.startswith(_START) and len(_START) < end <= _MOST_HEAD_BYTES):
        return b"", b"", _UNUSUAL
    lines = data[len(_START) : end]
    return lines, data[end + 4 :], sum(map(_meaning, lines.split(b"\r\n")))


@lru_cache(_LINES_KNOWN)
def _meaning(line: bytes) -> int:
    name = line.lower()
    if not name.startswith(_FRAMING):
        return 0 if _is_field(line) else _UNUSUAL
    if name in _KEPT:
        return 0
    if name in _IN_CHUNKS:
        return _CHUNKED
    found = _length(line)
    return _UNUSUAL if found is None else _STATES_LENGTH + int(found[1])
