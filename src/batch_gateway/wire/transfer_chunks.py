"""Chunks of the transfer coding (RFC 9112 §7.1) that come whole: without a parser. Pure."""

from __future__ import annotations

import re

__all__ = ["LAST_CHUNK", "chunk_head", "is_event_chunk", "whole_chunks"]

_HEADS: dict[int, bytes] = {}
"""Those that `chunk_head` gave: reads of one stream are of few sizes."""

LAST_CHUNK = b"0\r\n\r\n"
"""What ends a body, where no trailers do."""

_MOST_HEADS = 4096
# Of many chunks the parser makes less work.
_MOST_BYTES = 2048
_CRLF = b"\r\n"
_EVENT = b"data:"
_is_size = re.compile(rb"0|[1-9a-f][0-9a-f]{0,7}").fullmatch


def chunk_head(size: int) -> bytes:
    """The first line of a chunk that is so long with it; what is longer where none is."""
    for digits in range(1, 9):
        head = b"%x\r\n" % max(0, size - digits - 2 * len(_CRLF))
        if len(head) == digits + len(_CRLF):
            break
    else:
        head = bytes(size + 1)
    if len(_HEADS) < _MOST_HEADS:
        _HEADS[size] = head
    return head


def is_event_chunk(data: bytes, body: bytes) -> bool:
    """Whether these bytes are one chunk with an event in it, where a parser found that body.

    An event does not begin as a chunk does, so that the body that was found in the bytes is where
    it stands here; and what is behind it, which was none of the body, is the end of the chunk.
    """
    return body.startswith(_EVENT) and data == b"%x\r\n%b\r\n" % (len(body), body)


class _Sizes(dict[bytes, int]):
    """By the first line of a chunk; less than 0 for one that is not as nearly all are."""

    def __missing__(self, line: bytes) -> int:
        if not _is_size(line):
            return -1
        size = int(line, 16)
        if len(self) < _MOST_HEADS:
            self[line] = size
        return size


_size_of = _Sizes().__getitem__


def whole_chunks(data: bytes) -> tuple[bytes, bool] | None:
    """What is in the chunks that `data`, where one begins, consists of, and whether that ends the
    body. None where they are many, the last is not whole, or one not written as nearly all are.

    A line break inside of one of several is not looked for: the parser says what is in those.
    """
    length = len(data)
    head = _HEADS.get(length) or chunk_head(length)
    if length > len(LAST_CHUNK) and data.startswith(head) and data.endswith(_CRLF):
        return data[len(head) : -len(_CRLF)], False
    if length > _MOST_BYTES:
        return None
    parts = data.split(_CRLF)
    lines, bodies = parts[:-1:2], parts[1::2]
    is_framed = len(parts) & 1 and list(map(_size_of, lines)) == list(map(len, bodies))
    if parts[-1] or not bodies or not is_framed:
        return None
    is_last = not bodies[-1]
    if is_last:
        bodies.pop()
    return (b"".join(bodies), is_last) if all(bodies) else None
