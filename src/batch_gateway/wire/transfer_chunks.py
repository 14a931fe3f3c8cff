"""Chunks of the transfer coding (RFC 9112 §7.1) that come whole: without a parser. Pure."""

from __future__ import annotations

import re

__all__ = ["LAST_CHUNK", "chunk_head", "chunks_in", "is_event_chunk", "whole_chunks"]

_HEADS: dict[int, bytes] = {}
"""Those that `chunk_head` gave: reads of one stream are of few sizes."""

LAST_CHUNK = b"0\r\n\r\n"
"""What ends a body, where no trailers do."""

_MOST_HEADS = 4096
# Of many chunks the parser makes less work.
_MOST_BYTES = 2048
# Of the first line of a chunk among those.
_LONGEST_LINE = len(b"7f0\r\n")
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


class _Lines(dict[bytes, tuple[int, int]]):
    """By what a chunk begins with: how long its first line is, and how much is in it; 0 and 0 where
    that line is longer, or not written as nearly all are.
    """

    def __missing__(self, start: bytes) -> tuple[int, int]:
        line, end, _ = start.partition(_CRLF)
        is_usual = end and _is_size(line)
        found = (len(line) + len(_CRLF), int(line, 16)) if is_usual else (0, 0)
        if len(self) < _MOST_HEADS:
            self[start] = found
        return found


_lines = _Lines()


def whole_chunks(data: bytes) -> tuple[bytes, bool] | None:
    """What is in the chunks that `data`, where one begins, consists of, and whether that ends the
    body. None where they are many, the last is not whole, or one not written as nearly all are.
    """
    length = len(data)
    head = _HEADS.get(length) or chunk_head(length)
    if length > len(LAST_CHUNK) and data.startswith(head) and data.endswith(_CRLF):
        return data[len(head) : -len(_CRLF)], False
    found = chunks_in(data)
    return None if found is None else (b"".join(found[0]), found[1])


def chunks_in(data: bytes) -> tuple[list[bytes], bool] | None:
    """The same, by chunk, and also None for a large one."""
    size, at = len(data), 0
    found: list[bytes] = []
    while at < size <= _MOST_BYTES:
        line, length = _lines[data[at : at + _LONGEST_LINE]]
        start = at + line
        end = start + length
        if not line or not data.startswith(_CRLF, end):
            return None
        at = end + len(_CRLF)
        if not length:
            return (found, True) if at == size else None
        found.append(data[start:end])
    return (found, False) if found else None
