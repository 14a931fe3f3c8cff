"""How a chunk of the transfer coding (RFC 9112 §7.1) begins that is all that a read brings."""

from __future__ import annotations

__all__ = ["CHUNK_HEADS", "chunk_head"]

CHUNK_HEADS: dict[int, bytes] = {}
"""Those that `chunk_head` gave: reads of one stream are of few sizes."""

_MOST_HEADS = 4096
_CRLF = b"\r\n"


def chunk_head(size: int) -> bytes:
    """The first line of a chunk that is so long with it; what is longer where none is."""
    for digits in range(1, 9):
        head = b"%x\r\n" % max(0, size - digits - 2 * len(_CRLF))
        if len(head) == digits + len(_CRLF):
            break
    else:
        head = bytes(size + 1)
    if len(CHUNK_HEADS) < _MOST_HEADS:
        CHUNK_HEADS[size] = head
    return head
